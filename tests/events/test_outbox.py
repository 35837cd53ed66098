"""Subscribers hear of what was committed, at least once, and of nothing else."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from stonechat import clock
from stonechat.db.session import Database
from stonechat.events import DISPATCH, Dispatcher, Event, record
from stonechat.events.models import EventRow
from support.jobs import running, until
from support.postgres import TestDatabase


async def happen(database: Database, tenant_id: UUID, kind: str = "document.ready", **payload: object) -> str:
    async with database.tenant(tenant_id) as session:
        return await record(session, tenant_id, kind, payload)


async def dispatched(database: Database, tenant_id: UUID, event_id: str) -> bool:
    async with database.tenant(tenant_id) as session:
        row = await session.get(EventRow, (tenant_id, event_id))
        return row is not None and row.dispatched_at is not None


async def test_a_committed_event_reaches_its_subscribers_through_the_worker(
    database: Database, test_database: TestDatabase, tenant_id: UUID
) -> None:
    heard: list[Event] = []

    async def listen(event: Event) -> None:
        if event.tenant_id == tenant_id:
            heard.append(event)

    dispatcher = Dispatcher(database, {"document.ready": [listen]})
    event_id = await happen(database, tenant_id, document_id="doc_1")
    async with running(test_database.web_url, dispatcher.job_handlers()):
        await until(lambda: dispatched(database, tenant_id, event_id))
    assert [(event.event_id, event.kind, event.payload) for event in heard] == [
        (event_id, "document.ready", {"document_id": "doc_1"})
    ]


async def test_an_event_of_a_failed_transaction_never_happened(database: Database, tenant_id: UUID) -> None:
    happened: list[str] = []

    async def fail() -> None:
        async with database.tenant(tenant_id) as session:
            happened.append(await record(session, tenant_id, "document.ready", {}))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.tenant(tenant_id) as session:
        assert await session.get(EventRow, (tenant_id, happened[0])) is None


async def test_dispatching_twice_tells_once(database: Database, tenant_id: UUID) -> None:
    heard: list[str] = []

    async def listen(event: Event) -> None:
        heard.append(event.event_id)

    dispatcher = Dispatcher(database, {"document.ready": [listen]})
    event_id = await happen(database, tenant_id)
    for _ in range(2):
        await dispatcher.dispatch(tenant_id, {"event_id": event_id})
    assert heard == [event_id]


async def test_a_subscriber_that_fails_is_told_again(database: Database, tenant_id: UUID) -> None:
    heard: list[str] = []

    async def listen(event: Event) -> None:
        heard.append(event.event_id)
        if len(heard) == 1:
            raise ConnectionResetError

    dispatcher = Dispatcher(database, {"document.ready": [listen]})
    event_id = await happen(database, tenant_id)
    with pytest.raises(ConnectionResetError):
        await dispatcher.dispatch(tenant_id, {"event_id": event_id})
    assert not await dispatched(database, tenant_id, event_id)
    await dispatcher.dispatch(tenant_id, {"event_id": event_id})
    assert heard == [event_id, event_id]
    assert await dispatched(database, tenant_id, event_id)


async def test_events_nobody_subscribed_to_are_done_with(database: Database, tenant_id: UUID) -> None:
    event_id = await happen(database, tenant_id, "nobody.cares")
    await Dispatcher(database, {}).job_handlers()[DISPATCH](tenant_id, {"event_id": event_id})
    assert await dispatched(database, tenant_id, event_id)


async def test_old_events_go_and_untold_ones_stay(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = Dispatcher(database, {})
    told, untold = await happen(database, tenant_id), await happen(database, tenant_id)
    await dispatcher.dispatch(tenant_id, {"event_id": told})
    later = clock.now() + timedelta(days=31)
    monkeypatch.setattr(clock, "now", lambda: later)
    new = await happen(database, tenant_id)
    await dispatcher.dispatch(tenant_id, {"event_id": new})
    async with database.tenant(tenant_id) as session:
        left = [event_id for event_id in (told, untold, new) if await session.get(EventRow, (tenant_id, event_id))]
    assert left == [untold, new]

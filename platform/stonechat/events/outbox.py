"""Recording events, and telling those who subscribed.

An event is recorded in the transaction of what it tells of, with the job that will dispatch it. A subscriber is told at
least once, and in no particular order: it must be idempotent, and asks the database what is true now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.db.session import Database
from stonechat.events.models import EventRow
from stonechat.jobs import Handler, enqueue

DISPATCH = "events.dispatch"
"""The kind of job that tells the subscribers; its handler is `Dispatcher.dispatch`."""
KEPT_FOR = timedelta(days=30)
_PURGED_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Event:
    """What happened in a tenant, such as `document.ready`."""

    tenant_id: UUID
    event_id: str
    kind: str
    payload: Mapping[str, Any]
    occurred_at: datetime


Subscriber = Callable[[Event], Awaitable[None]]


async def record(session: AsyncSession, tenant_id: UUID, kind: str, payload: Mapping[str, Any]) -> str:
    """Note that something happened, if the session's transaction commits. Returns the event's id."""
    event_id = ids.new_id("evt")
    session.add(
        EventRow(tenant_id=tenant_id, event_id=event_id, kind=kind, payload=dict(payload), occurred_at=clock.now())
    )
    await session.flush()
    await enqueue(session, tenant_id, DISPATCH, {"event_id": event_id})
    return event_id


class Dispatcher:
    """Tells each event to the subscribers of its kind."""

    def __init__(self, database: Database, subscribers: Mapping[str, Sequence[Subscriber]]) -> None:
        self._database = database
        self._subscribers = {kind: tuple(those) for kind, those in subscribers.items()}

    def job_handlers(self) -> dict[str, Handler]:
        """For the worker to register."""
        return {DISPATCH: self.dispatch}

    async def dispatch(self, tenant_id: UUID, payload: dict[str, Any]) -> None:
        """Tell of one event, `{"event_id"}`. If a subscriber fails, the job is tried again, and all are told again."""
        async with self._database.tenant(tenant_id) as session:
            row = await session.get(EventRow, (tenant_id, payload["event_id"]))
        if row is None or row.dispatched_at is not None:
            return
        event = Event(tenant_id, row.event_id, row.kind, row.payload, row.occurred_at)
        for subscriber in self._subscribers.get(event.kind, ()):
            await subscriber(event)
        async with self._database.tenant(tenant_id) as session:
            told = (EventRow.tenant_id == tenant_id) & (EventRow.event_id == event.event_id)
            await session.execute(update(EventRow).where(told).values(dispatched_at=clock.now()))
            await _purge(session, tenant_id)


async def _purge(session: AsyncSession, tenant_id: UUID) -> None:
    """A few old events go with each new one. Ids sort by time, so the oldest are at hand."""
    oldest = (
        select(EventRow.event_id)
        .where(EventRow.tenant_id == tenant_id)
        .order_by(EventRow.event_id)
        .limit(_PURGED_AT_ONCE)
    )
    over = EventRow.dispatched_at < clock.now() - KEPT_FOR
    await session.execute(delete(EventRow).where(EventRow.tenant_id == tenant_id, EventRow.event_id.in_(oldest), over))

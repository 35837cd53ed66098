"""Traces of turns that end while others go on are written together, each to its own tenant, and none is lost by a fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat.chat import journal, trace_log
from stonechat.chat.runs import Run
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.chat import Chat, caller_of, create
from support.responders import Gate, speak

MakeTenant = Callable[..., Awaitable[UUID]]


@pytest.fixture
async def other(chat: Chat, anna: Caller) -> AsyncIterator[Gate]:
    """Another turn of Anna's that goes on until its gate is opened."""
    gate, scripts = Gate(), chat.responder.script
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["So ", "long"], pause=gate)
    run = await chat.server.start(create(), anna)
    while not chat.responder.histories:
        await asyncio.sleep(0)
    chat.responder.script = scripts
    yield gate
    gate.let(2)
    await over(run)


async def over(run: Run) -> Run:
    assert run.task is not None
    await asyncio.wait([run.task])
    return run


async def traced(database: Database, tenant_id: UUID) -> list[Any]:
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            text("select run_id, user_id, outcome, cost_micros from turn_traces where tenant_id = :t"), {"t": tenant_id}
        )
        return list(rows)


@pytest.mark.usefixtures("other")
async def test_they_are_written_together_each_to_its_own_tenant(
    chat: Chat, database: Database, anna: Caller, make_tenant: MakeTenant, make_agent: Any, monkeypatch: Any
) -> None:
    batches: list[int] = []
    record = journal.record_traces

    async def counted(database: Database, traces: Sequence[Any]) -> None:
        batches.append(len(traces))
        await record(database, traces)

    monkeypatch.setattr(journal, "record_traces", counted)
    tenant_id = await make_tenant()
    boris = caller_of(tenant_id, "usr_boris", agent_id=await make_agent(tenant_id))
    runs = [await chat.server.start(create(), caller) for caller in (anna, boris, anna)]
    for run in runs:
        await over(run)
    await chat.hub.traces.written()
    assert sum(batches) == 3
    assert len(batches) < 3
    assert sorted(row.run_id for row in await traced(database, anna.tenant_id)) == sorted(
        run.key.run_id for run in (runs[0], runs[2])
    )
    [his] = await traced(database, tenant_id)
    assert (his.run_id, his.user_id, his.outcome) == (runs[1].key.run_id, "usr_boris", "done")


@pytest.mark.usefixtures("other")
async def test_a_database_that_fails_for_a_moment_loses_none(
    chat: Chat, database: Database, anna: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, failures = journal.record_traces, iter([OSError("gone"), OSError("gone")])

    async def failing(database: Database, traces: Sequence[Any]) -> None:
        if (error := next(failures, None)) is not None:
            raise error
        await record(database, traces)

    monkeypatch.setattr(journal, "record_traces", failing)
    monkeypatch.setattr(trace_log, "WAIT_SECONDS", 0.001)
    run = await over(await chat.server.start(create(), anna))
    await chat.hub.traces.written()
    assert [row.run_id for row in await traced(database, anna.tenant_id)] == [run.key.run_id]


@pytest.mark.usefixtures("other")
async def test_what_cannot_be_written_at_all_is_given_up_and_holds_up_nothing(
    chat: Chat, database: Database, anna: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(*_: object) -> None:
        raise OSError("gone")

    with monkeypatch.context() as broken:
        broken.setattr(journal, "record_traces", failing)
        broken.setattr(trace_log, "WAIT_SECONDS", 0.001)
        await over(await chat.server.start(create(), anna))
        await chat.hub.traces.written()
    assert "could not be written" in caplog.text
    run = await over(await chat.server.start(create(), anna))
    await chat.hub.traces.written()
    assert [row.run_id for row in await traced(database, anna.tenant_id)] == [run.key.run_id]


@pytest.mark.usefixtures("other")
async def test_a_conversation_that_is_deleted_meanwhile_leaves_none_and_harms_no_other(
    chat: Chat, database: Database, anna: Caller
) -> None:
    gone, stays = [await over(await chat.server.start(create(), anna)) for _ in range(2)]
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(
            text("delete from threads where tenant_id = :t and thread_id = :id"),
            {"t": anna.tenant_id, "id": gone.key.thread_id},
        )
    await chat.hub.traces.written()
    assert [row.run_id for row in await traced(database, anna.tenant_id)] == [stays.key.run_id]


async def test_when_too_many_wait_a_turn_writes_its_own(
    chat: Chat, database: Database, anna: Caller, other: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_log, "MAX_WAITING", 0)
    run = await over(await chat.server.start(create(), anna))
    assert [row.run_id for row in await traced(database, anna.tenant_id)] == [run.key.run_id]
    other.let(2)


@pytest.mark.usefixtures("other")
async def test_a_process_that_stops_writes_what_waits(chat: Chat, database: Database, anna: Caller) -> None:
    run = await over(await chat.server.start(create(), anna))
    await chat.hub.close()
    assert run.key.run_id in [row.run_id for row in await traced(database, anna.tenant_id)]

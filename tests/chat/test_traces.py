"""Each turn leaves a trace, however it ends, written with what it tells of; and traces go when they should."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from chatkit.types import ThreadMetadata, ThreadStreamEvent
from sqlalchemy import select, text, update

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.assistant.trace import TurnTrace
from stonechat.assistant.trace_store import TraceView, TurnTraceRow, find_trace, list_traces, purge_traces
from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.models import RunRow
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import close_crashed_run
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.identity.caller import Caller
from support.chat import Chat, add, create
from support.postgres import TestDatabase
from support.responders import Gate, Scripted, speak


class Steps(Scripted):
    """Records steps as an agent does, then answers."""

    def __init__(self) -> None:
        super().__init__()
        self.error: Exception | None = None
        self.blocks = False

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        use = turn.usage.of("openai", "gpt-4o-mini")
        use.input_tokens, use.output_tokens = 1_000_000, 1_000_000
        with turn.trace.span("agent", "Robin"):
            with turn.trace.span("retrieval", "search_knowledge", query="coats \x00") as span:
                span.data["passages"] = [{"title": "Returns", "score": 0.5}]
            if self.blocks:
                turn.trace.note("guardrail", "blocked_topic", action="blocked")
            if self.error is not None:
                raise self.error
            async for event in self.script(turn.thread, turn.generate_item_id):
                yield event


@pytest.fixture
async def steps(database: Database) -> AsyncIterator[Chat]:
    responder = Steps()
    hub = RunHub(database)
    yield Chat(ChatServer(hub, responder), responder)
    await hub.close()


async def over(run: Run) -> Run:
    assert run.task is not None
    await asyncio.wait([run.task])
    return run


async def trace_of(database: Database, run: Run) -> TraceView:
    key = run.key
    async with database.tenant(key.tenant_id) as session:
        found = await find_trace(session, system(key.tenant_id), thread_id=key.thread_id, run_id=key.run_id)
    assert found is not None
    return found


async def test_an_answer_leaves_its_steps_its_use_and_its_times(steps: Chat, database: Database, anna: Caller) -> None:
    run = await over(await steps.server.start(create(), anna))
    trace = await trace_of(database, run)
    assert (trace.run_id, trace.thread_id) == (run.key.run_id, run.key.thread_id)
    assert (trace.agent_id, trace.agent_version) == (anna.agent_id, 1)
    assert (trace.outcome, trace.error_code) == ("done", None)
    assert (trace.provider, trace.model) == ("openai", "gpt-4o-mini")
    assert (trace.input_tokens, trace.output_tokens, trace.cached_tokens) == (1_000_000, 1_000_000, 0)
    assert trace.cost_micros is not None
    assert trace.cost_micros > 100_000
    assert trace.first_token_ms is not None
    assert trace.first_token_ms <= trace.total_ms
    assert [(span.kind, span.name) for span in trace.spans] == [("agent", "Robin"), ("retrieval", "search_knowledge")]
    assert trace.spans[1].data == {"query": "coats ", "passages": [{"title": "Returns", "score": 0.5}]}


async def test_a_model_without_a_price_leaves_no_cost(chat: Chat, database: Database, anna: Caller) -> None:
    trace = await trace_of(database, await over(await chat.server.start(create(), anna)))
    assert (trace.model, trace.cost_micros) == ("scripted", None)


async def test_nothing_that_was_said_is_in_a_trace(chat: Chat, database: Database, anna: Caller) -> None:
    run = await over(await chat.server.start(create("a very private question"), anna))
    stored = (await trace_of(database, run)).model_dump_json()
    assert "private" not in stored
    assert "world" not in stored


@pytest.mark.parametrize(
    ("error", "code"),
    [(UpstreamFailed("It hung up.", reason="x"), "upstream_failed"), (RuntimeError("a secret"), "internal")],
)
async def test_a_failed_turn_says_of_what(
    steps: Chat, database: Database, anna: Caller, error: Exception, code: str
) -> None:
    assert isinstance(steps.responder, Steps)
    steps.responder.error = error
    trace = await trace_of(database, await over(await steps.server.start(create(), anna)))
    assert (trace.outcome, trace.error_code) == ("failed", code)
    assert trace.first_token_ms is None
    assert trace.spans[0].error == type(error).__name__
    assert "secret" not in trace.model_dump_json()


async def test_a_turn_that_a_guardrail_answered_is_blocked(steps: Chat, database: Database, anna: Caller) -> None:
    assert isinstance(steps.responder, Steps)
    steps.responder.blocks = True
    assert (await trace_of(database, await over(await steps.server.start(create(), anna)))).outcome == "blocked"


async def test_a_cancelled_turn_leaves_a_trace(chat: Chat, database: Database, anna: Caller) -> None:
    gate = Gate(free=1)

    def script(thread: ThreadMetadata, new_id: Any) -> AsyncIterator[ThreadStreamEvent]:
        return speak(thread, new_id("message"), ["One", "two"], pause=gate)

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    await run.wait(5)
    run.stop("cancelled")
    trace = await trace_of(database, await over(run))
    assert (trace.outcome, trace.error_code) == ("cancelled", None)
    assert trace.first_token_ms is not None
    assert trace.input_tokens == 3


async def test_a_turn_that_cannot_begin_leaves_a_trace(
    chat: Chat, database: Database, test_database: TestDatabase, anna: Caller
) -> None:
    connection = await asyncpg.connect(test_database.admin_url)
    await connection.execute(
        """update agent_versions set config = '{"name": 7}' where tenant_id = $1""", anna.tenant_id
    )
    await connection.close()
    with pytest.raises(Exception):  # noqa: B017, PT011  what it says is not what is tested
        await chat.server.start(create(), anna)
    async with database.tenant(anna.tenant_id) as session:
        page = await list_traces(session, system(anna.tenant_id), limit=10)
    assert [trace.outcome for trace in page.data] == ["failed"]


async def test_a_crashed_turn_is_given_a_trace_by_the_sweeper(chat: Chat, database: Database, anna: Caller) -> None:
    gate = Gate(free=2)

    def script(thread: ThreadMetadata, new_id: Any) -> AsyncIterator[ThreadStreamEvent]:
        return speak(thread, new_id("message"), ["One", "two", "three"], pause=gate)

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    await run.wait(5)
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(
            update(RunRow)
            .where(RunRow.tenant_id == anna.tenant_id)
            .values(lease_expires_at=clock.now() - timedelta(seconds=9))
        )
    assert await close_crashed_run(database, anna.tenant_id, run_id=run.key.run_id)
    gate.let(9)
    await over(run)  # finds that it has been closed, and writes no second trace
    async with database.tenant(anna.tenant_id) as session:
        page = await list_traces(session, system(anna.tenant_id), limit=10)
    [trace] = page.data
    assert (trace.outcome, trace.error_code, trace.spans) == ("crashed", "crashed", [])
    assert (trace.agent_id, trace.agent_version) == (anna.agent_id, 1)


async def test_turns_are_listed_newest_first_by_agent_outcome_and_slowness(
    chat: Chat, database: Database, anna: Caller
) -> None:
    first = await over(await chat.server.start(create(), anna))
    runs = [first, *[await over(await chat.server.start(add(first.key.thread_id), anna)) for _ in range(2)]]
    newest = [run.key.run_id for run in reversed(runs)]
    actor = system(anna.tenant_id)
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(
            update(TurnTraceRow)
            .where(TurnTraceRow.tenant_id == anna.tenant_id, TurnTraceRow.run_id == newest[1])
            .values(total_ms=60_000, outcome="failed")
        )

        async def listed(**options: Any) -> list[str]:
            page = await list_traces(session, actor, limit=10, **options)
            return [trace.run_id for trace in page.data]

        assert await listed() == newest
        assert await listed(agent_id=anna.agent_id) == newest
        assert await listed(agent_id="agt_other") == await listed(agent_id="\x00") == []
        assert await listed(outcome="failed") == await listed(slow=True) == [newest[1]]
        seen: list[str] = []
        cursor = None
        for _ in range(3):
            page = await list_traces(session, actor, limit=1, cursor=cursor)
            seen += [trace.run_id for trace in page.data]
            cursor = page.next_cursor
        assert (seen, cursor) == (newest, None)


async def _left(test_database: TestDatabase, tenant_id: UUID) -> int:
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        count: int = await connection.fetchval("select count(*) from turn_traces where tenant_id = $1", tenant_id)
        return count
    finally:
        await connection.close()


async def test_traces_go_after_their_days_and_whole_months_at_once(
    chat: Chat, database: Database, test_database: TestDatabase, anna: Caller
) -> None:
    run = await over(await chat.server.start(create(), anna))
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        await connection.execute(
            "create table if not exists turn_traces_201901 partition of turn_traces "
            "for values from ('2019-01-01') to ('2019-02-01')"
        )
        await connection.execute(
            """insert into turn_traces (tenant_id, started_at, run_id, thread_id, user_id, outcome, total_ms)
               select tenant_id, moment, 'run_' || row_number() over (), thread_id, user_id, 'done', 1
               from turn_traces, (values (timestamptz '2019-01-05'), (now() - interval '31 days'),
                                         (now() - interval '29 days')) as old (moment)
               where tenant_id = $1""",
            anna.tenant_id,
        )
        assert await purge_traces(database, days=30) >= 1
        assert await connection.fetchval("select to_regclass('turn_traces_201901')") is None
    finally:
        await connection.close()
    assert await _left(test_database, anna.tenant_id) == 2
    assert (await trace_of(database, run)).outcome == "done"


async def test_a_trace_goes_with_its_conversation(
    chat: Chat, database: Database, test_database: TestDatabase, anna: Caller
) -> None:
    await over(await chat.server.start(create(), anna))
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(text("delete from threads where tenant_id = :t"), {"t": anna.tenant_id})
    assert await _left(test_database, anna.tenant_id) == 0


async def test_whoever_exports_is_told_of_every_turn_that_was_stored(database: Database, anna: Caller) -> None:
    told: list[TurnTrace] = []
    hub = RunHub(database, on_trace=told.append)
    server = ChatServer(hub, Scripted())
    run = await over(await server.start(create(), anna))
    await hub.close()
    [trace] = told
    assert (trace.run_id, trace.outcome) == (run.key.run_id, "done")
    assert json.loads(trace.columns_json())["outcome"] == "done"


async def test_what_a_turn_leaves_to_be_done_is_done_after_it_and_harms_nobody(
    chat: Chat, database: Database, anna: Caller
) -> None:
    done: list[str] = []

    async def look() -> None:
        async with database.tenant(anna.tenant_id) as session:
            done.extend(await session.scalars(select(RunRow.status).where(RunRow.tenant_id == anna.tenant_id)))

    async def fail() -> None:
        raise RuntimeError("of no matter")

    run = await chat.server.start(create(), anna)
    run.afterwards += [fail, look]
    await over(run)
    await chat.hub.afterwards_done()
    assert done == ["done"]

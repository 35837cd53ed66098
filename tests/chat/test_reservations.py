"""Budgets in the chat: reserved before a model is asked, settled after, released whatever happens in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from chatkit.types import (
    AssistantMessageItem,
    ThreadRetryAfterItemParams,
    ThreadsRetryAfterItemReq,
    ThreadStreamEvent,
    UserMessageItem,
)
from sqlalchemy import text

from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.resume import tail
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import close_crashed_run, sweep_crashed_runs
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.usage.quota import REFUSAL, Budget
from support.budgets import (
    budget_of,
    entries_by_run,
    expire_leases,
    ledger_child,
    ledger_total,
    publish_model,
    set_budget,
)
from support.chat import Chat, add, caller_of, create, decode, spoken
from support.ledger_child import STEPS, TOKENS_IN, TOKENS_OUT
from support.postgres import TestDatabase
from support.responders import Gate, Scripted, speak


async def heard(run: Run) -> str:
    return spoken(decode(b"".join([chunk async for chunk in tail(run)])))


async def asked(server: ChatServer, visitor: Caller) -> str:
    return await heard(await server.start(create(), visitor))


async def ended(run: Run) -> None:
    assert run.task is not None
    await asyncio.wait([run.task])


class Spending(Scripted):
    """Uses so many tokens an answer."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.asked = 0
        self.most = 0
        self.now = 0

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        self.asked += 1
        self.now += 1
        self.most = max(self.most, self.now)
        use = turn.usage.of("openai", "gpt-4.1-mini")
        use.input_tokens = self.tokens
        async for event in speak(turn.thread, turn.generate_item_id("message"), ["Yes."]):
            yield event
        await asyncio.sleep(0.01)
        self.now -= 1


@pytest.mark.parametrize("budget", [Budget(max_tokens=1000), Budget(max_cost_micros=400)], ids=["tokens", "cost"])
async def test_a_crowd_passes_the_budget_by_no_more_than_the_calls_in_flight(
    database: Database, anna: Caller, budget: Budget
) -> None:
    await set_budget(database, anna.tenant_id, budget)
    spending = Spending(60)
    server = ChatServer(RunHub(database), spending)
    answers: list[str] = []
    for _wave in range(3):
        visitors = [caller_of(anna.tenant_id, f"usr_{number}", agent_id=anna.agent_id) for number in range(100)]
        answers += await asyncio.gather(*(asked(server, visitor) for visitor in visitors))
    await server.hub.close()
    state = await budget_of(database, anna.tenant_id)
    assert set(answers) == {"Yes.", REFUSAL}
    assert answers.count("Yes.") == spending.asked >= 3
    assert state.refused == 300 - spending.asked
    assert state.used_tokens == 60 * spending.asked == await ledger_total(database, anna.tenant_id)
    if budget.max_tokens:
        assert state.used_tokens < 1000 + 60 * spending.most
    else:
        assert state.used_cost_micros == 24 * spending.asked < 400 + 24 * spending.most
    assert (state.reserved_tokens, state.reserved_cost_micros) == (0, 0)


@pytest.fixture
async def used_up(database: Database, chat: Chat, anna: Caller) -> Run:
    """A conversation whose first answer took the whole budget."""
    await set_budget(database, anna.tenant_id, Budget(max_tokens=8, message="Call us: 555-0100."))
    run = await chat.server.start(create(), anna)
    assert await heard(run) == "Hello, world"
    return run


async def test_the_refusal_is_an_ordinary_answer_and_no_model_is_asked(
    database: Database, chat: Chat, anna: Caller, used_up: Run
) -> None:
    refused = await chat.server.start(add(used_up.thread.id, "Are you there?"), anna)
    assert await heard(refused) == "Call us: 555-0100."
    await ended(refused)
    assert len(chat.responder.histories) == 1, "the model was asked once"
    items = (await chat.server.store.load_thread_items(used_up.thread.id, None, 50, "asc", anna)).data
    said = [item.content[0].text for item in items if isinstance(item, UserMessageItem | AssistantMessageItem)]
    assert said == ["Hello?", "Hello, world", "Are you there?", "Call us: 555-0100."]
    async with database.tenant(anna.tenant_id) as session:
        runs = await session.execute(text("select status, refused from runs order by started_at"))
        assert runs.all() == [("done", None), ("done", "tokens")]
    state = await budget_of(database, anna.tenant_id)
    assert (state.used_tokens, state.reserved_tokens, state.refused, state.reached) == (8, 0, 1, True)
    assert len(await entries_by_run(database, anna.tenant_id)) == 2


async def test_asking_for_another_answer_keeps_the_one_there_is(chat: Chat, anna: Caller, used_up: Run) -> None:
    items = (await chat.server.store.load_thread_items(used_up.thread.id, None, 50, "asc", anna)).data
    params = ThreadRetryAfterItemParams(thread_id=used_up.thread.id, item_id=items[0].id)
    again = await chat.server.start(ThreadsRetryAfterItemReq(params=params), anna)
    assert await heard(again) == "Call us: 555-0100."
    await ended(again)
    after = (await chat.server.store.load_thread_items(used_up.thread.id, None, 50, "asc", anna)).data
    assert [item.id for item in after[:-1]] == [item.id for item in items]


async def test_a_new_month_begins_anew(database: Database, chat: Chat, anna: Caller, used_up: Run) -> None:
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(text("update usage_budgets set month = month - interval '1 month'"))
    assert await heard(await chat.server.start(add(used_up.thread.id), anna)) == "Hello, world"


async def test_models_that_cost_nothing_are_never_refused(
    database: Database, chat: Chat, anna: Caller, used_up: Run
) -> None:
    await publish_model(database, anna.tenant_id, agent_id=anna.agent_id, model="extractive")
    assert await heard(await chat.server.start(add(used_up.thread.id), anna)) == "Hello, world"


async def test_without_a_budget_nothing_is_reserved(database: Database, chat: Chat, anna: Caller) -> None:
    gate = Gate()
    chat.responder.script = lambda thread, _new: speak(thread, "msg_1", ["one"], pause=gate)
    run = await chat.server.start(create(), anna)
    assert (await budget_of(database, anna.tenant_id)).reserved_tokens == 0
    gate.let(1)
    await ended(run)
    state = await budget_of(database, anna.tenant_id)
    assert (state.max_tokens, state.used_tokens) == (None, 8), "what was used is known nevertheless"


async def test_a_reservation_lasts_as_long_as_its_run(database: Database, chat: Chat, anna: Caller) -> None:
    await set_budget(database, anna.tenant_id, Budget(max_tokens=1_000_000, max_cost_micros=1_000_000))
    gate = Gate()
    chat.responder.script = lambda thread, _new: speak(thread, "msg_1", ["one"], pause=gate)
    run = await chat.server.start(create(), anna)
    during = await budget_of(database, anna.tenant_id)
    # An answer of 1,000 tokens and eight passages, at ten dollars a million before any price is known.
    assert 4_000 < during.reserved_tokens < 6_000
    assert during.reserved_cost_micros == 10 * during.reserved_tokens
    run.stop("cancelled")
    await ended(run)
    after = await budget_of(database, anna.tenant_id)
    assert (after.reserved_tokens, after.reserved_cost_micros, after.used_tokens) == (0, 0, 8)


async def test_what_a_deleted_conversation_used_stays_counted(database: Database, chat: Chat, anna: Caller) -> None:
    await set_budget(database, anna.tenant_id, Budget(max_tokens=1_000_000))
    gate = Gate()
    chat.responder.script = lambda thread, _new: speak(thread, "msg_1", ["one"], pause=gate)
    run = await chat.server.start(create(), anna)
    await asyncio.sleep(0)
    await chat.server.store.delete_thread(run.thread.id, anna)
    gate.let(1)
    await ended(run)
    state = await budget_of(database, anna.tenant_id)
    assert (state.used_tokens, state.reserved_tokens) == (8, 0)
    assert await ledger_total(database, anna.tenant_id) == 8


async def somebody_waits_to_finish(admin_url: str) -> None:
    connection = await asyncpg.connect(admin_url)
    waits = (
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%chat_finish%' "
        "and datname = current_database()"
    )
    while not await connection.fetchval(waits):
        await asyncio.sleep(0.02)
    await connection.close()


async def test_a_kill_at_any_step_loses_and_doubles_nothing(
    database: Database, test_database: TestDatabase, anna: Caller
) -> None:
    tenant_id = anna.tenant_id
    await publish_model(database, tenant_id, agent_id=anna.agent_id, model="openai/gpt-4.1-mini")
    await set_budget(database, tenant_id, Budget(max_tokens=1_000_000))
    runs: dict[str, str] = {}
    async with ledger_child(test_database.web_url, tenant_id, agent_id=anna.agent_id, mode="steps") as child:
        assert child.stdout is not None
        assert child.stdin is not None
        async with asyncio.timeout(30):
            while len(runs) < len(STEPS):
                step, run_id = (await child.stdout.readline()).decode().split()
                runs[step] = run_id
            assert (await budget_of(database, tenant_id)).reserved_tokens > 0
            async with database.tenant(tenant_id) as session:
                # Whoever settles waits here: the kill comes in the middle of it.
                await session.execute(text("select 1 from usage_budgets for update"))
                child.stdin.write(b"go\n")
                await child.stdin.drain()
                await somebody_waits_to_finish(test_database.admin_url)
                child.kill()
                await child.wait()
                # Its own transaction goes on in the database, and holds the run: whoever sweeps now leaves it alone.
                await session.execute(
                    text("update runs set lease_expires_at = now() - interval '1 second' where run_id <> :settling"),
                    {"settling": runs["settling"]},
                )
        for _ in range(100):
            async with database.tenant(tenant_id) as session:
                settled = await session.scalar(
                    text("select status from runs where run_id = :run"), {"run": runs["settling"]}
                )
            if settled == "done":
                break
            await asyncio.sleep(0.02)
    for run_id in runs.values():
        await close_crashed_run(database, tenant_id, run_id=run_id)
    await expire_leases(database, tenant_id)
    await sweep_crashed_runs(database)

    entries = await entries_by_run(database, tenant_id)
    assert {step: len(entries[run_id]) for step, run_id in runs.items()} == dict.fromkeys(STEPS, 1)
    told = {step: entries[run_id][0] for step, run_id in runs.items()}
    assert told["settled"] == told["settling"] == (TOKENS_IN, TOKENS_OUT, False)
    assert told["streaming"] == (TOKENS_IN, 5, True), "eighteen characters were streamed"
    assert told["asked"] == (TOKENS_IN, 0, True)
    assert told["claimed"][1:] == (0, True)
    assert 0 < told["claimed"][0] < 20, "the question and the instructions, by estimate"
    assert told["answered"][2]
    state = await budget_of(database, tenant_id)
    assert (state.reserved_tokens, state.reserved_cost_micros) == (0, 0)
    assert state.used_tokens == await ledger_total(database, tenant_id)


async def test_a_run_that_is_closed_twice_is_counted_once(database: Database, chat: Chat, anna: Caller) -> None:
    gate = Gate()
    chat.responder.script = lambda thread, _new: speak(thread, "msg_1", ["one"], pause=gate)
    run = await chat.server.start(create(), anna)
    await expire_leases(database, anna.tenant_id)
    closed = await asyncio.gather(
        *(close_crashed_run(database, anna.tenant_id, run_id=run.key.run_id) for _ in range(4))
    )
    assert closed.count(True) == 1
    gate.let(1)
    await ended(run)
    assert [len(entries) for entries in (await entries_by_run(database, anna.tenant_id)).values()] == [1]


async def test_a_budget_of_another_tenant_is_none_of_ours(
    database: Database, chat: Chat, anna: Caller, used_up: Run, make_tenant: object, make_agent: object
) -> None:
    other: UUID = await make_tenant()  # type: ignore[operator]
    ben = caller_of(other, agent_id=await make_agent(other))  # type: ignore[operator]
    assert await heard(await chat.server.start(create(), ben)) == "Hello, world"

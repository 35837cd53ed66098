"""A conversation that is deleted while it is answered: what its run used is counted once, whether its process lives or died."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from chatkit.types import ThreadStreamEvent
from sqlalchemy import text

from stonechat.assistant.turn import Turn
from stonechat.chat.hub import RunHub
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import settle_left_runs
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.usage.ledger import hash_user
from stonechat.usage.quota import Budget
from support.budgets import budget_of, ledger_total, set_budget
from support.chat import create
from support.crash import die
from support.responders import Gate, Scripted, speak

ASKED = 60


class Asked(Scripted):
    """Has used `ASKED` tokens when it begins to speak."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        turn.usage.of("openai", "gpt-4.1-mini").input_tokens = ASKED
        words = ["one ", "two ", "three ", "four ", "five"]
        async for event in speak(turn.thread, turn.generate_item_id("message"), words, pause=self.gate):
            yield event


async def answering(database: Database, caller: Caller) -> tuple[RunHub, Run, Gate]:
    """A run that a checkpoint has told of."""
    await set_budget(database, caller.tenant_id, Budget(max_tokens=10_000))
    hub, gate = RunHub(database), Gate(free=3)
    run = await ChatServer(hub, Asked(gate)).start(create(), caller)
    while run.stored < 6:
        await asyncio.sleep(0.01)
    return hub, run, gate


async def delete(database: Database, run: Run) -> None:
    """As another process does: this one is told nothing."""
    ours = {"tenant": run.key.tenant_id, "thread": run.key.thread_id}
    async with database.tenant(run.key.tenant_id, user_id=run.key.user_id) as session:
        await session.execute(text("delete from threads where tenant_id = :tenant and thread_id = :thread"), ours)


async def left(database: Database, tenant_id: UUID, *, minutes: int = 0) -> int:
    """How many runs wait to be settled; so many minutes pass."""
    async with database.tenant(tenant_id) as session:
        older = "update runs_left set deleted_at = deleted_at - make_interval(mins => :minutes)"
        await session.execute(text(older), {"minutes": minutes})
        return await session.scalar(text("select count(*) from runs_left")) or 0


async def test_what_a_dead_run_used_is_counted_though_its_conversation_is_gone(
    database: Database, anna: Caller
) -> None:
    hub, run, _ = await answering(database, anna)
    await die(hub, run)
    await delete(database, run)  # while its lease holds: nobody knows yet that it is dead
    assert await left(database, anna.tenant_id) == 1
    await settle_left_runs(database)
    assert await left(database, anna.tenant_id, minutes=2) == 1, "its process may live"
    await settle_left_runs(database)
    await settle_left_runs(database)
    assert await left(database, anna.tenant_id) == 0
    async with database.tenant(anna.tenant_id) as session:
        rows = await session.execute(text("select user_hash, input_tokens, output_tokens, estimated from usage_ledger"))
        ((user_hash, tokens_in, tokens_out, estimated),) = rows.all()
    assert (bytes(user_hash), tokens_in, estimated) == (hash_user(anna.tenant_id, anna.user_id), ASKED, True)
    assert 0 < tokens_out <= len(run.frames), "what it said is estimated"
    state = await budget_of(database, anna.tenant_id)
    assert (state.used_tokens, state.reserved_tokens) == (tokens_in + tokens_out, 0)


async def test_what_a_living_run_used_is_counted_once(database: Database, anna: Caller) -> None:
    hub, run, gate = await answering(database, anna)
    await delete(database, run)
    gate.let(10)
    while not run.finished:
        await run.wait(len(run.frames))
    await hub.close()
    told = await ledger_total(database, anna.tenant_id)
    assert told >= ASKED
    assert await left(database, anna.tenant_id, minutes=2) == 1
    await settle_left_runs(database)
    assert await left(database, anna.tenant_id) == 0
    assert await ledger_total(database, anna.tenant_id) == told


async def test_with_the_whole_tenant_nothing_is_left(database: Database, anna: Caller) -> None:
    hub, run, _ = await answering(database, anna)
    await die(hub, run)
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(text("delete from tenants where tenant_id = :tenant"), {"tenant": anna.tenant_id})
    assert await left(database, anna.tenant_id) == 0

"""One checkpoint of many runs: each is written for its own tenant and visitor, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from stonechat import clock, ids
from stonechat.chat import journal
from stonechat.chat.journal import Batch, RunKey
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import close_crashed_run
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.chat import Chat, create, decode, spoken, thread, user_message
from support.crash import expire
from support.responders import speak

MakeAgent = Callable[[UUID], Awaitable[str]]


async def started(database: Database, tenant_id: UUID, agent_id: str, *, user_id: str) -> RunKey:
    """A run that holds a new thread."""
    new = thread()
    key = RunKey(tenant_id, user_id, new.id, ids.new_id("run"))
    begun = await journal.begin(
        database,
        key,
        agent_id=agent_id,
        draft=False,
        new_thread=new,
        item=user_message(new.id, "Hello?"),
        process_id="proc_test",
        resumable=True,
        history=5,
    )
    assert isinstance(begun, journal.Begun)
    return key


async def written(database: Database, key: RunKey) -> list[tuple[int, int, bytes]]:
    async with database.tenant(key.tenant_id, user_id=key.user_id) as session:
        rows = await session.execute(
            text("select first_seq, last_seq, payload from run_events where run_id = :run order by first_seq"),
            {"run": key.run_id},
        )
        return [(row.first_seq, row.last_seq, row.payload) for row in rows]


async def lease(database: Database, key: RunKey) -> datetime:
    async with database.tenant(key.tenant_id) as session:
        found = await session.scalar(text("select lease_expires_at from runs where run_id = :run"), {"run": key.run_id})
    assert isinstance(found, datetime)
    return found


async def test_runs_of_two_tenants_are_written_each_for_its_own(
    database: Database, make_tenant: Callable[[], Awaitable[UUID]], make_agent: MakeAgent
) -> None:
    one, other = await make_tenant(), await make_tenant()
    agents = {one: await make_agent(one), other: await make_agent(other)}
    keys = [
        await started(database, tenant_id, agents[tenant_id], user_id=user_id)
        for tenant_id in (one, other)
        for user_id in ("usr_1", "usr_2")
    ]
    batches = [Batch(key, 1, number + 2, f"frames {number}".encode()) for number, key in enumerate(keys)]
    stranger = Batch(keys[0]._replace(tenant_id=other), 1, 9, b"of another tenant")
    impostor = Batch(keys[3]._replace(user_id="usr_1"), 3, 9, b"of another visitor")
    answer = await journal.checkpoint(database, [*batches[::2], stranger, *batches[1::2]])
    assert answer == {keys[0].run_id: "lost"}, "the other tenant has no such run"
    for number, key in enumerate(keys):
        assert await written(database, key) == [(1, number + 2, f"frames {number}".encode())]
    assert await journal.checkpoint(database, [impostor]) == {keys[3].run_id: "lost"}
    assert len(await written(database, keys[3])) == 1


async def test_only_those_that_need_it_are_told(database: Database, tenant_id: UUID, make_agent: MakeAgent) -> None:
    agent_id = await make_agent(tenant_id)
    keys = [await started(database, tenant_id, agent_id, user_id="usr_1") for _ in range(4)]
    going, cancelled, ended, silent = keys
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("update runs set cancel_requested = true where run_id = :run"), {"run": cancelled.run_id}
        )
    assert await journal.finish(database, ended, status="done")
    batches = [Batch(key, 1, 2, b"frames") for key in (going, cancelled, ended)] + [Batch(silent, 1, 0, None)]
    assert await journal.checkpoint(database, batches) == {cancelled.run_id: "cancel", ended.run_id: "lost"}
    assert [len(await written(database, key)) for key in keys] == [1, 1, 0, 0]


async def test_a_lease_is_renewed_once_a_second_has_passed(
    database: Database, tenant_id: UUID, make_agent: MakeAgent
) -> None:
    key = await started(database, tenant_id, await make_agent(tenant_id), user_id="usr_1")
    first = await lease(database, key)
    await journal.checkpoint(database, [Batch(key, 1, 1, b"a")])
    assert await lease(database, key) == first, "an index is spared"
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("update runs set lease_expires_at = lease_expires_at - interval '2 seconds' where run_id = :run"),
            {"run": key.run_id},
        )
    await journal.checkpoint(database, [Batch(key, 2, 2, b"b")])
    assert await lease(database, key) >= first
    assert await lease(database, key) > clock.now()


@asynccontextmanager
async def waiting_to_be_stored(chat: Chat, caller: Caller) -> AsyncIterator[Run]:
    """A run whose answer is complete and that waits for its turn to be stored, as where thousands end at once."""
    chat.responder.script = lambda thread, _new: speak(thread, "msg_late", ["All ", "of ", "it."])
    size = chat.hub.database.hot.size
    for _ in range(size):
        await chat.hub._ending.acquire()
    run = await chat.server.start(create(), caller, resumable=True)
    while not run.finishing:
        await asyncio.sleep(0.01)
    yield run
    for _ in range(size):
        chat.hub._ending.release()


async def require_renewed(database: Database, run: Run) -> None:
    """That the lease of a run is renewed once it has expired, so that no sweeper closes it."""
    await expire(database, run.key.tenant_id)
    run.renewed_at -= 2
    async with asyncio.timeout(10):
        while await lease(database, run.key) <= clock.now():
            await asyncio.sleep(0.01)
    assert not await close_crashed_run(database, run.key.tenant_id, run_id=run.key.run_id)


async def test_a_run_that_waits_to_be_stored_at_its_end_is_not_taken_for_dead(
    chat: Chat, anna: Caller, database: Database
) -> None:
    async with waiting_to_be_stored(chat, anna) as run:
        await require_renewed(database, run)
    while not run.finished:
        await run.wait(len(run.frames))
    events = decode(run.frames.after(0))
    assert spoken(events) == "All of it."
    assert not [event for event in events if event["type"] == "error"]


async def test_an_answer_that_is_stored_while_its_process_stops_is_not_taken_for_dead(
    chat: Chat, anna: Caller, database: Database
) -> None:
    async with waiting_to_be_stored(chat, anna) as run:
        closing = asyncio.create_task(chat.hub.close())
        while not chat.hub._closing:
            await asyncio.sleep(0)
        await require_renewed(database, run)
    await closing
    assert run.finished
    assert spoken(decode(run.frames.after(0))) == "All of it."

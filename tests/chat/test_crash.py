"""A process that dies leaves a thread that can be used, with the text that it streamed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from chatkit.types import AssistantMessageItem
from sqlalchemy import text

from stonechat import clock
from stonechat.chat.hub import RunHub
from stonechat.chat.resume import resume, tail
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import close_crashed_run, sweep_crashed_runs
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.chat import Chat, add, create, decode, spoken
from support.crash import die, expire
from support.responders import Gate, Scripted, speak


@pytest.fixture
async def crashed(chat: Chat, anna: Caller, database: Database) -> tuple[Run, str]:
    """A run that died after a checkpoint and some more words, and the text that a client had read by then."""
    gate = Gate(free=4)
    words = ["one ", "two ", "three ", "four ", "five"]
    dying = ChatServer(RunHub(database), Scripted(lambda thread, _new: speak(thread, "msg_half", words, pause=gate)))
    run = await dying.start(create(), anna, resumable=True)
    with run.listen() as client:
        while run.stored < 9:
            await asyncio.sleep(0.02)
        heard = spoken(decode(client.take()))
    await die(dying.hub, run)
    return run, heard


async def stored(chat: Chat, run: Run, caller: Caller) -> list[str]:
    items = (await chat.server.store.load_thread_items(run.thread.id, None, 50, "asc", caller)).data
    return [item.content[0].text for item in items if isinstance(item, AssistantMessageItem)]


async def test_the_sweeper_saves_what_was_streamed(
    chat: Chat, anna: Caller, database: Database, crashed: tuple[Run, str]
) -> None:
    run, heard = crashed
    assert not await close_crashed_run(database, anna.tenant_id, run_id=run.key.run_id), "its lease has not expired"
    await expire(database, anna.tenant_id)
    assert await sweep_crashed_runs(database) >= 1
    assert await stored(chat, run, anna) == [heard] == ["one two three four "]
    assert not await close_crashed_run(database, anna.tenant_id, run_id=run.key.run_id)
    assert await stored(chat, run, anna) == [heard]


async def test_the_next_message_does_not_wait_for_the_sweeper(
    chat: Chat, anna: Caller, database: Database, crashed: tuple[Run, str]
) -> None:
    run, heard = crashed
    await expire(database, anna.tenant_id)
    again = await chat.server.start(add(run.thread.id), anna)
    assert "Hello, world" in spoken(decode(b"".join([chunk async for chunk in tail(again)])))
    assert await stored(chat, run, anna) == [heard, "Hello, world"]
    assert [item.type for item in chat.responder.histories[-1]] == [
        "user_message",
        "assistant_message",
        "user_message",
    ]


@pytest.mark.parametrize("ahead", [False, True])
async def test_whoever_listened_is_told_what_survived(
    chat: Chat, anna: Caller, database: Database, crashed: tuple[Run, str], ahead: bool
) -> None:
    run, heard = crashed
    await expire(database, anna.tenant_id)
    last = 999 if ahead else 5
    rest = await resume(chat.hub, anna, run_id=run.key.run_id, last_event_id=f"{run.key.run_id}:{last}")
    events = decode(b"".join([chunk async for chunk in rest]))
    replaced = [event["item"] for event in events if event["type"] == "thread.item.replaced"]
    assert [item["content"][0]["text"] for item in replaced] == [heard]
    assert spoken(events) == heard


async def test_a_process_that_lost_its_lease_stops_and_doubles_nothing(
    chat: Chat, anna: Caller, database: Database
) -> None:
    gate = Gate(free=1)
    chat.responder.script = lambda thread, _new: speak(thread, "msg_half", ["one ", "two"], pause=gate)
    run = await chat.server.start(create(), anna)
    while not run.stored:
        await asyncio.sleep(0.02)
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(text("update runs set status = 'crashed', finished_at = now()"))
    events = decode(b"".join([chunk async for chunk in tail(run)]))
    assert chat.responder.stopped.is_set()
    assert "interrupted" in next(event["message"] for event in events if event["type"] == "error")
    assert await stored(chat, run, anna) == []


async def test_deleting_a_conversation_stops_its_answer(chat: Chat, anna: Caller) -> None:
    gate = Gate(free=1)
    chat.responder.script = lambda thread, _new: speak(thread, "msg_half", ["one ", "two"], pause=gate)
    run = await chat.server.start(create(), anna)
    await chat.server.store.delete_thread(run.thread.id, anna)
    async for _ in tail(run):
        pass
    assert chat.responder.stopped.is_set()


async def test_a_clock_ahead_of_the_databases_does_not_make_a_resumed_stream_ask_without_end(
    chat: Chat, anna: Caller, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["a"], pause=gate)
    run = await chat.server.start(create(), anna, resumable=True)
    ahead = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: ahead)  # by which the lease of a living run seems over
    monkeypatch.setattr("stonechat.chat.resume.RUN_SECONDS", -61.0)  # who listens elsewhere gives up at once
    async with asyncio.timeout(10):
        async for _ in await resume(RunHub(database), anna, run_id=run.key.run_id, last_event_id=""):
            pass
    assert not run.finished
    run.stop("cancelled")

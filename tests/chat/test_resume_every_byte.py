"""A stream cut at any byte resumes to the very bytes it would have had: from memory, from the database, from both."""

from __future__ import annotations

import asyncio
from itertools import accumulate

import pytest

from stonechat.chat.hub import RunHub
from stonechat.chat.resume import resume, tail
from stonechat.chat.runs import Run
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.chat import Chat, create, decode, spoken
from support.responders import Gate, speak

EVENTS = 200
# Bytes of one character in two chunks, escapes, what looks like the end of an event, and half a surrogate pair.
WORDS = [
    "plain ",
    "zwölf ",
    "🎉 ",
    'qu"ote ',
    "line\n\nline ",
    "data: {} ",
    "\u2028",
    "\x00",
    "id: run_0:7 ",
    "\\",
    "\ud83c",
    "\udf89",
]


async def listen(run: Run) -> bytes:
    return b"".join([chunk async for chunk in tail(run)])


async def answer(chat: Chat, caller: Caller, gate: Gate | None = None) -> Run:
    """A resumable answer of `EVENTS` events or a few more."""
    words = [WORDS[number % len(WORDS)] for number in range(EVENTS - 8)]
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), words, pause=gate)
    return await chat.server.start(create(), caller, resumable=True)


async def rest(hub: RunHub, caller: Caller, run: Run, heard: int) -> bytes:
    last = f"{run.key.run_id}:{heard}" if heard else ""
    return b"".join([chunk async for chunk in await resume(hub, caller, run_id=run.key.run_id, last_event_id=last)])


def event_ends(stream: bytes) -> list[int]:
    return list(accumulate(len(frame) + 2 for frame in stream.split(b"\n\n")[:-1]))


async def test_cut_at_every_byte(chat: Chat, anna: Caller) -> None:
    run = await answer(chat, anna)
    whole = await listen(run)
    ends = event_ends(whole)
    assert len(ends) == len(run.frames) >= EVENTS
    resumed = 0
    heard, kept = 0, 0
    for cut in range(len(whole) + 1):
        if heard < len(ends) and cut >= ends[heard]:
            heard, kept = heard + 1, ends[heard]
        assert whole[:kept] + await rest(chat.hub, anna, run, heard) == whole
        resumed += 1
    assert (heard, kept, resumed) == (len(ends), len(whole), len(whole) + 1)


async def test_cut_after_every_event_and_read_by_another_process(chat: Chat, anna: Caller, database: Database) -> None:
    run = await answer(chat, anna)
    whole = await listen(run)
    ends = event_ends(whole)
    other = RunHub(database)
    for heard in (0, 1, 2, 57, 100, len(ends) - 1, len(ends)):
        kept = ends[heard - 1] if heard else 0
        assert whole[:kept] + await rest(other, anna, run, heard) == whole


@pytest.mark.parametrize("heard", [0, 1, 60, 120])
async def test_cut_while_it_goes_on_and_memory_forgets(chat: Chat, anna: Caller, heard: int) -> None:
    gate = Gate()
    run = await answer(chat, anna, gate)
    first = asyncio.create_task(listen(run))
    gate.let(150)
    while not run.frames.forgotten:
        await asyncio.sleep(0.01)
    resumed = asyncio.create_task(rest(chat.hub, anna, run, heard))
    await asyncio.sleep(0)
    gate.let(EVENTS)
    whole = await first
    kept = event_ends(whole)[heard - 1] if heard else 0
    assert whole[:kept] + await resumed == whole
    assert whole[:kept] + await rest(chat.hub, anna, run, heard) == whole
    assert len(spoken(decode(whole))) > EVENTS


async def test_what_a_listener_has_not_heard_is_not_forgotten(chat: Chat, anna: Caller) -> None:
    gate = Gate()
    run = await answer(chat, anna, gate)
    with run.listen() as slow:
        gate.let(EVENTS)
        while run.stored < 150 and not run.finished:
            await asyncio.sleep(0.01)
        run.forget_stored()
        assert run.frames.forgotten == 0
        whole = await listen(run)
        assert slow.take() == whole

"""An answer is a run of its thread: stored, resumable, stoppable, and never two at once."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest
from chatkit.types import (
    AssistantMessageItem,
    ThreadDeleteParams,
    ThreadItemDoneEvent,
    ThreadsDeleteReq,
    UserMessageItem,
)
from sqlalchemy import text

from stonechat.chat.resume import cancel_run, resume, tail
from stonechat.chat.runs import Run
from stonechat.db.session import Database
from stonechat.errors import BadRequest, InvalidInput, NotFound, ThreadBusy
from stonechat.identity.caller import Caller
from support.chat import Chat, add, caller_of, create, decode, hidden, spoken
from support.responders import Gate, speak


async def listen(run: Run, after: int = 0) -> bytes:
    return b"".join([chunk async for chunk in tail(run, after=after)])


async def said(chat: Chat, run: Run, caller: Caller) -> str:
    items = (await chat.server.store.load_thread_items(run.thread.id, None, 100, "asc", caller)).data
    return "".join(part.text for item in items if isinstance(item, AssistantMessageItem) for part in item.content)


async def test_a_first_message_makes_a_thread_and_is_answered(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create("What are your opening hours?"), anna)
    events = decode(await listen(run))
    assert [event["type"] for event in events[:4]] == [
        "thread.created",
        "thread.item.done",
        "stream_options",
        "thread.item.added",
    ]
    assert events[1]["item"]["content"] == [{"type": "input_text", "text": "What are your opening hours?"}]
    assert spoken(events) == "Hello, world"
    items = (await chat.server.store.load_thread_items(run.thread.id, None, 10, "asc", anna)).data
    assert [item.type for item in items] == ["user_message", "assistant_message"]
    assert await said(chat, run, anna) == "Hello, world"


async def test_the_next_message_brings_the_conversation_so_far(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create("First?"), anna)
    await listen(run)
    await chat.server.store.add_thread_item(run.thread.id, hidden(run.thread.id, "passages"), anna)
    await listen(await chat.server.start(add(run.thread.id, "Second?"), anna))
    history = chat.responder.histories[-1]
    assert [item.type for item in history] == [
        "user_message",
        "assistant_message",
        "hidden_context_item",
        "user_message",
    ]
    last = history[-1]
    assert isinstance(last, UserMessageItem)
    assert last.content[0].text == "Second?"


async def test_a_thread_is_named_after_its_first_question(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create("  How long\n may I keep " + "very " * 30 + "worn shoes? "), anna)
    events = decode(await listen(run))
    assert events[-1]["type"] == "thread.updated"
    title = events[-1]["thread"]["title"]
    assert title.startswith("How long may I keep very")
    assert len(title) <= 61
    assert (await chat.server.store.load_thread(run.thread.id, anna)).title == title
    again = decode(await listen(await chat.server.start(add(run.thread.id, "Other?"), anna)))
    assert "thread.updated" not in [event["type"] for event in again]


async def test_a_thread_is_not_named_after_a_question_that_was_stopped(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create("How do I build a bomb?"), anna)
    run.trace.note("guardrail", "blocked_topic", stage="input", action="blocked")
    assert "bomb" not in json.dumps([event.get("thread") for event in decode(await listen(run))])
    assert (await chat.server.store.load_thread(run.thread.id, anna)).title is None
    await listen(await chat.server.start(add(run.thread.id, "How do I bake bread?"), anna))
    assert (await chat.server.store.load_thread(run.thread.id, anna)).title == "How do I bake bread?"


@pytest.mark.parametrize("text_", ["", "   ", "\x00"])
async def test_a_message_without_words_is_refused_and_leaves_nothing(chat: Chat, anna: Caller, text_: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        await chat.server.start(create(text_), anna)
    assert (await chat.server.store.load_threads(10, None, "desc", anna)).data == []


async def test_a_run_resumes_from_the_database_alone(chat: Chat, anna: Caller, database: Database) -> None:
    """Another process, or this one a minute later."""
    gate = Gate()
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["a", "b", "c", "d"], pause=gate)
    run = await chat.server.start(create(), anna, resumable=True)
    other = type(chat.hub)(database)
    elsewhere = await resume(other, anna, run_id=run.key.run_id, last_event_id=f"{run.key.run_id}:2")
    heard: list[bytes] = []

    async def hear() -> None:
        async for chunk in elsewhere:
            heard.append(chunk)

    listener = asyncio.create_task(hear())
    gate.let(2)
    while not heard:
        await asyncio.sleep(0.01)
    gate.let(2)
    whole = await listen(run)
    await listener
    assert b"".join(list(run.frames)[:2]) + b"".join(heard) == whole
    late = await resume(other, anna, run_id=run.key.run_id, last_event_id="")
    assert b"".join([chunk async for chunk in late]) == whole


async def test_a_run_that_was_not_resumable_ends_with_its_items(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create(), anna)
    await listen(run)
    rest = await resume(chat.hub, anna, run_id=run.key.run_id, last_event_id=f"{run.key.run_id}:4")
    events = decode(b"".join([chunk async for chunk in rest]))
    assert [event["type"] for event in events] == ["thread.item.replaced"]
    assert spoken(events) == "Hello, world"


@pytest.mark.parametrize("last", ["nonsense", "run_other:3", ":3", "{run}:-1", "{run}:x", "{run}:99999999999"])
async def test_a_last_event_id_of_something_else_is_refused(chat: Chat, anna: Caller, last: str) -> None:
    run = await chat.server.start(create(), anna, resumable=True)
    await listen(run)
    with pytest.raises(BadRequest):
        await resume(chat.hub, anna, run_id=run.key.run_id, last_event_id=last.format(run=run.key.run_id))


async def test_runs_of_others_are_not_found(chat: Chat, anna: Caller, make_tenant, database: Database) -> None:
    gate = Gate()
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["a"], pause=gate)
    run = await chat.server.start(create(), anna, resumable=True)
    strangers = [caller_of(anna.tenant_id, "usr_bob"), caller_of(await make_tenant(), anna.user_id)]
    for hub in (chat.hub, type(chat.hub)(database)):
        for stranger in strangers:
            with pytest.raises(NotFound):
                await resume(hub, stranger, run_id=run.key.run_id, last_event_id="")
            with pytest.raises(NotFound):
                await cancel_run(hub, stranger, run_id=run.key.run_id)
    gate.let(1)
    assert spoken(decode(await listen(run))) == "a"


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_cancelling_stops_the_model_and_keeps_what_it_said(
    chat: Chat, anna: Caller, database: Database, elsewhere: bool
) -> None:
    gate = Gate(free=2)
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["one ", "two ", "3"], pause=gate)
    run = await chat.server.start(create(), anna)
    while b"two " not in b"".join(run.frames):
        await asyncio.sleep(0.01)
    await cancel_run(type(chat.hub)(database) if elsewhere else chat.hub, anna, run_id=run.key.run_id)
    events = decode(await listen(run))
    assert chat.responder.stopped.is_set()
    assert spoken(events) == "one two "
    items = (await chat.server.store.load_thread_items(run.thread.id, None, 10, "asc", anna)).data
    assert [item.type for item in items] == ["user_message", "assistant_message", "sdk_hidden_context"]
    assert await said(chat, run, anna) == "one two "
    async with database.tenant(anna.tenant_id) as session:
        status = text("select status from runs where run_id = :id")
        assert await session.scalar(status, {"id": run.key.run_id}) == "cancelled"
    await cancel_run(chat.hub, anna, run_id=run.key.run_id)


async def test_stopped_before_it_began_it_still_frees_its_thread(chat: Chat, anna: Caller) -> None:
    run = await chat.server.start(create(), anna)
    run.stop("cancelled")
    await listen(run)
    assert "Hello, world" in spoken(decode(await listen(await chat.server.start(add(run.thread.id), anna))))


async def test_a_failure_becomes_an_error_event_and_what_was_said_is_kept(chat: Chat, anna: Caller) -> None:
    async def script(thread, new_id):
        async for event in speak(thread, new_id("message"), ["half "]):
            if isinstance(event, ThreadItemDoneEvent):
                raise RuntimeError("secret internals")
            yield event

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    stream = await listen(run)
    events = decode(stream)
    error = next(event for event in events if event["type"] == "error")
    assert (error["code"], error["allow_retry"]) == ("stream.error", True)
    assert b"secret" not in stream
    assert await said(chat, run, anna) == "half "


async def test_an_endless_answer_is_cut_off(chat: Chat, anna: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stonechat.chat.runs.MAX_EVENTS", 100)

    async def script(thread, new_id):
        while True:
            async for event in speak(thread, new_id("message"), ["more "] * 20):
                yield event

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    events = decode(await listen(run))
    assert "cut off" in next(event for event in events if event["type"] == "error")["message"]
    assert await said(chat, run, anna) == spoken(events)


async def test_a_run_has_a_time_limit(chat: Chat, anna: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stonechat.chat.hub.RUN_SECONDS", 0.0)
    gate = Gate(free=1)
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["one ", "two"], pause=gate)
    run = await chat.server.start(create(), anna)
    events = decode(await listen(run))
    assert "too long" in next(event for event in events if event["type"] == "error")["message"]
    assert chat.responder.stopped.is_set()
    assert await said(chat, run, anna) == "one "


async def test_a_second_message_waits_for_the_first_answer(chat: Chat, anna: Caller) -> None:
    gate = Gate()
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["x"], pause=gate)
    first = await chat.server.start(create(), anna)
    second = asyncio.create_task(chat.server.start(add(first.thread.id), anna))
    await asyncio.sleep(0.05)
    assert not second.done()
    gate.let(2)
    await listen(await second)
    items = (await chat.server.store.load_thread_items(first.thread.id, None, 10, "asc", anna)).data
    assert [item.type for item in items] == ["user_message", "assistant_message"] * 2


async def test_a_busy_thread_says_so_and_keeps_nothing_of_the_message(
    chat: Chat, anna: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stonechat.chat.claiming.BUSY_SECONDS", 0.1)
    gate = Gate()
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["x"], pause=gate)
    run = await chat.server.start(create(), anna)
    with pytest.raises(ThreadBusy):
        await chat.server.start(add(run.thread.id), anna)
    gate.let(1)
    await listen(run)
    items = (await chat.server.store.load_thread_items(run.thread.id, None, 10, "asc", anna)).data
    assert [item.type for item in items] == ["user_message", "assistant_message"]


async def test_forty_messages_at_once_never_interleave(chat: Chat, anna: Caller) -> None:
    first = await chat.server.start(create(), anna)
    await listen(first)
    runs = await asyncio.gather(
        *(chat.server.start(add(first.thread.id), anna) for _ in range(40)), return_exceptions=True
    )
    for run in runs:
        assert isinstance(run, Run | ThreadBusy)
        if isinstance(run, Run):
            await listen(run)
    items = (await chat.server.store.load_thread_items(first.thread.id, None, 100, "asc", anna)).data
    kinds = [item.type for item in items]
    assert kinds == ["user_message", "assistant_message"] * (len(kinds) // 2)
    assert len(kinds) == 2 * (1 + sum(isinstance(run, Run) for run in runs))


async def test_hidden_items_never_reach_a_client(chat: Chat, anna: Caller) -> None:
    from chatkit.types import ThreadItemAddedEvent, ThreadItemRemovedEvent, ThreadItemReplacedEvent

    async def script(thread, new_id):
        for wrap in (ThreadItemAddedEvent, ThreadItemDoneEvent, ThreadItemReplacedEvent):
            secret = hidden(thread.id, "SECRET")
            yield wrap(item=secret)
        yield ThreadItemRemovedEvent(item_id=secret.id)
        yield ThreadItemDoneEvent(item=hidden(thread.id, "SECRET"))
        async for event in speak(thread, new_id("message"), ["said"]):
            yield event

    chat.responder.script = script
    run = await chat.server.start(create(), anna, resumable=True)
    assert b"SECRET" not in await listen(run)
    assert b"SECRET" not in b"".join(run.frames)
    kinds = [
        item.type for item in (await chat.server.store.load_thread_items(run.thread.id, None, 9, "asc", anna)).data
    ]
    assert kinds == ["user_message", "hidden_context_item", "hidden_context_item", "assistant_message"]


async def test_an_item_that_was_removed_is_gone(chat: Chat, anna: Caller) -> None:
    from chatkit.types import ThreadItemRemovedEvent

    async def script(thread, new_id):
        async for event in speak(thread, "msg_tripped", ["forbidden"]):
            yield event
        yield ThreadItemRemovedEvent(item_id="msg_tripped")
        async for event in speak(thread, new_id("message"), ["calm"]):
            yield event

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    await listen(run)
    assert await said(chat, run, anna) == "calm"


async def test_an_item_id_that_the_thread_has_overwrites_nothing(chat: Chat, anna: Caller) -> None:
    chat.responder.script = lambda thread, new_id: speak(thread, "__fake_id__", ["first"])
    run = await chat.server.start(create(), anna)
    await listen(run)
    chat.responder.script = lambda thread, new_id: speak(thread, "__fake_id__", ["second"])
    events = decode(await listen(await chat.server.start(add(run.thread.id), anna)))
    assert events[-1]["type"] == "error"
    assert await said(chat, run, anna) == "first"


async def test_halves_of_a_surrogate_pair_arrive_whole(chat: Chat, anna: Caller) -> None:
    deltas = ["party ", "\ud83c", "\udf89", " lone \ud83c"]

    async def script(thread, new_id):
        async for event in speak(thread, new_id("message"), deltas):
            if isinstance(event, ThreadItemDoneEvent):
                return
            if getattr(getattr(event, "update", None), "type", "") != "assistant_message.content_part.done":
                yield event

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    await listen(run)
    assert await said(chat, run, anna) == "party 🎉 lone \ufffd"


async def test_the_ledger_is_written_with_the_answer(chat: Chat, anna: Caller, database: Database) -> None:
    run = await chat.server.start(create(), anna)
    await listen(run)
    async with database.tenant(anna.tenant_id) as session:
        rows = (
            await session.execute(
                text("select run_id, provider, model, input_tokens, output_tokens, agent_id from usage_ledger")
            )
        ).all()
    assert rows == [(run.key.run_id, "test", "scripted", 3, 5, anna.agent_id)]


async def test_shutdown_saves_what_was_said(chat: Chat, anna: Caller, database: Database) -> None:
    gate = Gate(free=1)
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["one ", "two"], pause=gate)
    run = await chat.server.start(create(), anna)
    while b"one " not in b"".join(run.frames):
        await asyncio.sleep(0.01)
    await chat.hub.close()
    assert run.finished
    assert await said(chat, run, anna) == "one "
    assert decode(b"".join(run.frames))[-2]["type"] == "error"


async def test_checkpoints_write_all_runs_down_and_renew_their_leases(
    chat: Chat, anna: Caller, database: Database, make_tenant, make_agent
) -> None:
    gate = Gate(free=1)
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["one ", "two"], pause=gate)
    other_tenant: UUID = await make_tenant()
    other = caller_of(other_tenant, agent_id=await make_agent(other_tenant))
    runs = [await chat.server.start(create(), caller) for caller in (anna, other)]
    while not all(run.stored == len(run.frames) > 4 for run in runs):
        await asyncio.sleep(0.02)
    for run in runs:
        async with database.tenant(run.key.tenant_id) as session:
            stored = await session.scalars(text("select payload from run_events order by first_seq"))
            assert b"".join(stored) == b"".join(run.frames)
            lease = text("select lease_expires_at > now() + interval '3 seconds' from runs")
            assert await session.scalar(lease)
    gate.let(4)
    for run in runs:
        await listen(run)


async def test_a_deleted_thread_takes_its_answers_with_it(chat: Chat, anna: Caller) -> None:
    ended = await chat.server.start(create("First?"), anna, resumable=True)
    await listen(ended)
    gate = Gate(free=1)
    chat.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["A", "B"], pause=gate)
    going_on = await chat.server.start(add(ended.thread.id, "Second?"), anna, resumable=True)
    await chat.server.answer(ThreadsDeleteReq(params=ThreadDeleteParams(thread_id=ended.thread.id)), anna)
    await listen(going_on)
    for run in (ended, going_on):
        with pytest.raises(NotFound):
            await resume(chat.server.hub, anna, run_id=run.key.run_id, last_event_id=f"{run.key.run_id}:0")

"""Every event, item, update and task of the protocol: streamed, stored, resumed, and kept when the process dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from chatkit import types
from chatkit.types import ThreadMetadata, ThreadStreamEvent

from stonechat import clock
from stonechat.chat.hub import RunHub
from stonechat.chat.sweeper import close_crashed_run
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.answers import Told, answers, locking, names
from support.chat import Chat, create, decode
from support.crash import die, expire
from support.platform import Platform, Visitor, as_json, of_type, open_platform
from support.postgres import TestDatabase
from support.responders import Gate, Scripted

NAMES = sorted(answers(ThreadMetadata(id="thr_1", created_at=clock.now())))
HIDDEN = ("hidden_context_item", "sdk_hidden_context")


def members(union: Any) -> tuple[type, ...]:
    found = get_args(union)
    return get_args(found[0]) if found and not isinstance(found[0], type) else found


def test_nothing_of_the_protocol_is_left_out() -> None:
    told = answers(ThreadMetadata(id="thr_1", created_at=clock.now())).values()
    events = [event for each in told for event in each.events]
    items = [event.item for event in events if isinstance(event, types.ThreadItemDoneEvent)]
    tasks = [
        task
        for item in items
        for task in getattr(getattr(item, "workflow", None), "tasks", [getattr(item, "task", None)])
        if task is not None
    ]
    updates = [event.update for event in events if isinstance(event, types.ThreadItemUpdatedEvent)]
    by_the_server = {"thread.created", "thread.updated"}
    assert {event.type for event in events} | by_the_server == names(members(types.ThreadStreamEvent))
    assert {item.type for item in items} | {"user_message"} == names(members(types.ThreadItem))
    assert {update.type for update in updates} == names(members(types.ThreadItemUpdate))
    assert {task.type for task in tasks} == names(members(types.Task))


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder: Path = tmp_path_factory.mktemp("platform")
    async with open_platform(test_database, folder) as opened:
        yield opened


@pytest.fixture(scope="module")
async def agent(platform: Platform) -> str:
    return await platform.agent()


@pytest.fixture
def visitor(platform: Platform, agent: str) -> Visitor:
    return platform.visitor(agent)


def clients_see(item: Any) -> bool:
    return item.type not in HIDDEN


@pytest.mark.parametrize("name", NAMES)
async def test_it_is_streamed_stored_and_resumed(platform: Platform, visitor: Visitor, name: str) -> None:
    told: list[Told] = []

    def script(thread: ThreadMetadata, _new_id: Any) -> AsyncIterator[ThreadStreamEvent]:
        told.append(answers(thread)[name])
        return told[0].play()

    platform.script(script)
    answer = await visitor.send(**visitor.message("Hello"), headers={"Stonechat-Stream": "resumable"})
    assert answer.status_code == 200, answer.text
    events = decode(answer.content)
    created, message, options = events[:3]
    assert (created["type"], message["type"], options["type"]) == (
        "thread.created",
        "thread.item.done",
        "stream_options",
    )
    hidden = {event.item.id for event in told[0].events if hasattr(event, "item") and not clients_see(event.item)}
    expected = [as_json(event) for event in told[0].events if not (hasattr(event, "item") and event.item.id in hidden)]
    assert [event for event in events[3:] if event["type"] != "thread.updated"] == expected
    assert "SECRET" not in answer.text
    thread_id = created["thread"]["id"]
    stored = (await platform.services.chat.store.load_thread_items(thread_id, None, 50, "asc", visitor.caller)).data[1:]
    assert [as_json(item) for item in stored] == [as_json(item) for item in told[0].stored]
    shown = (await visitor.items(thread_id))[1:]
    assert shown == [as_json(item) for item in told[0].stored if clients_see(item)]
    # Whoever lost the connection anywhere gets the rest, byte by byte.
    run, frames = answer.headers["stonechat-run"], answer.content.split(b"\n\n")[:-1]
    for number in range(len(frames) + 1):
        rest = await platform.http.get(
            f"/chatkit/runs/{run}/events",
            headers={"Authorization": f"Bearer {visitor.token}", "Last-Event-ID": f"{run}:{number}" if number else ""},
        )
        assert rest.content == b"".join(frame + b"\n\n" for frame in frames[number:])


@pytest.mark.parametrize("name", NAMES)
async def test_what_was_half_done_is_kept_when_the_process_dies(
    chat: Chat, anna: Caller, database: Database, name: str
) -> None:
    told: list[Told] = []
    gate = Gate()

    def script(thread: ThreadMetadata, _new_id: Any) -> AsyncIterator[ThreadStreamEvent]:
        told.append(answers(thread)[name])
        return told[0].play(wait=lambda: gate(0))

    dying = ChatServer(RunHub(database), Scripted(script))
    run = await dying.start(create(), anna, resumable=True)
    while not told or run.stored < 3 + sum(not _is_hidden(event) for event in told[0].events[:-1]) or run.changes:
        await asyncio.sleep(0.02)
    await die(dying.hub, run)
    await expire(database, anna.tenant_id)
    assert await close_crashed_run(database, anna.tenant_id, run_id=run.key.run_id)
    kept = (await chat.server.store.load_thread_items(run.thread.id, None, 50, "asc", anna)).data[1:]
    assert [as_json(item) for item in kept] == [as_json(item) for item in told[0].partial]


@pytest.mark.parametrize("name", ["workflow", "widget", "picture", "message"])
async def test_what_was_half_done_is_kept_when_the_visitor_stops_it(chat: Chat, anna: Caller, name: str) -> None:
    told: list[Told] = []
    gate = Gate()

    def script(thread: ThreadMetadata, _new_id: Any) -> AsyncIterator[ThreadStreamEvent]:
        told.append(answers(thread)[name])
        return told[0].play(wait=lambda: gate(0))

    chat.responder.script = script
    run = await chat.server.start(create(), anna)
    while not told or len(run.frames) < 3 + len(told[0].events) - 1:
        await asyncio.sleep(0.01)
    run.stop("cancelled")
    while not run.finished:
        await run.wait(len(run.frames))
    kept = (await chat.server.store.load_thread_items(run.thread.id, None, 50, "asc", anna)).data[1:]
    assert [as_json(item) for item in kept[:-1]] == [as_json(item) for item in told[0].partial]
    assert kept[-1].type == "sdk_hidden_context"


async def test_what_the_assistant_changes_of_the_thread_is_told_and_stored(
    platform: Platform, visitor: Visitor
) -> None:
    platform.script(lambda thread, _new_id: locking(thread))
    events = await visitor.say("Hello")
    updated = of_type(events, "thread.updated")[-1]["thread"]
    assert (updated["title"], updated["status"]) == (
        "Named on the way",
        {"type": "locked", "reason": "Enough was said."},
    )
    assert await visitor.refused(**visitor.message("More", updated["id"])) == (409, "thread_locked")


def _is_hidden(event: ThreadStreamEvent) -> bool:
    return hasattr(event, "item") and not clients_see(event.item)

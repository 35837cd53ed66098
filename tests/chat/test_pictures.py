"""A thread says where pictures may come from, as its agent is now: OpenAI's front end loads them from nowhere else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.types import ClientToolCallItem, WidgetItem
from chatkit.widgets import DynamicWidgetRoot

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.assistant.agents import publish_config
from stonechat.assistant.config import parse_config
from stonechat.chat import journal
from support.chat import create, decode
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase
from support.responders import Gate, speak

PRESS = {"type": "buy", "payload": {}}
CARD = {"type": "Card", "children": [{"type": "Button", "label": "Buy", "onClickAction": PRESS}]}
CONFIG = {
    "name": "Robin",
    "model": "scripted",
    "knowledge": {"enabled": False},
    "tools": [{"kind": "widget", "name": "show", "description": "Shows it.", "template": CARD}],
}


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    async with open_platform(test_database, tmp_path_factory.mktemp("pictures")) as opened:
        yield opened


def config(*hosts: str) -> dict[str, Any]:
    return CONFIG | {"guardrails": {"output": {"images": "listed", "link_hosts": list(hosts)}}}


async def publish(visitor: Visitor, *hosts: str) -> None:
    services, tenant_id = visitor.platform.services, visitor.caller.tenant_id
    async with services.database.tenant(tenant_id) as session:
        await publish_config(
            session,
            system(tenant_id),
            agent_id=visitor.caller.agent_id,
            config=parse_config(config(*hosts)),
            settings=services.settings,
        )


async def anyone(platform: Platform, *hosts: str) -> Visitor:
    platform.script()
    return platform.visitor(await platform.agent(**config(*hosts)))


async def stored(visitor: Visitor, thread: str) -> Any:
    return (await visitor.json("threads.get_by_id", thread_id=thread)).get("allowed_image_domains")


def told(events: list[dict[str, Any]]) -> list[Any]:
    return [event["thread"].get("allowed_image_domains") for event in of_type(events, "thread.updated")]


async def test_a_new_thread_says_so_from_its_start_and_says_it_once(platform: Platform) -> None:
    visitor = await anyone(platform, "img.example.com", "*.cdn.example")
    events = await visitor.say("Hello")
    hosts = ["*.cdn.example", "img.example.com"]
    made = events[0]["thread"]
    assert (events[0]["type"], made["allowed_image_domains"]) == ("thread.created", hosts)
    assert told(events) == [hosts], "with the title, at the end"
    assert await stored(visitor, made["id"]) == hosts


async def test_where_nothing_changed_nothing_is_said_or_written(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    finish = journal.finish

    async def watched(*arguments: Any, **named: Any) -> bool:
        written.append(named["thread"])
        return await finish(*arguments, **named)

    visitor, without = await anyone(platform, "img.example.com"), await anyone(platform)
    threads = [(await each.say("Hello"))[0]["thread"] for each in (visitor, without)]
    assert threads[1].get("allowed_image_domains") is None
    monkeypatch.setattr(journal, "finish", watched)
    for each, thread in zip((visitor, without), threads, strict=True):
        assert told(await each.say("And now?", thread["id"])) == []
    assert written == [None, None]


async def message(visitor: Visitor, thread: str) -> None:
    assert told(await visitor.say("And now?", thread)) == [["new.example"]]


async def retry(visitor: Visitor, thread: str) -> None:
    item = (await visitor.items(thread))[0]["id"]
    assert told(await visitor.events("threads.retry_after_item", thread_id=thread, item_id=item)) == [["new.example"]]


async def tool_output(visitor: Visitor, thread: str) -> None:
    call = ClientToolCallItem(
        id="ctc_1", thread_id=thread, created_at=clock.now(), call_id="c", name="cart", arguments={}
    )
    await visitor.platform.services.chat.store.add_thread_item(thread, call, visitor.caller)
    events = await visitor.events("threads.add_client_tool_output", thread_id=thread, result=1)
    assert told(events) == [["new.example"]]


async def pressed(visitor: Visitor, thread: str) -> dict[str, Any]:
    card = DynamicWidgetRoot.model_validate(CARD)
    item = WidgetItem(id="wdg_1", thread_id=thread, created_at=clock.now(), widget=card)
    await visitor.platform.services.chat.store.add_thread_item(thread, item, visitor.caller)
    return {"thread_id": thread, "item_id": "wdg_1", "action": PRESS}


async def action(visitor: Visitor, thread: str) -> None:
    events = await visitor.events("threads.custom_action", **await pressed(visitor, thread))
    assert told(events) == [["new.example"]]


async def sync_action(visitor: Visitor, thread: str) -> None:
    assert await visitor.json("threads.sync_custom_action", **await pressed(visitor, thread)) == {}


@pytest.mark.parametrize("ask", [message, retry, tool_output, action, sync_action])
async def test_a_thread_follows_its_agent_with_whatever_is_asked_next(platform: Platform, ask: Any) -> None:
    visitor = await anyone(platform, "img.example.com")
    thread = (await visitor.say("Hello"))[0]["thread"]["id"]
    await publish(visitor, "new.example")
    await ask(visitor, thread)
    assert await stored(visitor, thread) == ["new.example"]


async def test_what_an_agent_allows_no_longer_is_taken_from_its_threads(platform: Platform) -> None:
    visitor = await anyone(platform, "img.example.com")
    thread = (await visitor.say("Hello"))[0]["thread"]["id"]
    await publish(visitor)
    assert told(await visitor.say("And now?", thread)) == [None]
    assert await stored(visitor, thread) is None


async def test_a_name_that_was_given_meanwhile_stays(platform: Platform) -> None:
    visitor = await anyone(platform, "img.example.com")
    thread = (await visitor.say("Hello"))[0]["thread"]["id"]
    await publish(visitor, "new.example")
    gate = Gate(free=1)
    platform.script(lambda made, new_id: speak(made, new_id("message"), ["one ", "two"], pause=gate))
    asking = asyncio.create_task(visitor.say("And now?", thread))
    while len(await visitor.items(thread)) < 3:
        await asyncio.sleep(0.01)
    await visitor.json("threads.update", thread_id=thread, title="Mine")
    gate.let(1)
    await asking
    found = await visitor.json("threads.get_by_id", thread_id=thread)
    assert (found["title"], found["allowed_image_domains"]) == ("Mine", ["new.example"])


async def test_the_sdks_own_entry_says_so_too(platform: Platform) -> None:
    visitor = await anyone(platform, "img.example.com")
    result = await platform.services.chat.process(create().model_dump_json(), visitor.caller)
    events = decode(b"".join([chunk async for chunk in result]))  # type: ignore[union-attr]
    assert told(events)[-1] == ["img.example.com"]
    assert await stored(visitor, events[0]["thread"]["id"]) == ["img.example.com"]

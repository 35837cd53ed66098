"""Widgets from tools: filled, shown, stored whole, acted upon; and what a page or a model cannot make of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from stonechat.assistant.tools.templates import fill
from support import fake_openai as host
from support.fake_openai import FakeOpenAI
from support.loopback import Loopback, plain, serve
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase
from support.widgets import EVIL, ORDER, SHOW, TEMPLATE, change

MODEL = "acme/small"


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    async with open_platform(test_database, folder, outbound_allowed=("127.0.0.0/8",)) as opened:
        yield opened


@pytest.fixture
async def model(platform: Platform) -> AsyncIterator[FakeOpenAI]:
    async with host.fake_openai(host.chat_call("show_order", json.dumps(ORDER)), host.chat_text("Here.")) as fake:
        async with platform.services.database.tenant(platform.tenant_id) as session:
            await session.execute(text("delete from model_providers where tenant_id = :t"), {"t": platform.tenant_id})
        await platform.provider(fake.url)
        yield fake


NEW_CARD = {"type": "Card", "novelty": [2], "children": [{"type": "Text", "value": "Changed"}]}


@pytest.fixture(params=[{"widget": NEW_CARD}, {"state": "changed"}], ids=["with a widget", "with words"])
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Loopback]:
    async with serve(plain(json.dumps(request.param).encode(), headers={"Content-Type": "application/json"})) as server:
        yield server


async def shown(
    platform: Platform, shop: Loopback, *, template: Any = TEMPLATE, **changes: Any
) -> tuple[Visitor, dict[str, Any]]:
    tools = [SHOW | {"template": template}, change(shop.url, **changes)]
    visitor = platform.visitor(await platform.agent(model=MODEL, tools=tools))
    events = await visitor.say("My order?")
    item = next(event["item"] for event in of_type(events, "thread.item.done") if event["item"]["type"] == "widget")
    return visitor, item


async def test_a_widget_is_shown_and_stored_whole(platform: Platform, model: FakeOpenAI, shop: Loopback) -> None:
    visitor, item = await shown(platform, shop)
    assert (item["widget"], item["copy_text"]) == (fill(TEMPLATE, ORDER), "Order A7")
    assert (await visitor.items(item["thread_id"]))[1] == item
    await visitor.say("And?", item["thread_id"])
    assert "Order A7" in json.dumps(model.body(2)["messages"])


@pytest.mark.parametrize("sync", [False, True], ids=["streamed", "at once"])
async def test_an_action_runs_its_tool_and_shows_what_it_answers(
    platform: Platform, model: FakeOpenAI, shop: Loopback, sync: bool
) -> None:
    visitor, item = await shown(platform, shop)
    thread, asked = item["thread_id"], len(model.requests)
    action = {"type": "order.change", "payload": {"number": "A7", "note": "Quick"}}
    params = {"thread_id": thread, "item_id": item["id"], "action": action}
    if sync:
        answer = await visitor.json("threads.sync_custom_action", **params)
        replaced = [answer["updated_item"]] if answer else []
    else:
        events = await visitor.events("threads.custom_action", **params)
        replaced = [event["item"] for event in of_type(events, "thread.item.replaced")]
    [request] = shop.requests
    assert (request.method, request.path, json.loads(request.body)) == ("POST", "/orders/A7", {"note": "Quick"})
    stored = (await visitor.items(thread))[1]
    if replaced:
        assert [each["widget"] for each in replaced] == [NEW_CARD] == [stored["widget"]]
        assert len(model.requests) == asked, "the widget says it"
    else:
        assert stored == item
        assert len(model.requests) == asked + (not sync)
    await visitor.say("And now?", thread)
    heard = json.dumps(model.body(-1)["messages"])
    assert "The visitor used the card" in heard
    assert "change_order" in heard


async def test_an_action_that_does_not_fit_its_tool_runs_nothing(
    platform: Platform, model: FakeOpenAI, shop: Loopback
) -> None:
    visitor, item = await shown(platform, shop)
    action = {"type": "order.change", "payload": {"number": "A7", "note": "x" * 30}}
    params = {"thread_id": item["thread_id"], "item_id": item["id"], "action": action}
    assert await visitor.refused("threads.sync_custom_action", **params) == (422, "invalid_input")
    events = await visitor.events("threads.custom_action", **params)
    assert "does not fit" in of_type(events, "error")[0]["message"]
    assert shop.requests == []


@pytest.mark.parametrize("sync", [False, True], ids=["streamed", "at once"])
@pytest.mark.parametrize("shop", [{"state": "changed"}], indirect=True)
async def test_what_a_model_put_behind_a_button_is_shown_before_it_is_done(
    platform: Platform, model: FakeOpenAI, shop: Loopback, sync: bool
) -> None:
    visitor, item = await shown(platform, shop, approval="changes")
    thread, asked = item["thread_id"], len(model.requests)
    action = {"type": "order.change", "payload": {"number": "A7", "note": "Quick"}}
    params = {"thread_id": thread, "item_id": item["id"], "action": action}
    if sync:
        assert await visitor.refused("threads.sync_custom_action", **params) == (409, "conflict")
    else:
        await visitor.events("threads.custom_action", **params)
    assert shop.requests == []
    assert len(model.requests) == asked
    question = (await visitor.items(thread))[-1]
    assert question["type"] == "structured_input"
    assert question["inputs"][0]["question"] == 'May I do this? Changes an order.\nnumber: "A7"\nnote: "Quick"'
    answers = {"answers": {"approval": {"values": ["Yes, do it"]}}}
    await visitor.events("threads.add_structured_input", thread_id=thread, item_id=question["id"], input=answers)
    [request] = shop.requests
    assert (request.path, json.loads(request.body)) == ("/orders/A7", {"note": "Quick"})


FIXED = {
    "type": "Card",
    "children": [
        {
            "type": "Form",
            "onSubmitAction": {"type": "order.change", "payload": {"number": "A7"}},
            "children": [{"type": "Input", "name": "note"}],
        }
    ],
}


@pytest.mark.parametrize("shop", [{"state": "changed"}], indirect=True)
async def test_what_the_tenant_wrote_and_the_visitor_entered_needs_no_second_yes(
    platform: Platform, model: FakeOpenAI, shop: Loopback
) -> None:
    visitor, item = await shown(platform, shop, approval="always", template=FIXED)
    action = {"type": "order.change", "payload": {"number": "A7", "note": "Quick"}}
    await visitor.events("threads.custom_action", thread_id=item["thread_id"], item_id=item["id"], action=action)
    assert len(shop.requests) == 1


@pytest.mark.parametrize("shop", [{"state": "changed"}], indirect=True)
async def test_widgets_and_questions_of_a_turn_are_cleaned(platform: Platform, shop: Loopback) -> None:
    asks = {"questions": [{"question": EVIL, "options": [EVIL, "No"]}]}
    calls = {
        "show_order": (ORDER | {"number": "4111 1111 1111 1111"}, "widget"),
        "ask_visitor": (asks, "structured_input"),
        "change_order": ({"number": "7", "note": "4111 1111 1111 1111"}, "structured_input"),
    }
    tools = [SHOW, change(shop.url, approval="always")]
    tools[1]["parameters"]["properties"]["note"]["maxLength"] = 100
    for name, (arguments, kind) in calls.items():
        async with host.fake_openai(host.chat_call(name, json.dumps(arguments)), host.chat_text("Here.")) as fake:
            async with platform.services.database.tenant(platform.tenant_id) as session:
                await session.execute(
                    text("delete from model_providers where tenant_id = :t"), {"t": platform.tenant_id}
                )
            await platform.provider(fake.url)
            visitor = platform.visitor(await platform.agent(model=MODEL, tools=tools, ask=True))
            events = await visitor.say("My order?")
            done = [event["item"] for event in of_type(events, "thread.item.done")]
            item = next(item for item in done if item["type"] == kind)
            seen = {key: value for key, value in item.items() if key in ("inputs", "copy_text")}
            if kind == "widget":
                seen["title"] = item["widget"]["children"][0]
                assert "█" in item["copy_text"]
            assert "1111" not in json.dumps(seen), name
            assert "evil.example/" not in json.dumps(seen), name
            assert "█" in json.dumps(seen, ensure_ascii=False), name
    assert "rules hide" in item["inputs"][0]["question"]

"""Tools in the visitor's page, forms, and asking a person: what a model starts with them, and how the turn goes on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from stonechat.assistant.config import parse_config
from stonechat.errors import InvalidInput
from support import fake_openai as host
from support.fake_openai import FakeOpenAI
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase

CART = {
    "kind": "client",
    "name": "add_to_cart",
    "description": "Adds a product to the cart.",
    "offered_as": "Cart",
    "parameters": {
        "type": "object",
        "properties": {"sku": {"type": "string", "maxLength": 20}, "count": {"type": "integer", "minimum": 1}},
        "required": ["sku"],
    },
}
MODEL = "acme/small"


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    async with open_platform(test_database, folder, outbound_allowed=("127.0.0.0/8",)) as opened:
        yield opened


@pytest.fixture
async def model(platform: Platform) -> AsyncIterator[FakeOpenAI]:
    async with host.fake_openai(host.chat_text("Done.")) as fake:
        async with platform.services.database.tenant(platform.tenant_id) as session:
            await session.execute(text("delete from model_providers where tenant_id = :t"), {"t": platform.tenant_id})
        await platform.provider(fake.url)
        yield fake


async def visitor_of(platform: Platform, **config: Any) -> Visitor:
    return platform.visitor(await platform.agent(model=MODEL, **config))


def call(name: str, arguments: Any, **more: Any) -> list[bytes]:
    return host.chat_call(name, arguments if isinstance(arguments, str) else json.dumps(arguments), **more)


def roles(body: dict[str, Any]) -> list[str]:
    return [message["role"] for message in body["messages"]]


async def test_the_page_is_asked_and_the_turn_goes_on_with_what_it_says(platform: Platform, model: FakeOpenAI) -> None:
    model.replies = [
        call("add_to_cart", {"sku": "tea", "count": 2}, say="One moment.", call_id="call_77"),
        host.chat_text("It is in your cart."),
    ]
    visitor = await visitor_of(platform, tools=[CART])
    events = await visitor.say("Two teas please")
    thread = events[0]["thread"]["id"]
    said, asked = [event["item"] for event in of_type(events, "thread.item.done")][1:]
    assert said["content"][0]["text"] == "One moment."
    assert (asked["type"], asked["status"], asked["name"], asked["call_id"]) == ("client_tool_call", "pending", "add_to_cart", "call_77")  # fmt: skip
    assert asked["arguments"] == {"sku": "tea", "count": 2}
    assert len(model.requests) == 1, "the turn ends with the call"
    events = await visitor.events("threads.add_client_tool_output", thread_id=thread, result={"total": "9 €"})
    assert of_type(events, "thread.item.done")[-1]["item"]["content"][0]["text"] == "It is in your cart."
    body = model.body(1)
    assert roles(body)[-1] == "tool"
    used = next(message for message in body["messages"] if message.get("tool_calls"))["tool_calls"][0]
    assert (used["id"], used["function"]["name"]) == ("call_77", "add_to_cart")
    output = body["messages"][-1]
    assert (output["tool_call_id"], json.loads(output["content"])) == ("call_77", {"total": "9 €"})


async def test_only_one_call_waits(platform: Platform, model: FakeOpenAI) -> None:
    two = json.dumps({"sku": "tea"}), json.dumps({"sku": "cake"})
    model.replies = [host.chat_calls([("add_to_cart", arguments) for arguments in two])]
    visitor = await visitor_of(platform, tools=[CART], ask=True)
    events = await visitor.say("Tea and cake")
    asked = [event["item"] for event in of_type(events, "thread.item.done") if event["item"]["type"] == "client_tool_call"]  # fmt: skip
    assert [item["arguments"]["sku"] for item in asked] == ["tea"]


@pytest.mark.parametrize(
    "arguments",
    ['{"sku": 7}', '{"sku": "tea", "count": 0}', "[]", "{", '{"other": "x"}', '{"sku": "' + "x" * 30 + '"}'],
)
async def test_arguments_that_do_not_fit_never_reach_the_page(
    platform: Platform, model: FakeOpenAI, arguments: str
) -> None:
    model.replies = [call("add_to_cart", arguments), host.chat_text("Which product?")]
    visitor = await visitor_of(platform, tools=[CART])
    events = await visitor.say("Add it")
    done = [event["item"] for event in of_type(events, "thread.item.done")]
    assert [item["type"] for item in done] == ["user_message", "assistant_message"]
    assert "arguments" in model.body(1)["messages"][-1]["content"].lower()


async def test_a_visitor_may_choose_a_tool_that_is_offered(platform: Platform, model: FakeOpenAI) -> None:
    model.replies = [call("add_to_cart", {"sku": "tea"}), host.chat_text("Done.")]
    visitor = await visitor_of(platform, tools=[CART], model_choices=[{"id": "acme/large", "label": "Large"}])
    events = await visitor.say("Tea", tool_choice={"id": "add_to_cart"}, model="acme/large")
    first = model.body(0)
    assert first["tool_choice"] == {"type": "function", "function": {"name": "add_to_cart"}}
    assert first["model"] == "large"
    await visitor.events("threads.add_client_tool_output", thread_id=events[0]["thread"]["id"], result="ok")
    again = model.body(1)
    assert again.get("tool_choice", "auto") == "auto", "chosen for one message, not for ever"
    for wrong in ({"model": MODEL}, {"model": "acme/huge"}, {"tool_choice": {"id": "search_knowledge"}}):
        assert await visitor.refused(**visitor.message("Tea", **wrong)) == (422, "invalid_input")
    assert len(model.requests) == 2


QUESTIONS = {
    "questions": [
        {"question": "Which colour?", "options": ["red", "blue", "red"], "multiple": True},
        {"question": "For whom?", "description": "A name will do"},
    ]
}


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        ({"answers": {"q1": {"values": ["red", "green"]}, "q2": {"values": ["Anna"]}}}, "answered", ["red, green", "Anna"]),
        ({"answers": {"q1": {"values": ["red"]}}}, "answered", ["red", "skipped"]),
        ({"status": "skipped"}, "skipped", ["skipped", "skipped"]),
    ],
)  # fmt: skip
async def test_a_form_asks_and_the_answers_reach_the_model(
    platform: Platform, model: FakeOpenAI, given: dict[str, Any], status: str, told: list[str]
) -> None:
    model.replies = [call("ask_visitor", QUESTIONS), host.chat_text("Thank you.")]
    visitor = await visitor_of(platform, ask=True)
    events = await visitor.say("A gift, please")
    form = of_type(events, "thread.item.done")[-1]["item"]
    assert (form["type"], form["status"]) == ("structured_input", "pending")
    choice, free = form["inputs"]
    assert (choice["type"], choice["options"], choice["multiple"]) == ("multiple_choice", [{"value": "red"}, {"value": "blue"}], True)  # fmt: skip
    assert (free["type"], free["description"]) == ("freeform", "A name will do")
    thread = events[0]["thread"]["id"]
    events = await visitor.events("threads.add_structured_input", thread_id=thread, item_id=form["id"], input=given)
    assert of_type(events, "thread.item.replaced")[0]["item"]["status"] == status
    assert of_type(events, "thread.item.done")[-1]["item"]["content"][0]["text"] == "Thank you."
    shown = json.dumps(model.body(1)["messages"], ensure_ascii=False)
    assert f"Which colour? → {told[0]}" in shown
    assert f"For whom? → {told[1]}" in shown


@pytest.mark.parametrize(
    "asked", [{}, {"questions": []}, {"questions": [{"question": " "}]}, {"questions": [{"question": "x"}] * 9}]
)
async def test_a_form_that_makes_no_sense_is_not_shown(platform: Platform, model: FakeOpenAI, asked: Any) -> None:
    model.replies = [call("ask_visitor", asked), host.chat_text("Which one?")]
    visitor = await visitor_of(platform, ask=True)
    events = await visitor.say("A gift")
    assert [event["item"]["type"] for event in of_type(events, "thread.item.done")] == ["user_message", "assistant_message"]  # fmt: skip


async def test_what_an_agent_does_not_offer_its_model_is_not_told_of(platform: Platform, model: FakeOpenAI) -> None:
    visitor = await visitor_of(platform)
    await visitor.say("Hello")
    assert "tools" not in model.body(0)


@pytest.mark.parametrize("name", ["ask_visitor", "hand_over", "search_knowledge"])
def test_built_in_tools_keep_their_names(name: str) -> None:
    with pytest.raises(InvalidInput, match="not valid"):
        parse_config({"name": "Robin", "tools": [CART | {"name": name}]})


async def test_the_model_names_the_conversation(platform: Platform, model: FakeOpenAI) -> None:
    """After the first answer has begun, once, and counted apart."""

    def choose(request: host.Received) -> host.Reply:
        naming = b"Name the conversation" in request.body
        return host.chat_whole("“Two cups of tea.”") if naming else host.chat_text("Of ", "course.")

    model.choose = choose
    visitor = await visitor_of(platform, titles="model")
    events = await visitor.say("I would like to order two cups of tea for tomorrow")
    thread = events[0]["thread"]["id"]
    await platform.services.chat.hub.afterwards_done()
    assert (await visitor.json("threads.get_by_id", thread_id=thread))["title"] == "Two cups of tea"
    await visitor.say("And cake", thread)
    assert len(model.requests) == 3
    async with platform.services.database.tenant(platform.tenant_id) as session:
        purposes = await session.scalars(
            text("select purpose from usage_ledger where agent_id = :agent order by purpose"),
            {"agent": visitor.caller.agent_id},
        )
        assert list(purposes) == ["answer", "answer", "title"]

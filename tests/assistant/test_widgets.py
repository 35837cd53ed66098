"""Widgets from tools: filled, shown, stored whole, acted upon; and what a page or a model cannot make of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.actions import Action
from chatkit.types import WidgetItem
from sqlalchemy import text

from stonechat import clock
from stonechat.assistant.config import parse_config
from stonechat.assistant.guardrails.rules import clean_text
from stonechat.assistant.tools.templates import MAX_REPEATED, TooLarge, fill
from stonechat.assistant.tools.widgets import clean_widget, hosts_in, parse_widget, widget_of
from stonechat.chat.actions import plan_action
from stonechat.errors import InvalidInput, NotOffered, WrongItem
from support import fake_openai as host
from support.fake_openai import FakeOpenAI
from support.loopback import Loopback, plain, serve
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase

TEMPLATE = {
    "type": "Card",
    "novelty": {"unknown": ["kept", 1]},
    "children": [
        {"type": "Title", "value": "Order {number}"},
        {"$each": "lines", "type": "Row", "children": [{"type": "Text", "value": "{number}. {item.name}: {item.price}"}]},
        {
            "type": "Form",
            "onSubmitAction": {"type": "order.change", "payload": {"number": "{number}"}},
            "children": [{"type": "Input", "name": "note"}, {"type": "Select", "name": "size.value", "options": []}],
        },
        {"type": "Button", "label": "Print", "onClickAction": {"type": "page.print", "handler": "client"}},
        {"type": "Button", "label": "Like", "onClickAction": {"type": "like"}},
    ],
}  # fmt: skip
SHOW = {
    "kind": "widget",
    "name": "show_order",
    "description": "Shows an order.",
    "parameters": {
        "type": "object",
        "properties": {"number": {"type": "string"}, "lines": {"type": "array", "maxItems": 100}},
        "required": ["number"],
    },
    "template": TEMPLATE,
    "copy_text": "Order {number}",
    "actions": {"order.change": "change_order"},
}
ORDER = {"number": "A7", "lines": [{"name": "Tea", "price": 3}, {"name": "Cake", "price": 4.5}]}
MODEL = "acme/small"


def change(url: str, **changes: Any) -> dict[str, Any]:
    """A tool that needs no approval, unless `changes` say so."""
    return {
        "approval": "never",
        "kind": "http",
        "name": "change_order",
        "description": "Changes an order.",
        "method": "POST",
        "url": f"{url}/orders/{{number}}",
        "parameters": {
            "type": "object",
            "properties": {"number": {"type": "string"}, "note": {"type": "string", "maxLength": 20}},
            "required": ["number"],
        },
    } | changes


# Templates


def test_a_template_is_filled_and_keeps_what_nobody_knows() -> None:
    filled = fill(TEMPLATE, ORDER)
    assert filled["novelty"] == {"unknown": ["kept", 1]}
    words = [row["children"][0]["value"] for row in filled["children"] if row["type"] == "Row"]
    assert words == ["1. Tea: 3", "2. Cake: 4.5"]
    assert filled["children"][0]["value"] == "Order A7"
    form = next(child for child in filled["children"] if child["type"] == "Form")
    assert form["onSubmitAction"]["payload"] == {"number": "A7"}


HOSTS = ("cdn.example", "*.img.example")


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("https://shop.example/p/{x}.png", "7", "https://shop.example/p/7.png"),
        ("{x}", "https://cdn.example/a.png", "https://cdn.example/a.png"),
        ("{x}", "https://a.img.example/a.png", "https://a.img.example/a.png"),
        ("{x}", "https://evil.example/?q=secret", None),
        ("{x}", "//evil.example/a", None),
        ("{x}", "javascript:alert(1)", None),
        ("{x}", "data:image/png;base64,AA", None),
        ("{x}", "https://cdn.example@evil.example/", None),
        ("https://{x}/a.png", "evil.example", None),
        ("https://shop.example{x}", "@evil.example/", None),
        ("https://shop.example{x}", ".evil.example/", None),
    ],
)
def test_arguments_load_nothing_from_where_they_please(template: str, value: str, expected: str | None) -> None:
    image = {"type": "Card", "children": [{"type": "Image", "src": template}]}
    assert fill(image, {"x": value}, hosts=HOSTS)["children"][0].get("src") == expected


def test_arguments_are_words_and_nothing_else() -> None:
    template = {
        "type": "Card",
        "children": [
            {"type": "Markdown", "value": "**Note** {x}"},
            {"type": "Text", "value": "{y}"},
            {"type": "Button", "onClickAction": {"type": "{x}", "handler": "{x}", "payload": "{x}"}},
        ],
    }
    evil = {"type": "Image", "src": "https://evil.example/"}
    filled = fill(template, {"x": "![a](https://evil.example/a)<img src=x>", "y": evil})
    markdown, words, button = filled["children"]
    assert markdown["value"] == "**Note** \\!\\[a\\](https://evil.example/a)\\<img src=x\\>"
    assert words["value"] == json.dumps(evil)
    assert (button["onClickAction"]["type"], button["onClickAction"]["handler"]) == ("{x}", "{x}")


def test_templates_stay_small_whatever_fills_them() -> None:
    rows = {"type": "Card", "children": [{"$each": "lines", "type": "Text", "value": "{item}"}]}
    assert len(fill(rows, {"lines": ["x"] * 1000})["children"]) == MAX_REPEATED
    nested = {"type": "Card", "children": [{"$each": "lines", "type": "Row", "children": [{"$each": "lines", "type": "Text", "value": "{item}"}]}]}  # fmt: skip
    for template, lines in ((nested, ["x"] * 50), (rows, ["x" * 5_000] * 50)):
        with pytest.raises(TooLarge):
            fill(template, {"lines": lines})


@pytest.mark.parametrize(
    "wrong",
    [
        {"template": {"type": "Text", "value": "x"}},
        {"template": {"type": "Card", "children": ["x" * 40_000]}},
        {"actions": {"no.such": "change_order"}},
        {"actions": {"order.change": "show_order"}},
        {"actions": {"order.change": "nothing"}},
    ],
)
def test_a_widget_that_cannot_work_is_refused_when_it_is_configured(wrong: dict[str, Any]) -> None:
    tools = [SHOW | wrong, change("https://shop.example")]
    with pytest.raises(InvalidInput):
        parse_config({"name": "Robin", "tools": tools})
    parse_config({"name": "Robin", "tools": [SHOW, tools[1]]})


# Actions

CONFIG = parse_config({"name": "Robin", "tools": [SHOW, change("https://shop.example")]})
SENDER = WidgetItem(id="w", thread_id="t", created_at=clock.now(), widget=parse_widget(fill(TEMPLATE, ORDER)), copy_text="Order A7")  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("order.change", {"number": "A7"}),
        ("order.change", {"number": "A7", "note": "Quick", "size": {"value": "L"}}),
        ("like", None),
        ("like", {}),
        ("like", {"note": "x"}),
    ],
)
def test_an_action_of_the_widget_is_taken(type_: str, payload: Any) -> None:
    step = plan_action(CONFIG, SENDER, Action(type=type_, payload=payload))
    assert step.tool == ("change_order" if type_ == "order.change" else None)
    assert "“Order A7”" in step.told


@pytest.mark.parametrize(
    ("type_", "payload"),
    [
        ("order.delete", {"number": "A7"}),
        ("order.change", {"number": "B8"}),
        ("order.change", {"number": "A7", "price": 0}),
        ("order.change", {"note": "no number"}),
        ("order.change", None),
        ("order.change", [1]),
        ("like", "x"),
        ("like", {"admin": True}),
        ("page.print", None),
        ("", None),
    ],
)
def test_an_action_that_the_widget_does_not_have_is_not(type_: str, payload: Any) -> None:
    with pytest.raises(WrongItem):
        plan_action(CONFIG, SENDER, Action(type=type_, payload=payload))


def test_actions_are_bounded_and_only_where_there_are_widgets() -> None:
    with pytest.raises(InvalidInput):
        plan_action(CONFIG, SENDER, Action(type="like", payload={"note": "x" * 20_000}))
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    with pytest.raises(InvalidInput):
        plan_action(CONFIG, SENDER, Action(type="like", payload={"note": deep}))
    with pytest.raises(NotOffered):
        plan_action(parse_config({"name": "Robin"}), SENDER, Action(type="like"))
    with pytest.raises(WrongItem):
        plan_action(CONFIG, None, Action(type="like"))


@pytest.mark.parametrize("answer", [None, [], {"widget": 1}, {"widget": {"type": "Text"}}, {"widget": {"type": "Card", "children": [{"type": "Text", "value": "x" * 70_000}]}}])  # fmt: skip
def test_what_is_no_widget_replaces_none(answer: Any) -> None:
    assert widget_of(answer) is None


# Over the whole platform


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


EVIL = "See [this](https://evil.example/?q=1), card 4111 1111 1111 1111 ![x](https://evil.example/x.png)"


def test_the_rules_hold_for_what_arguments_put_into_a_widget() -> None:
    config = parse_config({"name": "Robin"})
    template = {
        "type": "Card",
        "children": [
            {"type": "Text", "value": "{x}"},
            {"type": "Markdown", "value": "[Shop](https://shop.example/{n}) {x}"},
            {"type": "Text", "value": "{card}"},
            {"type": "Button", "label": "Go", "onClickAction": {"type": "go", "payload": {"card": "{card}"}}},
        ],
    }
    hosts = hosts_in(template)
    filled = fill(
        template,
        {"x": EVIL, "n": 7, "card": 4111111111111111},
        clean=lambda text: clean_text(config, text, hosts=hosts),
    )
    text, markdown, number, button = filled["children"]
    for part in (text, markdown):
        assert "evil.example/" not in part["value"]
        assert "1111" not in part["value"]
    assert "(https://shop.example/7)" in markdown["value"]
    assert "1111" not in str(number["value"])
    assert button["onClickAction"]["payload"] == {"card": 4111111111111111}


def test_the_rules_hold_for_a_widget_that_a_service_answered_with() -> None:
    config = parse_config({"name": "Robin"})
    answered = widget_of({"widget": {"type": "Card", "novelty": [1], "children": [{"type": "Text", "value": EVIL}]}})
    assert answered is not None
    cleaned = clean_widget(config, answered).model_dump(mode="json", exclude_none=True)
    assert cleaned["novelty"] == [1]
    assert "4111" not in cleaned["children"][0]["value"]
    assert "x.png" not in cleaned["children"][0]["value"]


@pytest.mark.parametrize(
    ("member", "address", "rules", "stays"),
    [
        ("src", "https://evil.example/x.png?q=1", {}, False),
        ("favicon", "//evil.example/x.png", {}, False),
        ("src", "http://cdn.example@evil.example/x.png", {"images": "listed", "link_hosts": ["cdn.example"]}, False),
        ("src", "https://cdn.example/x.png", {"link_hosts": ["cdn.example"]}, False),
        ("src", "https://cdn.example/x.png", {"images": "listed", "link_hosts": ["cdn.example"]}, True),
        ("src", "https://shop.example/logo.png", {}, True),
        ("src", "data:image/png;base64,AA==", {}, True),
        ("href", "https://evil.example/?q=1", {"links": "listed"}, False),
        ("href", "https://cdn.example/a", {"links": "listed", "link_hosts": ["cdn.example"]}, True),
        ("href", "https://elsewhere.example/a", {}, True),
    ],
)
def test_the_rules_hold_for_addresses_that_a_service_answered_with(
    member: str, address: str, rules: dict[str, Any], stays: bool
) -> None:
    own = {"type": "Card", "children": [{"type": "Image", "src": "https://shop.example/{number}.png"}]}
    tools = [SHOW | {"template": own, "actions": {}}]
    config = parse_config({"name": "Robin", "tools": tools, "guardrails": {"output": rules}})
    widget = parse_widget({"type": "Card", "children": [{"type": "Image", member: address, "alt": "A picture"}]})
    [child] = clean_widget(config, widget).model_dump(mode="json", exclude_none=True)["children"]
    assert child == {"type": "Image", "alt": "A picture"} | ({member: address} if stays else {})


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

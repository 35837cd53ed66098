"""Widgets before anybody sees them: filled, held to the agent's rules, and which of their actions are taken."""

from __future__ import annotations

import json
from typing import Any

import pytest
from chatkit.actions import Action
from chatkit.types import WidgetItem

from stonechat import clock
from stonechat.assistant.config import parse_config
from stonechat.assistant.guardrails.rules import clean_text
from stonechat.assistant.tools.templates import MAX_REPEATED, TooLarge, fill
from stonechat.assistant.tools.widgets import clean_widget, hosts_in, parse_widget, widget_of
from stonechat.chat.actions import plan_action
from stonechat.errors import InvalidInput, NotOffered, WrongItem
from support.widgets import EVIL, ORDER, SHOW, TEMPLATE, change

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


# The agent's rules


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

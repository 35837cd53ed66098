"""Forms, cards and lists in the conversation: a tool's template filled with the arguments of its call."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.types import ThreadItemDoneEvent, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import ValidationError

from stonechat import clock
from stonechat.assistant.config import AgentConfig, image_hosts
from stonechat.assistant.config_tools import WidgetTool
from stonechat.assistant.guardrails.addresses import Addresses
from stonechat.assistant.guardrails.rules import clean_text
from stonechat.assistant.tools.calls import parse_arguments
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.tools.templates import ADDRESSES, MAX_WIDGET_CHARACTERS, TooLarge, fill, fill_text, is_action

MAX_WIDGETS = 5
"""Of one turn."""
MAX_COPY_CHARACTERS = 4_000
_PICTURES = frozenset({"src", "favicon"})
"""Those of the members that are addresses whose addresses are loaded without anybody's doing."""
_HOST = re.compile(r"https://([A-Za-z0-9.-]+)(?=[/?#:\s\")\]]|$)")


def widget_tool(tool: WidgetTool) -> FunctionTool:
    """The tool as models call it."""

    async def invoke(context: ToolContext[TurnContext], arguments: str) -> str:
        return show_widget(context.context, tool, arguments)

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=tool.parameters,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def show_widget(context: TurnContext, tool: WidgetTool, text: str) -> str:
    """Put the filled widget into the conversation; returns what the model is told."""
    if context.shown >= MAX_WIDGETS:
        return "That were enough. Answer now."
    arguments, fault = parse_arguments(text, tool.parameters)
    if fault is not None:
        return fault
    try:
        written = hosts_in(tool.template)
        filled = fill(
            tool.template,
            arguments,
            hosts=context.turn.config.guardrails.output.link_hosts,
            clean=partial(context.clean, hosts=written),
        )
        widget = parse_widget(filled)
    except (TooLarge, ValidationError):
        return "It could not be shown: that is too much for one card. Try with less."
    copy_text = context.clean(fill_text(tool.copy_text, arguments)[:MAX_COPY_CHARACTERS], hosts=written)
    with context.turn.trace.span("tool", tool.name, shows="a widget"):
        context.emit(
            ThreadItemDoneEvent(
                item=WidgetItem(
                    id=context.turn.generate_item_id("widget"),
                    thread_id=context.thread_id,
                    created_at=clock.now(),
                    widget=widget,
                    copy_text=copy_text or None,
                )
            )
        )
    context.shown += 1
    return "It is shown to the visitor. Do not repeat what stands in it."


def parse_widget(raw: Any) -> DynamicWidgetRoot:
    """A widget of any components and properties, as long as its root is one. Raises `ValidationError`."""
    return DynamicWidgetRoot.model_validate(raw)


def widget_of(answer: Any) -> DynamicWidgetRoot | None:
    """The widget that a tool answered with, `{"widget": {"type": "Card", …}}`; None if there is none that fits."""
    raw = answer.get("widget") if isinstance(answer, dict) else None
    if not isinstance(raw, dict):
        return None
    try:
        widget = parse_widget(raw)
    except (ValidationError, RecursionError):
        return None
    return widget if len(widget.model_dump_json()) <= MAX_WIDGET_CHARACTERS else None


def clean_widget(config: AgentConfig, widget: DynamicWidgetRoot) -> DynamicWidgetRoot:
    """A widget that a service answered with, its words and addresses as the agent's rules let visitors see them."""
    rules = config.guardrails.output
    pictures = Addresses("listed", tuple(image_hosts(config)))
    links = Addresses("listed" if rules.links == "listed" else "any", rules.link_hosts)

    def may_stand(name: str, value: Any) -> bool:
        if name not in ADDRESSES or not isinstance(value, str):
            return True
        if name in _PICTURES:
            return value.startswith("data:image/") or pictures.allow(value)
        return links.allow(value)

    def cleaned(name: str, value: Any) -> Any:
        match value:
            case str() if name not in ADDRESSES and name != "type":
                return clean_text(config, value, composed=False)
            case dict():
                return {
                    key: part if is_action(key, part) else cleaned(key, part)
                    for key, part in value.items()
                    if may_stand(key, part)
                }
            case list():
                return [cleaned(name, part) for part in value]
            case _:
                return value

    return parse_widget(cleaned("", widget.model_dump(mode="json", by_alias=True, exclude_none=True)))


def hosts_in(template: Any) -> set[str]:
    """The hosts of addresses that a template writes out: its tenant's own."""
    match template:
        case str():
            return {host.lower() for host in _HOST.findall(template)}
        case dict():
            return set[str]().union(*map(hosts_in, template.values()))
        case list():
            return set[str]().union(*map(hosts_in, template))
        case _:
            return set()

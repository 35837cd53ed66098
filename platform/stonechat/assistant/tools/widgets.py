"""Forms, cards and lists in the conversation: a tool's template filled with the arguments of its call."""

from __future__ import annotations

from typing import Any

from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.types import ThreadItemDoneEvent, WidgetItem
from chatkit.widgets import DynamicWidgetRoot
from pydantic import ValidationError

from stonechat import clock
from stonechat.assistant.config_tools import WidgetTool
from stonechat.assistant.tools.calls import parse_arguments
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.tools.templates import MAX_WIDGET_CHARACTERS, TooLarge, fill, fill_text

MAX_WIDGETS = 5
"""Of one turn."""
MAX_COPY_CHARACTERS = 4_000


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
        filled = fill(tool.template, arguments, hosts=context.turn.config.guardrails.output.link_hosts)
        widget = parse_widget(filled)
    except (TooLarge, ValidationError):
        return "It could not be shown: that is too much for one card. Try with less."
    copy_text = fill_text(tool.copy_text, arguments)[:MAX_COPY_CHARACTERS]
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

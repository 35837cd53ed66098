"""What visitors do in widgets: which actions a stored widget really has, and what they lead to.

An action comes from a browser, and anybody can send anything. It counts only if the widget that the platform stored has
it: the same type, the same payload, and besides that only what was entered into the widget's own fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chatkit.actions import Action
from chatkit.types import WidgetItem

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import WidgetTool
from stonechat.assistant.tools.templates import actions_of, has_placeholder
from stonechat.errors import InvalidInput, NotOffered, WrongItem

MAX_PAYLOAD_CHARACTERS = 16_000
MAX_PAYLOAD_DEPTH = 10
MAX_TOLD_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class Step:
    """What an action leads to."""

    sender: WidgetItem
    tool: str | None
    """The HTTP tool that it runs; None if it is only told to the model."""
    arguments: dict[str, Any]
    told: str
    """What the model is told."""
    seen: bool = False
    """Whether the visitor entered or the tenant wrote all of the arguments: nothing is behind the button that a model put
    there."""


def plan_action(config: AgentConfig, sender: WidgetItem | None, action: Action[str, Any]) -> Step:
    """What the action leads to with this agent. Raises `NotOffered`, `WrongItem`, or `InvalidInput` for its size."""
    widgets = [tool for tool in config.tools if isinstance(tool, WidgetTool)]
    if not widgets:
        raise NotOffered("This assistant does not offer actions.")
    if sender is None:
        raise WrongItem("An action belongs to a widget of the conversation.")
    _require_size(action)
    _require_contained(sender, action)
    tool = next((tool.actions[action.type] for tool in widgets if action.type in tool.actions), None)
    payload = action.payload
    shown = json.dumps(payload, ensure_ascii=False)[:MAX_TOLD_CHARACTERS] if payload is not None else "nothing else"
    about = f" “{sender.copy_text[:200]}”" if sender.copy_text else ""
    told = f"The visitor used the card{about}: {action.type[:100]}, with {shown}."
    arguments = payload if isinstance(payload, dict) else {}
    return Step(sender, tool, arguments, told, seen=_seen(widgets, sender, action.type, arguments))


def _seen(widgets: list[WidgetTool], sender: WidgetItem, type_: str, arguments: dict[str, Any]) -> bool:
    """Whether every argument was entered into a field, or stands in a template of the tenant's as it was sent."""
    entered = set(_fields(sender.widget.model_dump(mode="json", by_alias=True, exclude_none=True)))
    rest = {name: value for name, value in arguments.items() if name not in entered}
    written = [
        action.get("payload") for tool in widgets for action in actions_of(tool.template) if action["type"] == type_
    ]
    return not rest or any(
        isinstance(payload, dict)
        and all(
            name in payload and not has_placeholder(payload[name]) and _same(payload[name], value)
            for name, value in rest.items()
        )
        for payload in written
    )


def _require_size(action: Action[str, Any]) -> None:
    try:
        size, depth = len(action.model_dump_json()), _depth(action.payload)
    except (ValueError, RecursionError):
        raise InvalidInput("What was entered cannot be taken.") from None
    if size > MAX_PAYLOAD_CHARACTERS or depth > MAX_PAYLOAD_DEPTH:
        raise InvalidInput(f"An action takes at most {MAX_PAYLOAD_CHARACTERS:,} characters.")


def _require_contained(sender: WidgetItem, action: Action[str, Any]) -> None:
    widget = sender.widget.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields = set(_fields(widget))
    known = [offered for offered in actions_of(widget) if offered["type"] == action.type]
    if not known:
        raise WrongItem("This widget has no such action.")
    for offered in known:
        if offered.get("handler", "server") == "server" and _fits(offered.get("payload"), action.payload, fields):
            return
    if all(offered.get("handler", "server") != "server" for offered in known):
        raise WrongItem("This action is for the page, not for the server.")
    raise WrongItem("This widget has no such action with that payload.")


def _fits(offered: Any, sent: Any, fields: set[str]) -> bool:
    """Whether what was sent is the payload of the stored action, with what was entered into fields laid over it."""
    if offered is None or isinstance(offered, dict):
        given = offered or {}
        if sent is None:
            return not given
        if not isinstance(sent, dict):
            return False
        return all(key in fields or (key in given and _same(given[key], value)) for key, value in sent.items()) and all(
            key in sent for key in given
        )
    return _same(offered, sent)


def _same(offered: Any, sent: Any) -> bool:
    # As JSON, so that 1 is not True; members that are null are not stored.
    return _canonical(offered) == _canonical(sent)


def _canonical(value: Any) -> str:
    def bare(value: Any) -> Any:
        match value:
            case dict():
                return {key: bare(part) for key, part in value.items() if part is not None}
            case list():
                return [bare(part) for part in value]
            case _:
                return value

    return json.dumps(bare(value), sort_keys=True)


def _fields(node: Any) -> Iterator[str]:
    """The names under which a widget's fields send what was entered; of `a.b`, the `a` that it is nested in."""
    match node:
        case dict():
            name = node.get("name")
            if isinstance(name, str) and node.get("type") != "Icon":
                yield name
                yield name.partition(".")[0]
            for value in node.values():
                yield from _fields(value)
        case list():
            for value in node:
                yield from _fields(value)
        case _:
            pass


def _depth(value: Any) -> int:
    match value:
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
        case list():
            return 1 + max(map(_depth, value), default=0)
        case _:
            return 0

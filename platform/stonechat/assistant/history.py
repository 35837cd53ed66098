"""A thread's items as a model's input, within bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import assert_never

from agents import TResponseInputItem
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    EndOfTurnItem,
    GeneratedImageItem,
    HiddenContextItem,
    SDKHiddenContextItem,
    StructuredInputItem,
    TaskItem,
    ThreadItem,
    UserMessageItem,
    WidgetItem,
    WorkflowItem,
)

from stonechat.assistant.tools.search import SEARCH_TOOL_NAME, remembered_chunks

MAX_ITEMS = 60
MAX_CHARACTERS = 80_000
"""Of all the items together; the newest message is always among them, cut if it must be."""


def user_text(item: UserMessageItem) -> str:
    """What a visitor wrote, with tags as @names, the quoted text, and the names of attachments."""
    parts = [part.text if part.type == "input_text" else f"@{part.text}" for part in item.content]
    text = "".join(parts)
    if item.quoted_text:
        text += f"\n\n(This is about: “{item.quoted_text}”)"
    if item.attachments:
        text += "\n\n(Attached: " + ", ".join(attachment.name for attachment in item.attachments) + ")"
    return text


def to_model_input(
    history: Sequence[ThreadItem], *, recalled: Mapping[str, str] | None = None
) -> list[TResponseInputItem]:
    """The newest items that fit, oldest first.

    `recalled` maps the id of a hidden item that remembers a search to that search's output, to be shown again.
    Assistant messages are plain `{"role", "content"}`, which both of OpenAI's APIs accept; a part typed `output_text`
    makes Chat Completions fail from the second turn on.
    """
    chosen: list[list[TResponseInputItem]] = []
    budget = MAX_CHARACTERS
    for item in reversed(history[-MAX_ITEMS:]):
        converted = _convert(item, recalled or {})
        size = sum(_size(part) for part in converted)
        if size > budget:
            if not chosen and isinstance(item, UserMessageItem):
                chosen.append([{"role": "user", "content": user_text(item)[:budget]}])
            break
        budget -= size
        if converted:
            chosen.append(converted)
    # A conversation begins with what a person said; without its beginning it must too.
    while len(chosen) > 1 and not _is_from_user(chosen[-1]):
        chosen.pop()
    return [part for converted in reversed(chosen) for part in converted]


def _convert(item: ThreadItem, recalled: Mapping[str, str]) -> list[TResponseInputItem]:  # noqa: PLR0911
    match item:
        case UserMessageItem():
            return [{"role": "user", "content": user_text(item)}]
        case AssistantMessageItem():
            text = "\n\n".join(content.text for content in item.content if content.text)
            return [{"role": "assistant", "content": text}] if text else []
        case ClientToolCallItem():
            if item.status == "pending":
                return []
            return _call(item.call_id, item.name, json.dumps(item.arguments), json.dumps(item.output))
        case HiddenContextItem():
            output, search = recalled.get(item.id), remembered_chunks(item)
            if output is None or search is None:
                return []
            return _call(f"call_{item.id}", SEARCH_TOOL_NAME, json.dumps({"query": search[0]}), output)
        case (
            SDKHiddenContextItem()
            | WidgetItem()
            | GeneratedImageItem()
            | StructuredInputItem()
            | WorkflowItem()
            | TaskItem()
            | EndOfTurnItem()
        ):
            return []  # nothing here makes these
        case _:
            assert_never(item)


def _call(call_id: str, name: str, arguments: str, output: str) -> list[TResponseInputItem]:
    return [
        {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments},
        {"type": "function_call_output", "call_id": call_id, "output": output},
    ]


def _size(part: TResponseInputItem) -> int:
    values = part.get("content"), part.get("output"), part.get("arguments")
    return sum(len(value) for value in values if isinstance(value, str))


def _is_from_user(converted: list[TResponseInputItem]) -> bool:
    return converted[0].get("role") == "user"

"""One item of a thread as a model reads it: in few words, in shapes that every provider takes.

What is no message of either side (a card that was shown, a form that was filled in, a note of ours) is told in the
visitor's role, framed: some providers take no system message but the first, and what visitors typed into a form must not
gain more authority than their messages have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, assert_never, cast

from agents import TResponseInputItem
from chatkit.types import (
    AssistantMessageItem,
    ClientToolCallItem,
    CustomTask,
    EndOfTurnItem,
    FileTask,
    GeneratedImageItem,
    HiddenContextItem,
    ImageTask,
    SDKHiddenContextItem,
    SearchTask,
    StructuredInputItem,
    Task,
    TaskItem,
    ThoughtTask,
    ThreadItem,
    UserMessageItem,
    WidgetItem,
    WorkflowItem,
)

from stonechat.assistant.guardrails.rules import MAX_TAG_CHARACTERS
from stonechat.assistant.tools.search import SEARCH_TOOL_NAME, remembered_chunks

TOOL_CALL_KIND = "stonechat.tool_call"
"""What marks a hidden context item as a tool's call together with its output."""
MAX_WIDGET_CHARACTERS = 1_500
MAX_NOTE_CHARACTERS = 4_000
MAX_WIDGET_DEPTH = 12
MAX_TAGS = 10
"""Of one message, of which the model is told what the page put into them."""
_OURS = "stonechat."
"""Hidden items whose kind begins so are bookkeeping; only those that are named here are for models."""
_SPOKEN_MEMBERS = ("title", "value", "label", "text", "caption", "alt", "placeholder", "content")


def user_text(item: UserMessageItem) -> str:
    """What a visitor wrote, with tags as @names, what the page put into these, the quoted text, and the names of attachments."""
    parts = [part.text if part.type == "input_text" else f"@{part.text}" for part in item.content]
    text = "".join(parts)
    for tag in [part for part in item.content if part.type == "input_tag" and part.data][:MAX_TAGS]:
        text += f"\n\n(@{tag.text} is {_as_json({'id': tag.id} | tag.data)[:MAX_TAG_CHARACTERS]})"
    if item.quoted_text:
        text += f"\n\n(This is about: “{item.quoted_text}”)"
    if item.attachments:
        text += "\n\n(Attached: " + ", ".join(attachment.name for attachment in item.attachments) + ")"
    return text


def note(text: str) -> TResponseInputItem:
    """Something that neither side said."""
    return {"role": "user", "content": f"<context>{text.replace('</context', '< /context')}</context>"}


def as_input(  # noqa: PLR0911, PLR0912, C901  one line a kind of item
    item: ThreadItem, *, recalled: Mapping[str, str], content: Any = None
) -> list[TResponseInputItem]:
    """The item for a model: nothing, one message, or a call and its output.

    Assistant messages are plain `{"role", "content"}`, which both of OpenAI's APIs accept; a part typed `output_text`
    makes Chat Completions fail from the second turn on. `content` is a user message's, where it is more than text.
    """
    match item:
        case UserMessageItem():
            return [{"role": "user", "content": user_text(item) if content is None else content}]
        case AssistantMessageItem():
            text = "\n\n".join(part.text for part in item.content if part.text)
            return [{"role": "assistant", "content": text}] if text else []
        case ClientToolCallItem():
            if item.status == "pending":
                return []  # a call without an output is no input
            return _call(item.call_id, item.name, item.arguments, item.output)
        case HiddenContextItem():
            return _hidden(item, recalled)
        case SDKHiddenContextItem():
            return [note(item.content[:MAX_NOTE_CHARACTERS])] if item.content else []
        case WidgetItem():
            shown = item.copy_text or _widget_text(item)
            return [note(f"Shown to the visitor: {shown[:MAX_WIDGET_CHARACTERS]}")] if shown else []
        case StructuredInputItem():
            return [note(_form_text(item))]
        case TaskItem():
            text = _task_text(item.task)
            return [note(f"Done for the visitor: {text[:MAX_NOTE_CHARACTERS]}")] if text else []
        case WorkflowItem():
            steps = [text for task in item.workflow.tasks if (text := _task_text(task))]
            return [note(f"Done for the visitor: {'; '.join(steps)[:MAX_NOTE_CHARACTERS]}")] if steps else []
        case GeneratedImageItem():
            return [note("A picture was made and shown to the visitor.")] if item.image is not None else []
        case EndOfTurnItem():
            return []
        case _:
            assert_never(item)


def _hidden(item: HiddenContextItem, recalled: Mapping[str, str]) -> list[TResponseInputItem]:
    if (search := remembered_chunks(item)) is not None:
        output = recalled.get(item.id)
        return [] if output is None else _call(f"call_{item.id}", SEARCH_TOOL_NAME, {"query": search[0]}, output)
    content = item.content
    if isinstance(content, str):
        return [note(content[:MAX_NOTE_CHARACTERS])] if content else []
    if not isinstance(content, dict):
        return []
    kind = content.get("kind")
    if kind == TOOL_CALL_KIND:
        return _remembered_call(item.id, content)
    if isinstance(kind, str) and kind.startswith(_OURS):
        return []
    return [note(_as_json(content)[:MAX_NOTE_CHARACTERS])]


def _remembered_call(item_id: str, content: dict[str, Any]) -> list[TResponseInputItem]:
    name, call_id = content.get("name"), content.get("call_id")
    if not isinstance(name, str) or "output" not in content:
        return []
    return _call(
        call_id if isinstance(call_id, str) else f"call_{item_id}", name, content.get("arguments"), content["output"]
    )


def _call(call_id: str, name: str, arguments: Any, output: Any) -> list[TResponseInputItem]:
    return [
        {
            "type": "function_call",
            "call_id": call_id,
            "name": name,
            "arguments": arguments if isinstance(arguments, str) else _as_json(arguments or {}),
        },
        {
            "type": "function_call_output",
            "call_id": call_id,
            "output": output if isinstance(output, str) else _as_json(output),
        },
    ]


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _form_text(item: StructuredInputItem) -> str:
    lines = []
    for each in item.inputs:
        if each.answer is None:
            given = "not answered yet" if item.status == "pending" else "skipped"
        else:
            given = "skipped" if each.answer.skipped else ", ".join(each.answer.values) or "nothing"
        lines.append(f"{each.question} → {given}")
    return f"The visitor was asked: {'; '.join(lines)[:MAX_NOTE_CHARACTERS]}"


def _task_text(task: Task) -> str:
    match task:
        case CustomTask():
            return ": ".join(part for part in (task.title, task.content) if part)
        case SearchTask():
            asked = ", ".join(task.queries) or task.title_query or ""
            return ": ".join(part for part in (task.title or "searched the web", asked) if part)
        case ThoughtTask():
            return ""  # what a model thought is not what was said
        case FileTask():
            names = ", ".join(source.title for source in task.sources)
            return ": ".join(part for part in (task.title or "read files", names) if part)
        case ImageTask():
            return task.title or ""
        case _:
            assert_never(task)


def _widget_text(item: WidgetItem) -> str:
    raw = item.widget.model_dump(mode="json", exclude_none=True)
    words: list[str] = []
    length = 0
    for word in _words(raw, MAX_WIDGET_DEPTH):
        words.append(word)
        length += len(word) + 3
        if length > MAX_WIDGET_CHARACTERS:
            break
    return " · ".join(words)


def _words(value: Any, depth: int) -> Iterator[str]:
    """What a person would read in a widget, from top to bottom."""
    if depth == 0:
        return
    if isinstance(value, list):
        for each in value:
            yield from _words(each, depth - 1)
    elif isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            if isinstance(member, str):
                if name in _SPOKEN_MEMBERS and member.strip():
                    yield " ".join(member.split())
            elif name not in ("onClickAction", "onSubmitAction", "onChangeAction", "action", "theme"):
                yield from _words(member, depth - 1)

"""Approval: a call that changes something is put to the visitor first, and carried out once, as it was shown.

The question is an item of the thread (multiple choice), the call that waits a row of `tool_approvals`; a hidden item
reminds the thread of it. Only the answer “yes”, given to that item in time and before anything else was said, carries it
out, and only by the one request that moves the row from `pending` to `running`: nothing repeats a call, not even a crash.
An answer in words of one's own (“maybe”, or “yes, but …”) is no yes: nothing is done, the visitor is told so by the platform,
and the model, which may ask again.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from chatkit.types import (
    HiddenContextItem,
    NoticeEvent,
    StructuredInputAnswer,
    StructuredInputItem,
    StructuredInputMultipleChoice,
    StructuredInputMultipleChoiceOption,
    ThreadItem,
    ThreadItemDoneEvent,
    ThreadItemReplacedEvent,
    UserMessageItem,
)
from sqlalchemy import func, select, update
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.assistant.tools.calls import (
    CALL_KIND,
    Ability,
    ApprovalNotPossible,
    Call,
    Outcome,
    record_call,
    run_call,
)
from stonechat.assistant.tools.context import ToolAccess, TurnContext
from stonechat.db.tenancy import TenantRow

YES, NO = "Yes, do it", "No"
VALID_FOR = timedelta(minutes=30)
MAX_SHOWN_CHARACTERS = 2_000
MAX_ANSWER_CHARACTERS = 500
APPROVAL_KIND = "stonechat.approval"
"""What marks a hidden context item as the reminder of a call that waits."""
_QUESTION_ID = "approval"

_HIDDEN = "This assistant’s rules hide or shorten a part of this. Say no if that matters to you."
_WAITS = "The visitor is being asked. Wait for the answer."
_TOO_LONG = "The arguments are too long to be shown to the visitor, who has to approve them. Call again with less."
_DECLINED = "The visitor was asked and did not agree. It was not done. Do not try again unless asked to."
_UNCLEAR = (
    "The visitor was asked and answered in words of their own, which follow, with neither yes nor no. It was not done. Say "
    "so. Only if these words ask for it, call the tool again, so that they can choose."
)
_MOVED_ON = "The visitor was asked and wrote something else instead. It was not done."
_EXPIRED = "The visitor agreed too late: the question had expired. It was not done. Offer to ask again."
_CHANGED = "The tool has changed since the visitor was asked. It was not done. Offer to ask again."
_UNKNOWN = "The visitor agreed, but the service was interrupted while it was being done. Whether it was done is not known. Say so."
_DONE = "The visitor agreed and it was done, once. What came of it was lost. Do not do it again."
_SETTLED = "This was settled before."
_NOTHING_DONE = f"Nothing was done. Only “{YES}” lets me do it; if that is what you want, ask me again."
"""What the visitor is told of an answer that is neither yes nor no."""
_INTERRUPTED = {"running": _UNKNOWN, "done": _DONE}
"""By the state that a process left behind which died before it recorded the outcome."""


class ToolApproval(TenantRow):
    """A call that waits, or waited, for its visitor."""

    __tablename__ = "tool_approvals"

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    """The item that asks."""
    user_id: Mapped[str]
    call: Mapped[dict[str, Any]]
    """`tool`, `arguments`, `key`, and the `fingerprint` of what was to be called."""
    status: Mapped[str] = mapped_column(server_default="pending")
    """`pending`, `running`, `done`, `declined` or `expired`. One that stays `running` is one whose process died."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


async def ask_visitor(context: TurnContext, ability: Ability, call: Call) -> str:
    """Put the call to the visitor. An older question of the thread that still waits is withdrawn."""
    access = _access(context)
    shown = describe(ability, call.arguments)
    if len(shown) > MAX_SHOWN_CHARACTERS:
        raise ApprovalNotPossible(_TOO_LONG)
    cleaned = context.clean(shown)
    if cleaned != shown:
        shown = f"{cleaned}\n{_HIDDEN}"
    item = StructuredInputItem(
        id=context.turn.generate_item_id("structured_input"),
        thread_id=context.thread_id,
        created_at=clock.now(),
        inputs=[
            StructuredInputMultipleChoice(
                id=_QUESTION_ID,
                question=shown,
                options=[StructuredInputMultipleChoiceOption(value=choice) for choice in (YES, NO)],
            )
        ],
    )
    caller = context.caller
    async with access.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        await session.execute(
            update(ToolApproval)
            .where(*_of_thread(context), ToolApproval.status == "pending")
            .values(status="declined", decided_at=func.now())
        )
        session.add(
            ToolApproval(
                tenant_id=caller.tenant_id,
                thread_id=context.thread_id,
                item_id=item.id,
                user_id=caller.user_id,
                call={
                    "tool": call.tool,
                    "arguments": call.arguments,
                    "key": call.key,
                    "fingerprint": ability.fingerprint,
                },
                expires_at=clock.now() + VALID_FOR,
            )
        )
    context.emit(ThreadItemDoneEvent(item=item))
    reminder = HiddenContextItem(
        id=context.turn.generate_item_id("hidden_context"),
        thread_id=context.thread_id,
        created_at=clock.now(),
        content={"kind": APPROVAL_KIND, "item_id": item.id, "name": call.tool, "arguments": call.arguments},
    )
    context.emit(ThreadItemDoneEvent(item=reminder))
    return _WAITS


def has_unsettled(history: Sequence[ThreadItem]) -> bool:
    """Whether a question of the thread has no outcome yet. Asks no database: most turns have none."""
    return any(_unsettled(history))


async def settle_approvals(context: TurnContext) -> None:
    """At the beginning of a turn: carry out what was approved, and put away what was not.

    What came of it is recorded in the thread and stands at the end of the turn's history.
    """
    for asked in list(_unsettled(context.turn.history)):
        if asked.answer == "waiting":
            continue
        settled = await _settle(context, asked)
        context.turn.history = [*context.turn.history, settled]


def describe(ability: Ability, arguments: Mapping[str, Any]) -> str:
    """The question: what will be done, with every argument in full."""
    lines = [f"May I do this? {ability.title}"]
    lines += [f"{_plain(name)}: {_plain(json.dumps(value, ensure_ascii=False))}" for name, value in arguments.items()]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question of the thread whose call has no outcome yet."""

    item_id: str
    name: str
    arguments: dict[str, Any]
    form: StructuredInputItem | None
    answer: Literal["yes", "no", "unclear", "moved on", "waiting"]
    words: str = ""
    """What the visitor answered in words of their own."""


def _unsettled(history: Sequence[ThreadItem]) -> Iterator[_Asked]:
    contents = [item.content for item in history if isinstance(item, HiddenContextItem)]
    settled = {
        content.get("approval")
        for content in contents
        if isinstance(content, dict) and content.get("kind") == CALL_KIND
    }
    for position, item in enumerate(history):
        if not isinstance(item, HiddenContextItem) or not isinstance(item.content, dict):
            continue
        content = item.content
        if content.get("kind") != APPROVAL_KIND or content.get("item_id") in settled:
            continue
        form = next(
            (each for each in history if isinstance(each, StructuredInputItem) and each.id == content["item_id"]), None
        )
        moved_on = any(isinstance(later, UserMessageItem) for later in history[position:])
        answer, words = _answer(form)
        yield _Asked(
            content["item_id"], content["name"], content["arguments"], form, "moved on" if moved_on else answer, words
        )


def _answer(form: StructuredInputItem | None) -> tuple[Literal["yes", "no", "unclear", "waiting"], str]:
    if form is None or form.status == "pending":
        return "waiting", ""
    given = next((each.answer for each in form.inputs if each.id == _QUESTION_ID), None)
    if form.status == "skipped" or given is None or given.skipped:
        return "no", ""
    if given.values == [YES]:
        return "yes", ""
    words = " ".join(value for value in given.values if value.strip())
    if set(given.values) <= {NO} or not words:
        return "no", ""
    return "unclear", words[:MAX_ANSWER_CHARACTERS]


async def _settle(context: TurnContext, asked: _Asked) -> HiddenContextItem:
    if asked.answer == "yes":
        return await _carry_out(context, asked)
    status = await _decline(context, asked.item_id)
    if asked.form is not None and asked.form.status == "pending":
        context.emit(ThreadItemReplacedEvent(item=_skipped(asked.form)))
    told = {"moved on": _MOVED_ON, "unclear": _UNCLEAR}.get(asked.answer, _DECLINED)
    if status in _INTERRUPTED:
        told = _INTERRUPTED[status]
    elif asked.answer == "unclear":
        context.emit(NoticeEvent(level="info", message=_NOTHING_DONE))
    return _record(context, asked, Outcome(error=told, data=asked.words or None))


async def _carry_out(context: TurnContext, asked: _Asked) -> HiddenContextItem:
    access, caller = _access(context), context.caller
    async with access.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        stored = await session.scalar(
            update(ToolApproval)
            .where(
                *_of_thread(context),
                ToolApproval.item_id == asked.item_id,
                ToolApproval.status == "pending",
                ToolApproval.expires_at > clock.now(),
            )
            .values(status="running", decided_at=func.now())
            .returning(ToolApproval.call)
        )
    if stored is None:
        status = await _decline(context, asked.item_id, expired=True)
        told = _EXPIRED if status == "expired" else _INTERRUPTED.get(status, _SETTLED)
        return _record(context, asked, Outcome(error=told))
    ability = context.abilities.get(stored["tool"])
    if ability is None or ability.fingerprint != stored["fingerprint"]:
        await _finish(context, asked.item_id, "declined")
        return _record(context, asked, Outcome(error=_CHANGED))
    context.calls += 1
    call = Call(stored["tool"], stored["arguments"], stored["key"])
    with context.turn.trace.span("tool", ability.name, approved=True) as span:
        item = await run_call(context, ability, call, trace=span.data, approval=asked.item_id)
    await _finish(context, asked.item_id, "done")
    return item


async def _decline(context: TurnContext, item_id: str, *, expired: bool = False) -> str:
    """Put a question that still waits away; returns the state it is in then."""
    access, caller = _access(context), context.caller
    async with access.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        await session.execute(
            update(ToolApproval)
            .where(*_of_thread(context), ToolApproval.item_id == item_id, ToolApproval.status == "pending")
            .values(status="expired" if expired else "declined", decided_at=func.now())
        )
        status = await session.scalar(
            select(ToolApproval.status).where(*_of_thread(context), ToolApproval.item_id == item_id)
        )
    return status or "declined"


async def _finish(context: TurnContext, item_id: str, status: Literal["done", "declined"]) -> None:
    access, caller = _access(context), context.caller
    async with access.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        await session.execute(
            update(ToolApproval)
            .where(*_of_thread(context), ToolApproval.item_id == item_id, ToolApproval.status == "running")
            .values(status=status)
        )


def _record(context: TurnContext, asked: _Asked, outcome: Outcome) -> HiddenContextItem:
    return record_call(context, asked.name, arguments=asked.arguments, output=outcome.text(), approval=asked.item_id)


def _skipped(form: StructuredInputItem) -> StructuredInputItem:
    skipped = form.model_copy(deep=True, update={"status": "skipped"})
    for question in skipped.inputs:
        question.answer = StructuredInputAnswer(skipped=True)
    return skipped


def _of_thread(context: TurnContext) -> tuple[Any, ...]:
    return (
        ToolApproval.tenant_id == context.caller.tenant_id,
        ToolApproval.user_id == context.caller.user_id,
        ToolApproval.thread_id == context.thread_id,
    )


def _access(context: TurnContext) -> ToolAccess:
    if context.access is None:
        raise ApprovalNotPossible("Nothing can be approved here.")
    return context.access


def _plain(text: str) -> str:
    """Text that shows what it is: nothing invisible, nothing that turns it around, no link or picture in Markdown."""
    shown = "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Co") else character
        for character in text
    )
    return shown.replace("![", "!\\u005b").replace("](", "]\\u0028").replace("<", "\\u003c")

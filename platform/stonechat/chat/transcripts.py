"""A conversation as a person reads it: who said what when, from which documents, and what became of each answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.assistant.guardrails.findings import GUARDRAIL_KIND, noted_sentences
from stonechat.chat.codec import HIDDEN_KINDS
from stonechat.chat.conversations import ConversationSummary, get_summary
from stonechat.chat.models import Feedback, RunRow, ThreadItem
from stonechat.chat.reasons import reasons_of
from stonechat.knowledge.browse import find_cited
from stonechat.web import decode_cursor, encode_cursor

MAX_MESSAGES = 100
"""On one page of a transcript."""
MAX_RUNS = 200
Speaker = Literal["visitor", "assistant", "other"]
Outcome = Literal["done", "running", "stopped", "failed", "interrupted"]
_OUTCOMES: dict[str, Outcome] = {
    "running": "running",
    "cancelled": "stopped",
    "failed": "failed",
    "crashed": "interrupted",
}


@dataclass(frozen=True, slots=True)
class Cited:
    """A source of an answer. `document_id` is None once no document has its address or title any more."""

    number: int
    title: str
    url: str | None
    section: str | None
    snippet: str | None
    document_id: str | None
    citation: int = 0
    """The first citation of the answer, counted from 0, that names it."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one side said. Without text, it tells only what became of an answer that never began."""

    id: str
    speaker: Speaker
    kind: str
    """The protocol's `type` of the item; empty for an answer that never began."""
    text: str
    created_at: datetime
    quoted: str = ""
    files: tuple[str, ...] = ()
    sources: tuple[Cited, ...] = ()
    marks: tuple[tuple[int, int], ...] = ()
    """Where the text cites: characters before it, and the source's number; in order."""
    feedback: str | None = None
    reason: str = ""
    """Why the visitor judged it so, in their own words."""
    outcome: Outcome = "done"
    notes: tuple[str, ...] = ()
    """What the guardrails tell the team; then nobody said anything."""
    written_by: str | None = None
    """The person or API key of the team that wrote it; None for visitors and assistants."""
    run_id: str | None = None
    """The turn that ended with this message; None for what was said before a turn's end, and by visitors."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """A page of a conversation, oldest message first."""

    conversation: ConversationSummary
    messages: tuple[Message, ...]
    earlier: str | None
    """The cursor of the page before this one, None if there is none."""


async def read_transcript(
    session: AsyncSession, actor: Actor, *, thread_id: str, limit: int = MAX_MESSAGES, cursor: str | None = None
) -> Transcript:
    """The newest messages of a conversation, or those before `cursor`; `NotFound` if there is no such conversation."""
    conversation = await get_summary(session, actor, thread_id=thread_id)
    limit = max(1, min(limit, MAX_MESSAGES))
    chosen = select(ThreadItem).where(
        ThreadItem.tenant_id == actor.tenant_id,
        ThreadItem.thread_id == thread_id,
        or_(
            ThreadItem.kind.not_in((*HIDDEN_KINDS, "end_of_turn")),
            # What the guardrails did, which the team is told and nobody else.
            and_(
                ThreadItem.kind == "hidden_context_item",
                func.json_extract_path_text(ThreadItem.data, "content", "kind") == GUARDRAIL_KIND,
            ),
        ),
    )
    if cursor is not None:
        chosen = chosen.where(ThreadItem.seq < decode_cursor(cursor, int)[0])
    rows = list(await session.scalars(chosen.order_by(ThreadItem.seq.desc()).limit(limit + 1)))
    page = rows[:limit][::-1]
    more = len(rows) > limit
    judged = await _feedback(session, actor, thread_id, page)
    reasons = await reasons_of(session, actor.tenant_id, thread_id=thread_id, judged=judged)
    ends = await _unusual_ends(session, actor, thread_id)
    items = [(row, json.loads(row.data)) for row in page]
    notes = [note for _, data in items for part in _parts(data) for note in part.get("annotations") or ()]
    sources = [note["source"] for note in notes if isinstance(note, dict) and isinstance(note.get("source"), dict)]
    by_url, by_title = await find_cited(
        session,
        actor,
        urls=[str(source["url"]) for source in sources if source.get("url")],
        titles=[str(source["title"]) for source in sources if not source.get("url") and source.get("title")],
    )
    last = {row.run_id: row.item_id for row in page if row.run_id}
    messages = [
        _message(
            row,
            data,
            by_url=by_url,
            by_title=by_title,
            feedback=judged.get(row.item_id),
            reason=reasons.get(row.item_id, ""),
            outcome=ends[row.run_id].outcome if row.run_id in ends and last[row.run_id] == row.item_id else "done",
            run_id=row.run_id if row.run_id and last[row.run_id] == row.item_id else None,
        )
        for row, data in items
    ]
    silent = [end for end in ends.values() if end.run_id not in last]
    return Transcript(
        conversation,
        tuple(_with_silent(messages, silent, is_newest=cursor is None, is_oldest=not more)),
        encode_cursor(page[0].seq) if more else None,
    )


async def list_judgements(
    session: AsyncSession, actor: Actor, *, thread_ids: Sequence[str]
) -> dict[str, tuple[int, int]]:
    """How many answers of these conversations visitors liked and disliked, for those where they said so."""
    actor.require("read")
    if not thread_ids:
        return {}
    positive = func.count().filter(Feedback.kind == "positive")
    rows = await session.execute(
        select(Feedback.thread_id, positive, func.count() - positive)
        .where(Feedback.tenant_id == actor.tenant_id, Feedback.thread_id.in_(thread_ids))
        .group_by(Feedback.thread_id)
    )
    return {thread_id: (liked, disliked) for thread_id, liked, disliked in rows}


@dataclass(frozen=True, slots=True)
class _End:
    run_id: str
    outcome: Outcome
    started_at: datetime


async def _unusual_ends(session: AsyncSession, actor: Actor, thread_id: str) -> dict[str, _End]:
    """The runs that did not simply finish, by id, oldest first."""
    rows = await session.execute(
        select(RunRow.run_id, RunRow.status, RunRow.started_at)
        .where(RunRow.tenant_id == actor.tenant_id, RunRow.thread_id == thread_id, RunRow.status.in_(_OUTCOMES))
        .order_by(RunRow.started_at.desc())
        .limit(MAX_RUNS)
    )
    return {run_id: _End(run_id, _OUTCOMES[status], started_at) for run_id, status, started_at in reversed(rows.all())}


async def _feedback(session: AsyncSession, actor: Actor, thread_id: str, page: Sequence[ThreadItem]) -> dict[str, str]:
    rows = await session.execute(
        select(Feedback.item_id, Feedback.kind).where(
            Feedback.tenant_id == actor.tenant_id,
            Feedback.thread_id == thread_id,
            Feedback.item_id.in_([row.item_id for row in page]),
        )
    )
    return {row.item_id: row.kind for row in rows}


def _with_silent(
    messages: list[Message], silent: Sequence[_End], *, is_newest: bool, is_oldest: bool
) -> Iterable[Message]:
    """The messages, and among them, by time, the answers of which not a word was kept."""
    waiting = [end for end in silent if messages or is_newest]
    if messages and not is_oldest:
        waiting = [end for end in waiting if end.started_at >= messages[0].created_at]
    for message in messages:
        while waiting and waiting[0].started_at < message.created_at:
            yield _silence(waiting.pop(0))
        yield message
    if is_newest:
        yield from map(_silence, waiting)


def _silence(end: _End) -> Message:
    return Message(end.run_id, "assistant", "", "", end.started_at, outcome=end.outcome, run_id=end.run_id)


def _parts(data: dict[str, Any]) -> list[dict[str, Any]]:
    content = data.get("content")
    return [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []


def _besides(kind: str, data: dict[str, Any]) -> str:
    """What else than messages told or asked: a form with its answers, the words of a card, the titles of steps."""
    match kind:
        case "structured_input":
            return "\n\n".join(_answered(each, str(data.get("status"))) for each in data.get("inputs") or ())
        case "widget":
            return str(data.get("copy_text") or "")
        case "client_tool_call":
            return str(data.get("name") or "")
        case "task" | "workflow":
            tasks = (data.get("workflow") or {}).get("tasks") or [data.get("task") or {}]
            return "\n\n".join(str(task["title"]) for task in tasks if task.get("title"))
        case _:
            return ""


def _answered(asked: dict[str, Any], status: str) -> str:
    answer = asked.get("answer")
    if answer is None:
        given = "(not answered yet)" if status == "pending" else "(skipped)"
    else:
        given = "(skipped)" if answer.get("skipped") else ", ".join(map(str, answer.get("values") or ()))
    return f"{asked.get('question') or ''}\n\n→ {given}"


def _message(
    row: ThreadItem,
    data: dict[str, Any],
    *,
    by_url: dict[str, str],
    by_title: dict[str, str],
    feedback: str | None,
    reason: str,
    outcome: Outcome,
    run_id: str | None,
) -> Message:
    speaker: Speaker = (
        "visitor" if row.kind == "user_message" else "assistant" if row.kind == "assistant_message" else "other"
    )
    text = ""
    numbers: dict[tuple[str, ...], int] = {}
    sources: list[Cited] = []
    marks: list[tuple[int, int]] = []
    citation = -1
    between = "" if row.kind == "user_message" else "\n\n"  # a visitor's tags stand within their sentence
    for part in _parts(data):
        said = ("@" if part.get("type") == "input_tag" else "") + str(part.get("text") or "")
        start = len(text) + len(between) if text else 0
        text = f"{text}{between}{said}" if text else said
        for note in part.get("annotations") or ():
            citation += 1
            source = note.get("source") if isinstance(note, dict) else None
            if not isinstance(source, dict):
                continue
            title, url = str(source.get("title") or ""), source.get("url")
            url = url if isinstance(url, str) and url.startswith(("https://", "http://")) else None
            section = str(source.get("group") or "")
            number = numbers.setdefault((title, url or "", section), len(numbers) + 1)
            if number > len(sources):
                document_id = by_url.get(url) if url else by_title.get(title)
                snippet = str(source.get("description") or "")
                sources.append(
                    Cited(
                        number,
                        title or url or "A document",
                        url,
                        section or None,
                        snippet or None,
                        document_id,
                        citation,
                    )
                )
            index = note.get("index")
            at = index if isinstance(index, int) and 0 <= index <= len(said) else len(said)
            marks.append((start + at, number))
    return Message(
        row.item_id,
        speaker,
        row.kind,
        text or _besides(row.kind, data),
        row.created_at,
        quoted=str(data.get("quoted_text") or ""),
        files=tuple(str(file.get("name") or "") for file in data.get("attachments") or () if isinstance(file, dict)),
        sources=tuple(sources),
        marks=tuple(sorted(marks)),
        feedback=feedback,
        reason=reason,
        outcome=outcome,
        notes=tuple(noted_sentences(data.get("content"))),
        written_by=row.written_by,
        run_id=run_id,
    )

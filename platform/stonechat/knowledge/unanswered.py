"""Questions that assistants could not answer: gathered after the turn, grouped by likeness, counted, settled.

What is kept of a question has been cleaned of personal data by whoever notes it (`assistant/unanswered.py`), and goes with
the message that it was asked in. A group is known by the oldest question that is left in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import BigInteger, Index, delete, func, select, text, tuple_, update
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.tenancy import TenantRow
from stonechat.errors import NotFound
from stonechat.knowledge.grouping import MAX_QUESTION, most_alike, stems
from stonechat.web.paging import MAX_PAGE, decode_cursor, encode_cursor

Reason = Literal["no_passages", "abstained", "said_unknown", "thumbs_down", "handed_over"]
"""Nothing was found; what was found did not answer; the model said that it does not know, and cited nothing (a guess from
its words); the visitor disliked the answer; a person was asked for."""
State = Literal["open", "answered", "dismissed"]

MAX_GROUPS = 2000
"""Of a tenant; beyond, those asked least go, longest ago first."""
MAX_COMPARED = 500
"""Groups of an agent that a question is compared with: those asked last."""
MAX_EXAMPLES = 50
"""Questions kept of a group: the first, and the newest. Others are only counted."""
MAX_FOUND = 8


class UnansweredGroup(TenantRow):
    """Questions to one agent that ask the same. `asked` counts those, too, that are not kept."""

    __tablename__ = "unanswered_groups"
    __table_args__ = (
        Index("unanswered_groups_asked_idx", "tenant_id", "state", "asked", "group_id"),
        Index("unanswered_groups_agent_idx", "tenant_id", "agent_id", "last_seen_at"),
    )

    group_id: Mapped[str] = mapped_column(primary_key=True)
    agent_id: Mapped[str]
    state: Mapped[str] = mapped_column(server_default=sql("'open'"))
    asked: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    first_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]
    """When it was answered or dismissed last."""
    settled_by: Mapped[str | None]
    source_id: Mapped[str | None]
    """The source that holds the answer."""


class UnansweredQuestion(TenantRow):
    """One question, cleaned. Goes with the message that it was asked in."""

    __tablename__ = "unanswered_questions"
    __table_args__ = (Index("unanswered_questions_group_idx", "tenant_id", "group_id", "asked_at"),)

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    item_id: Mapped[str] = mapped_column(primary_key=True)
    """The visitor's message."""
    user_id: Mapped[str]
    group_id: Mapped[str]
    question: Mapped[str]
    stems: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    reason: Mapped[str]
    found: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=sql("'[]'"))
    """The passages that were found for it: `chunk_id`, `title`, `score`."""
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())


@dataclass(frozen=True, slots=True)
class Asked:
    """A question to be noted. `question` has been cleaned."""

    agent_id: str
    user_id: str
    thread_id: str
    item_id: str
    question: str
    reason: Reason
    found: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class GroupView:
    """A group as it is listed."""

    id: str
    agent_id: str
    question: str
    """The oldest that is left."""
    state: State
    asked: int
    reasons: dict[str, int]
    """How many of the questions that are kept went unanswered why."""
    first_seen_at: datetime
    last_seen_at: datetime
    settled_at: datetime | None
    source_id: str | None


@dataclass(frozen=True, slots=True)
class QuestionView:
    """One question of a group."""

    thread_id: str
    question: str
    reason: Reason
    found: list[dict[str, Any]]
    asked_at: datetime


async def note_unanswered(session: AsyncSession, tenant_id: UUID, *, asked: Asked) -> str | None:
    """Count a question, in the group of those like it or in one of its own; the group's id. None if it is counted already,
    or says nothing that could be answered. One that was answered before is open again.
    """
    known, question = stems(asked.question), asked.question.strip()[:MAX_QUESTION]
    if not known or not question:
        return None
    group, row = UnansweredGroup, UnansweredQuestion
    # Two like questions at once must not make two groups.
    await session.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:lock, 0))"), {"lock": f"unanswered {tenant_id}"}
    )
    key = (row.tenant_id == tenant_id, row.thread_id == asked.thread_id, row.item_id == asked.item_id)
    if await session.scalar(select(row.group_id).where(*key)) is not None:
        return None
    group_id = most_alike(known, await _compared(session, tenant_id, asked.agent_id))
    now = clock.now()
    if group_id is None:
        group_id = ids.new_id("unq")
        values = {"group_id": group_id, "agent_id": asked.agent_id, "asked": 1, "first_seen_at": now}
        await session.execute(insert(group).values(tenant_id=tenant_id, last_seen_at=now, **values))
        await _bound_groups(session, tenant_id)
    else:
        reopened = func.nullif(group.state, "answered")
        await session.execute(
            update(group)
            .where(group.tenant_id == tenant_id, group.group_id == group_id)
            .values(asked=group.asked + 1, last_seen_at=now, state=func.coalesce(reopened, "open"))
        )
    await session.execute(
        insert(row).values(
            tenant_id=tenant_id,
            thread_id=asked.thread_id,
            item_id=asked.item_id,
            user_id=asked.user_id,
            group_id=group_id,
            question=question,
            stems=known,
            reason=asked.reason,
            found=list(asked.found)[:MAX_FOUND],
            asked_at=now,
        )
    )
    await _bound_examples(session, tenant_id, group_id)
    return group_id


async def withdraw_judgement(session: AsyncSession, tenant_id: UUID, *, thread_id: str, item_id: str) -> None:
    """The visitor thought better of the thumbs down: a question that was noted only for that is no longer."""
    row, group = UnansweredQuestion, UnansweredGroup
    withdrawn = await session.scalar(
        delete(row)
        .where(
            row.tenant_id == tenant_id,
            row.thread_id == thread_id,
            row.item_id == item_id,
            row.reason == "thumbs_down",
        )
        .returning(row.group_id)
    )
    if withdrawn is not None:
        await session.execute(
            update(group)
            .where(group.tenant_id == tenant_id, group.group_id == withdrawn)
            .values(asked=func.greatest(group.asked - 1, 1))
        )


async def list_groups(
    session: AsyncSession,
    actor: Actor,
    *,
    state: State = "open",
    agent_id: str | None = None,
    since: datetime | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[list[GroupView], str | None]:
    """A page of groups, those asked most first; `since`: asked again after then. And the next page's cursor or None."""
    actor.require("read")
    limit = max(1, min(limit, MAX_PAGE))
    row = UnansweredGroup
    if agent_id is not None and "\x00" in agent_id:
        return [], None
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.state == state)
    if agent_id is not None:
        chosen = chosen.where(row.agent_id == agent_id)
    if since is not None:
        chosen = chosen.where(row.last_seen_at >= since)
    if cursor is not None:
        chosen = chosen.where(tuple_(row.asked, row.group_id) < decode_cursor(cursor, int, str))
    rows = list(await session.scalars(chosen.order_by(row.asked.desc(), row.group_id.desc()).limit(limit + 1)))
    following = encode_cursor(rows[limit - 1].asked, rows[limit - 1].group_id) if len(rows) > limit else None
    return await _views(session, actor.tenant_id, rows[:limit]), following


async def count_open(session: AsyncSession, actor: Actor) -> int:
    """How many groups wait for an answer."""
    actor.require("read")
    row = UnansweredGroup
    held = select(func.count()).select_from(row).where(row.tenant_id == actor.tenant_id, row.state == "open")
    return await session.scalar(held) or 0


async def get_group(session: AsyncSession, actor: Actor, *, group_id: str) -> GroupView:
    """One group, or `NotFound`."""
    actor.require("read")
    return (await _views(session, actor.tenant_id, [await locked_group(session, actor, group_id, lock=False)]))[0]


async def list_questions(session: AsyncSession, actor: Actor, *, group_id: str) -> list[QuestionView]:
    """The questions that are kept of a group, newest first."""
    actor.require("read")
    row = UnansweredQuestion
    chosen = (
        select(row)
        .where(row.tenant_id == actor.tenant_id, row.group_id == group_id)
        .order_by(row.asked_at.desc())
        .limit(MAX_EXAMPLES + 1)
    )
    return [
        QuestionView(each.thread_id, each.question, each.reason, each.found, each.asked_at)  # type: ignore[arg-type]
        for each in await session.scalars(chosen)
    ]


async def settle_group(
    session: AsyncSession, actor: Actor, *, group_id: str, state: State, source_id: str | None = None
) -> GroupView:
    """Answered, dismissed, or open again. Settling what is settled so already changes nothing. Raises `NotFound`."""
    actor.require("write")
    group = await locked_group(session, actor, group_id)
    if group.state != state or source_id is not None:
        group.state = state
        group.settled_at, group.settled_by = (None, None) if state == "open" else (clock.now(), actor.id)
        group.source_id = source_id or group.source_id
        await session.flush()
        await record_audit(session, actor, f"unanswered.{_VERBS[state]}", subject_id=group_id)
    return (await _views(session, actor.tenant_id, [group]))[0]


_VERBS: dict[State, str] = {"open": "reopen", "answered": "answer", "dismissed": "dismiss"}


async def locked_group(session: AsyncSession, actor: Actor, group_id: str, *, lock: bool = True) -> UnansweredGroup:
    """The row, or `NotFound`."""
    row = UnansweredGroup
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.group_id == group_id)
    found = None
    if "\x00" not in group_id:
        found = await session.scalar(chosen.with_for_update() if lock else chosen)
    if found is None:
        raise NotFound("There is no such group of questions.")
    return found


async def _compared(session: AsyncSession, tenant_id: UUID, agent_id: str) -> list[tuple[str, list[int]]]:
    """The agent's groups that were asked last, each with the stems of its oldest question."""
    group, row = UnansweredGroup, UnansweredQuestion
    recent = (
        select(group.group_id)
        .where(group.tenant_id == tenant_id, group.agent_id == agent_id)
        .order_by(group.last_seen_at.desc())
        .limit(MAX_COMPARED)
        .subquery()
    )
    oldest = (
        select(row.stems)
        .where(row.tenant_id == tenant_id, row.group_id == recent.c.group_id)
        .order_by(row.asked_at, row.item_id)
        .limit(1)
        .lateral()
    )
    rows = await session.execute(select(recent.c.group_id, oldest.c.stems).order_by(recent.c.group_id))
    return [(group_id, known) for group_id, known in rows]


async def _bound_groups(session: AsyncSession, tenant_id: UUID) -> None:
    row = UnansweredGroup
    held = await session.scalar(select(func.count()).select_from(row).where(row.tenant_id == tenant_id)) or 0
    if held <= MAX_GROUPS:
        return
    least = (
        select(row.group_id)
        .where(row.tenant_id == tenant_id)
        .order_by((row.state == "open"), row.asked, row.last_seen_at)
        .limit(held - MAX_GROUPS)
    )
    await session.execute(delete(row).where(row.tenant_id == tenant_id, row.group_id.in_(least.scalar_subquery())))


async def _bound_examples(session: AsyncSession, tenant_id: UUID, group_id: str) -> None:
    row = UnansweredQuestion
    within = (row.tenant_id == tenant_id, row.group_id == group_id)
    newest = select(row.thread_id, row.item_id).where(*within).order_by(row.asked_at.desc(), row.item_id.desc())
    beyond = newest.offset(MAX_EXAMPLES - 1).subquery()
    oldest = select(row.thread_id, row.item_id).where(*within).order_by(row.asked_at, row.item_id).limit(1).subquery()
    key = tuple_(row.thread_id, row.item_id)
    await session.execute(delete(row).where(*within, key.in_(select(beyond)), key.not_in(select(oldest))))


async def _views(session: AsyncSession, tenant_id: UUID, groups: Sequence[UnansweredGroup]) -> list[GroupView]:
    row = UnansweredQuestion
    if not groups:
        return []
    rows = await session.execute(
        select(
            row.group_id,
            row.reason,
            func.count().label("held"),
            func.min(row.asked_at).label("first"),
            func.array_agg(sql("question order by asked_at, item_id")).label("questions"),
        )
        .where(row.tenant_id == tenant_id, row.group_id.in_([group.group_id for group in groups]))
        .group_by(row.group_id, row.reason)
    )
    reasons: dict[str, dict[str, int]] = {}
    oldest: dict[str, tuple[datetime, str]] = {}
    for group_id, reason, held, first, questions in rows:
        reasons.setdefault(group_id, {})[reason] = held
        oldest[group_id] = min(oldest.get(group_id, (first, questions[0])), (first, questions[0]))
    return [
        GroupView(
            group.group_id,
            group.agent_id,
            oldest[group.group_id][1] if group.group_id in oldest else "",
            group.state,  # type: ignore[arg-type]
            group.asked,
            reasons.get(group.group_id, {}),
            group.first_seen_at,
            group.last_seen_at,
            group.settled_at,
            group.source_id,
        )
        for group in groups
    ]

"""Conversations as the tenant reads them: listed, searched, read whole, deleted."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, PrivateAttr
from sqlalchemy import ColumnElement, String, and_, delete, exists, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.chat.codec import HIDDEN_KINDS
from stonechat.chat.models import Feedback, Handling, Thread, ThreadItem
from stonechat.chat.reasons import reasons_of
from stonechat.errors import NotFound
from stonechat.identity.models import User
from stonechat.web import Page, decode_cursor, encode_cursor

MAX_ITEMS = 1000
"""The newest items of a conversation that are read at once."""
_SPOKEN = ("user_message", "assistant_message")
_WITHOUT_NUL = r"""case when strpos(cast(thread_items.data as text), '\u0000') = 0 then thread_items.data
    else cast(regexp_replace(cast(thread_items.data as text), '(?<!\\)((?:\\\\)*)(?:\\u0000)+', '\1', 'g') as json) end"""
"""Someone can say NUL, and JSON can hold it, but Postgres makes no text of it: one such message would end every search."""


class ConversationUser(BaseModel):
    """Who asked. `external_id`, `name` and `email` are what the tenant's own signed token said."""

    id: str
    verified: bool
    external_id: str | None
    name: str | None
    email: str | None
    _erased: bool = PrivateAttr(default=False)

    @property
    def erased(self) -> bool:
        """Whether nothing is known of them any more."""
        return self._erased


class ConversationSummary(BaseModel):
    """One line of the list."""

    id: str
    title: str | None
    status: dict[str, Any]
    agent_id: str | None
    user: ConversationUser
    handling: Handling
    """Who answers: the assistant while it is `open` or `resolved`, nobody yet, or a person."""
    handled_by: str | None
    """The person or API key that took it over last."""
    handling_since: AwareDatetime | None
    created_at: AwareDatetime
    updated_at: AwareDatetime


class Conversation(ConversationSummary):
    """A conversation with its items, oldest first, in the protocol's shapes; hidden items are left out.

    An item that a person of the team wrote says so: `written_by`, the id of the person or of the API key.
    """

    items: list[dict[str, Any]]
    more_items: bool
    """Whether there are older items than these."""


class FeedbackView(BaseModel):
    """A visitor's judgement of one answer."""

    item_id: str
    kind: str
    reason: str | None
    """Why, in the visitor's own words."""
    agent_version: int | None
    created_at: AwareDatetime


async def list_conversations(
    session: AsyncSession,
    actor: Actor,
    *,
    query: str | None = None,
    agent_id: str | None = None,
    user_id: str | None = None,
    handling: Handling | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[ConversationSummary]:
    """Conversations, newest first. `query` keeps those in whose title or words it occurs, in any case."""
    actor.require("read")
    if "\x00" in f"{query}{agent_id}{user_id}":  # which nothing stored holds, and Postgres does not compare with
        return Page(data=[])
    chosen = _with_user(actor.tenant_id).order_by(Thread.seq.desc()).limit(limit + 1)
    if agent_id is not None:
        chosen = chosen.where(Thread.agent_id == agent_id)
    if user_id is not None:
        chosen = chosen.where(Thread.user_id == user_id)
    if handling is not None:
        chosen = chosen.where(Thread.handling == handling)
    if query:
        chosen = chosen.where(_contains(actor.tenant_id, query))
    if cursor is not None:
        chosen = chosen.where(Thread.seq < decode_cursor(cursor, int)[0])
    rows = (await session.execute(chosen)).all()
    page = [_summary(thread, user) for thread, user in rows[:limit]]
    return Page(data=page, next_cursor=encode_cursor(rows[limit - 1][0].seq) if len(rows) > limit else None)


async def get_summary(session: AsyncSession, actor: Actor, *, thread_id: str) -> ConversationSummary:
    """One conversation without its items, or `NotFound`."""
    actor.require("read")
    if "\x00" in thread_id:
        raise NotFound("There is no such conversation.")
    row = (await session.execute(_with_user(actor.tenant_id).where(Thread.thread_id == thread_id))).one_or_none()
    if row is None:
        raise NotFound("There is no such conversation.")
    return _summary(*row)


async def answered_in(session: AsyncSession, actor: Actor, *, thread_id: str, run_id: str) -> bool:
    """Whether the run wrote anything into the conversation."""
    actor.require("read")
    written = exists().where(
        ThreadItem.tenant_id == actor.tenant_id, ThreadItem.thread_id == thread_id, ThreadItem.run_id == run_id
    )
    return bool(await session.scalar(select(written)))


async def get_conversation(session: AsyncSession, actor: Actor, *, thread_id: str) -> Conversation:
    """One conversation with its newest `MAX_ITEMS` items, or `NotFound`."""
    summary = await get_summary(session, actor, thread_id=thread_id)
    newest = (
        select(ThreadItem.data, ThreadItem.written_by)
        .where(
            ThreadItem.tenant_id == actor.tenant_id,
            ThreadItem.thread_id == thread_id,
            ThreadItem.kind.not_in(HIDDEN_KINDS),
        )
        .order_by(ThreadItem.seq.desc())
        .limit(MAX_ITEMS + 1)
    )
    rows = (await session.execute(newest)).all()
    items = [
        json.loads(row.data) | ({"written_by": row.written_by} if row.written_by else {})
        for row in reversed(rows[:MAX_ITEMS])
    ]
    return Conversation(**summary.model_dump(), items=items, more_items=len(rows) > MAX_ITEMS)


async def list_feedback(session: AsyncSession, actor: Actor, *, thread_id: str) -> list[FeedbackView]:
    """What the visitor thought of the answers, oldest first, at most one line an answer."""
    actor.require("read")
    await _require(session, actor, thread_id)
    chosen = (
        select(Feedback)
        .where(Feedback.tenant_id == actor.tenant_id, Feedback.thread_id == thread_id)
        .order_by(Feedback.created_at)
        .limit(MAX_ITEMS)
    )
    rows = list(await session.scalars(chosen))
    judged = {row.item_id: row.kind for row in rows}
    reasons = await reasons_of(session, actor.tenant_id, thread_id=thread_id, judged=judged)
    return [
        FeedbackView(
            item_id=row.item_id,
            kind=row.kind,
            reason=reasons.get(row.item_id),
            agent_version=row.agent_version,
            created_at=row.created_at,
        )
        for row in rows
    ]


async def delete_conversation(session: AsyncSession, actor: Actor, *, thread_id: str) -> None:
    """Delete a conversation and all that hangs on it."""
    actor.require("admin")
    await _require(session, actor, thread_id)
    await session.execute(delete(Thread).where(Thread.tenant_id == actor.tenant_id, Thread.thread_id == thread_id))
    await record_audit(session, actor, "conversation.delete", subject_id=thread_id)


async def _require(session: AsyncSession, actor: Actor, thread_id: str) -> None:
    chosen = select(Thread.thread_id).where(Thread.tenant_id == actor.tenant_id, Thread.thread_id == thread_id)
    if await session.scalar(chosen) is None:
        raise NotFound("There is no such conversation.")


def _with_user(tenant_id: UUID) -> Any:
    same = and_(User.tenant_id == Thread.tenant_id, User.user_id == Thread.user_id)
    return select(Thread, User).outerjoin(User, same).where(Thread.tenant_id == tenant_id)


def _contains(tenant_id: UUID, query: str) -> ColumnElement[bool]:
    """In the title, or in what was said; not in the keys and ids of the stored JSON."""
    words = select(func.string_agg(literal_column("part ->> 'text'", String), " ")).select_from(
        func.json_array_elements(literal_column(f"({_WITHOUT_NUL}) -> 'content'")).alias("part")
    )
    said = exists().where(
        ThreadItem.tenant_id == tenant_id,
        ThreadItem.thread_id == Thread.thread_id,
        ThreadItem.kind.in_(_SPOKEN),
        words.scalar_subquery().icontains(query, autoescape=True),
    )
    return or_(Thread.title.icontains(query, autoescape=True), said)


def _summary(thread: Thread, user: User | None) -> ConversationSummary:
    who = ConversationUser(
        id=thread.user_id,
        verified=user.verified if user else False,
        external_id=user.external_id if user else None,
        name=user.name if user else None,
        email=user.email if user else None,
    )
    who._erased = user is None
    return ConversationSummary(
        id=thread.thread_id,
        title=thread.title,
        status=json.loads(thread.status),
        agent_id=thread.agent_id,
        user=who,
        handling=thread.handling,
        handled_by=thread.handled_by,
        handling_since=thread.handling_since,
        created_at=thread.created_at,
        updated_at=thread.updated_at,
    )

"""Conversations that a person answers: asked for by the assistant, taken over by the team, given back.

    open ──(the assistant asks, or a person takes over)──▶ waiting_for_person ──▶ with_person ──▶ open | resolved

While a person is asked for or answers, the assistant is silent: what the visitor writes is stored, and they are told so.
`resolved` is `open` with the mark that a person was done: the assistant answers again.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from typing import Any, Literal

from chatkit.types import (
    ActiveStatus,
    AssistantMessageContent,
    AssistantMessageItem,
    ClosedStatus,
    HiddenContextItem,
    LockedStatus,
    NoticeEvent,
    ThreadItem,
    ThreadStreamEvent,
)
from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import ApiKey, Membership
from stonechat.assistant.config import AgentConfig
from stonechat.chat import models
from stonechat.chat.codec import item_json, status_json, storable_id, whole_text
from stonechat.chat.models import Handling
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, ThreadLocked
from stonechat.events import outbox
from stonechat.identity.caller import Caller

SILENT: frozenset[Handling] = frozenset({"waiting_for_person", "with_person"})
"""While a conversation is so, the assistant says nothing."""
MAX_REPLY = 8_000
MAX_REASON = 300
_GIVEN_BACK = "A person of the team answered in this conversation and has given it back to you."


async def silence(config: AgentConfig) -> AsyncIterator[ThreadStreamEvent]:
    """What stands in for an answer while a person has the conversation."""
    yield NoticeEvent(level="info", message=config.hand_over.waiting)


async def request_person(database: Database, caller: Caller, *, thread_id: str, reason: str) -> None:
    """The assistant asks for a person. Asking again changes nothing."""
    row = models.Thread
    async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        title = await session.scalar(
            select(row.title).where(
                row.tenant_id == caller.tenant_id, row.user_id == caller.user_id, row.thread_id == thread_id
            )
        )
        asked = await session.scalar(
            update(row)
            .where(row.tenant_id == caller.tenant_id, row.user_id == caller.user_id, row.thread_id == thread_id)
            .where(row.handling.not_in(SILENT))
            .values(handling="waiting_for_person", handled_by=None, handling_since=clock.now())
            .returning(row.thread_id)
        )
        if asked is not None:
            told = {"conversation_id": thread_id, "agent_id": caller.agent_id, "user_id": caller.user_id}
            await outbox.record(
                session, caller.tenant_id, "conversation.handed_over", told | {"title": title, "reason": reason}
            )


# What the team does. Each verb asks first whether it already happened.


async def take_over(session: AsyncSession, actor: Actor, *, thread_id: str) -> None:
    """Answer from now on. The answer that is being written stops. Raises `NotFound`."""
    thread = await _load(session, actor, thread_id)
    if thread.handling == "with_person" and thread.handled_by == actor.id:
        return
    await _hand(session, actor, thread, to="with_person", verb="take_over", event="conversation.taken_over")
    await _stop_answer(session, thread)


async def reply(session: AsyncSession, actor: Actor, *, thread_id: str, text: str) -> str:
    """Say something to the visitor, taking the conversation over first; returns the message's id.

    Raises `NotFound`, `InvalidInput`, or `ThreadLocked` for a conversation that was closed.
    """
    text = whole_text(text.replace("\x00", "")).strip()
    if not text or len(text) > MAX_REPLY:
        raise InvalidInput(
            f"A reply has between 1 and {MAX_REPLY:,} characters.",
            errors=[{"field": "text", "message": "Write something." if not text else "This is too long."}],
        )
    thread = await _load(session, actor, thread_id)
    if json.loads(thread.status)["type"] == "closed":
        raise ThreadLocked("This conversation is closed. Open it again to answer.")
    if thread.handling != "with_person":
        await take_over(session, actor, thread_id=thread_id)
    item = AssistantMessageItem(
        id=ids.new_id("msg"),
        thread_id=thread_id,
        created_at=clock.now(),
        content=[AssistantMessageContent(text=text)],
    )
    await _add(session, actor, thread, item)
    await record_audit(session, actor, "conversation.reply", subject_id=thread_id, detail={"item_id": item.id})
    return item.id


async def give_back(session: AsyncSession, actor: Actor, *, thread_id: str) -> None:
    """Let the assistant answer again. Raises `NotFound`."""
    thread = await _load(session, actor, thread_id)
    if thread.handling == "open":
        return
    if thread.handling == "with_person":
        note = HiddenContextItem(id=ids.new_id("hcx"), thread_id=thread_id, created_at=clock.now(), content=_GIVEN_BACK)
        await _add(session, actor, thread, note)
    await _hand(session, actor, thread, to="open", verb="give_back", event="conversation.given_back")


async def resolve(session: AsyncSession, actor: Actor, *, thread_id: str) -> None:
    """Mark what a person was needed for as done; the assistant answers whatever comes next. Raises `NotFound`."""
    thread = await _load(session, actor, thread_id)
    if thread.handling != "resolved":
        await _hand(session, actor, thread, to="resolved", verb="resolve", event="conversation.resolved")


async def set_status(
    session: AsyncSession,
    actor: Actor,
    *,
    thread_id: str,
    status: Literal["active", "locked", "closed"],
    reason: str | None = None,
) -> None:
    """Lock or close a conversation, so that it takes no new messages and says why, or open it again.

    Closing settles what a person was asked for. Raises `NotFound`, `InvalidInput`.
    """
    reason = whole_text((reason or "").replace("\x00", "")).strip() or None
    if reason is not None and len(reason) > MAX_REASON:
        raise InvalidInput(
            f"A reason has at most {MAX_REASON} characters.",
            errors=[{"field": "reason", "message": "This is too long."}],
        )
    thread = await _load(session, actor, thread_id)
    new: ActiveStatus | LockedStatus | ClosedStatus
    match status:
        case "active":
            new = ActiveStatus()
        case "locked":
            new = LockedStatus(reason=reason)
        case "closed":
            new = ClosedStatus(reason=reason)
    if status_json(new) == thread.status:
        return
    thread.status = status_json(new)
    await session.flush()
    verb = {"active": "reopen", "locked": "lock", "closed": "close"}[status]
    await record_audit(
        session, actor, f"conversation.{verb}", subject_id=thread_id, detail={"reason": reason} if reason else None
    )
    await outbox.record(session, actor.tenant_id, f"conversation.{_PAST[verb]}", _told(thread) | {"reason": reason})
    if status != "active":
        await _stop_answer(session, thread)
    if status == "closed" and thread.handling in SILENT:
        await resolve(session, actor, thread_id=thread_id)


async def names_of(session: AsyncSession, actor: Actor, authors: Collection[str]) -> dict[str, str]:
    """The names of members and API keys of the tenant, by id; those who are gone are missing."""
    if not authors:
        return {}
    people = await session.execute(
        select(Person.person_id, Person.name, Person.email)
        .join(Membership, Membership.person_id == Person.person_id)
        .where(Membership.tenant_id == actor.tenant_id, Membership.person_id.in_(authors))
    )
    names = {person_id: name or email for person_id, name, email in people}
    keys = await session.execute(
        select(ApiKey.api_key_id, ApiKey.name).where(
            ApiKey.tenant_id == actor.tenant_id, ApiKey.api_key_id.in_(authors)
        )
    )
    return names | {row.api_key_id: row.name for row in keys}


_PAST = {"reopen": "reopened", "lock": "locked", "close": "closed"}


async def _load(session: AsyncSession, actor: Actor, thread_id: str) -> models.Thread:
    """The conversation, locked against other verbs until the transaction ends."""
    actor.require("write")
    row = models.Thread
    if storable_id(thread_id):
        thread: models.Thread | None = await session.scalar(
            select(row).where(row.tenant_id == actor.tenant_id, row.thread_id == thread_id).with_for_update()
        )
        if thread is not None:
            return thread
    raise NotFound("There is no such conversation.")


async def _hand(
    session: AsyncSession, actor: Actor, thread: models.Thread, *, to: Handling, verb: str, event: str
) -> None:
    thread.handling, thread.handling_since = to, clock.now()
    if to == "with_person":
        thread.handled_by = actor.id
    await session.flush()
    await record_audit(session, actor, f"conversation.{verb}", subject_id=thread.thread_id)
    await outbox.record(session, actor.tenant_id, event, _told(thread))


async def _add(session: AsyncSession, actor: Actor, thread: models.Thread, item: ThreadItem) -> None:
    await session.execute(
        insert(models.ThreadItem).values(
            tenant_id=actor.tenant_id,
            thread_id=thread.thread_id,
            item_id=item.id,
            user_id=thread.user_id,
            kind=item.type,
            data=item_json(item),
            written_by=actor.id or actor.kind,
            created_at=item.created_at,
        )
    )
    thread.updated_at = clock.now()
    await session.flush()


async def _stop_answer(session: AsyncSession, thread: models.Thread) -> None:
    run = models.RunRow
    await session.execute(
        update(run)
        .where(run.tenant_id == thread.tenant_id, run.thread_id == thread.thread_id, run.status == "running")
        .values(cancel_requested=True)
    )


def _told(thread: models.Thread) -> dict[str, Any]:
    return {
        "conversation_id": thread.thread_id,
        "agent_id": thread.agent_id,
        "user_id": thread.user_id,
        "handled_by": thread.handled_by,
    }

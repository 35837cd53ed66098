"""Addresses that visitors left in conversations because the assistant could not answer: asked for once, kept for the team."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Index, func, select, tuple_
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.events import record
from stonechat.identity.caller import Caller
from stonechat.web.paging import MAX_PAGE, Page, decode_cursor, encode_cursor

MAX_SEARCHED = 8_000
"""Characters of a message in which an address is looked for."""
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w-])", re.ASCII)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 10**17

Asking = Literal["ask", "kept", "done"]
"""Ask for an address; one was just left; or there is nothing to ask, because it was asked before."""


class ThreadContactRow(TenantRow):
    """A conversation whose visitor was asked for an address. Goes with the conversation."""

    __tablename__ = "thread_contacts"
    __table_args__ = (
        Index("thread_contacts_left_idx", "tenant_id", "left_at", postgresql_where=sql("email IS NOT NULL")),
    )

    thread_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[str]
    agent_id: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    email: Mapped[str | None]
    left_at: Mapped[datetime | None]


class Contact(BaseModel):
    """An address that a visitor left."""

    model_config = ConfigDict(frozen=True)

    conversation_id: str
    agent_id: str
    email: str
    left_at: AwareDatetime


def email_in(text: str) -> str | None:
    """The first e-mail address in a text."""
    found = _EMAIL.search(text[:MAX_SEARCHED])
    return None if found is None or len(found.group()) > 254 else found.group()


async def ask_for_contact(database: Database, caller: Caller, *, thread_id: str, said: str) -> Asking:
    """What to say to a visitor who wrote `said`: each conversation is asked once, and keeps one address."""
    row, email = ThreadContactRow, email_in(said)
    async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        asked = insert(row).values(
            tenant_id=caller.tenant_id, thread_id=thread_id, user_id=caller.user_id, agent_id=caller.agent_id
        )
        made = await session.scalar(asked.on_conflict_do_nothing().returning(row.thread_id))
        if made is not None:
            return "ask"
        held = await session.scalar(
            select(row)
            .where(row.tenant_id == caller.tenant_id, row.thread_id == thread_id, row.user_id == caller.user_id)
            .with_for_update()
        )
        if held is None or held.email is not None or email is None:
            return "done"
        held.email, held.left_at = email, clock.now()
        await session.flush()
        told = {"conversation_id": thread_id, "agent_id": caller.agent_id, "user_id": caller.user_id, "email": email}
        await record(session, caller.tenant_id, "conversation.contact_left", told)
        return "kept"


async def list_contacts(
    session: AsyncSession, actor: Actor, *, limit: int = 20, cursor: str | None = None
) -> Page[Contact]:
    """The addresses that visitors left, newest first."""
    actor.require("read")
    row = ThreadContactRow
    limit = max(1, min(limit, MAX_PAGE))
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.email.is_not(None))
    if cursor is not None:
        micros, thread_id = decode_cursor(cursor, int, str)
        moment = _EPOCH + timedelta(microseconds=min(abs(micros), _LATEST))
        chosen = chosen.where(tuple_(row.left_at, row.thread_id) < (moment, thread_id))
    found = list(await session.scalars(chosen.order_by(row.left_at.desc(), row.thread_id.desc()).limit(limit + 1)))
    more = len(found) > limit
    page = [
        Contact(conversation_id=each.thread_id, agent_id=each.agent_id, email=each.email, left_at=each.left_at)
        for each in found[:limit]
        if each.email is not None and each.left_at is not None
    ]
    last = page[-1] if page else None
    following = None
    if more and last is not None:
        following = encode_cursor((last.left_at - _EPOCH) // timedelta(microseconds=1), last.conversation_id)
    return Page(data=page, next_cursor=following)

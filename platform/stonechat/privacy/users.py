"""Visitors and users as the tenant sees them: found, taken away, erased, by somebody who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.chat.attachments import Attachments
from stonechat.chat.hub import RunHub
from stonechat.chat.models import Thread
from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.files import FileStore
from stonechat.identity.models import User
from stonechat.privacy.erasure import erase_visitor
from stonechat.privacy.export import export_visitor
from stonechat.web.paging import Page, decode_cursor, encode_cursor


class UserView(BaseModel):
    """Somebody who chats: an anonymous visitor, or a user whom the tenant's own server vouched for."""

    model_config = ConfigDict(frozen=True)

    id: str
    external_id: str | None
    """What the tenant's own server calls them (`sub`); None for visitors."""
    verified: bool
    name: str | None
    email: str | None
    attributes: dict[str, Any]
    created_at: AwareDatetime
    last_seen_at: AwareDatetime


class UserDetail(UserView):
    """One of them, with what there is of theirs."""

    conversations: int


@dataclass(frozen=True, slots=True)
class _Asked:
    """A `Visitor` whom somebody of the tenant asks about."""

    tenant_id: UUID
    user_id: str


async def list_users(
    session: AsyncSession,
    actor: Actor,
    *,
    external_id: str | None = None,
    email: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[UserView]:
    """The tenant's visitors and users, newest first. `external_id` and `email` are whole, as tokens gave them."""
    actor.require("read")
    chosen = select(User).where(User.tenant_id == actor.tenant_id).order_by(User.user_id.desc()).limit(limit + 1)
    if "\x00" in f"{external_id}{email}":  # which nothing stored holds, and Postgres does not compare with
        return Page(data=[])
    if external_id is not None:
        chosen = chosen.where(User.external_id == external_id)
    if email is not None:
        chosen = chosen.where(func.lower(User.email) == email.lower())
    if cursor is not None:
        chosen = chosen.where(User.user_id < decode_cursor(cursor, str)[0])
    rows = list(await session.scalars(chosen))
    return Page(
        data=[_view(row) for row in rows[:limit]],
        next_cursor=encode_cursor(rows[limit - 1].user_id) if len(rows) > limit else None,
    )


async def get_user(session: AsyncSession, actor: Actor, *, user_id: str) -> UserDetail:
    """One of them, or `NotFound`."""
    actor.require("read")
    row = await session.scalar(select(User).where(User.tenant_id == actor.tenant_id, User.user_id == user_id))
    if row is None:
        raise _unknown()
    held = select(func.count()).where(Thread.tenant_id == actor.tenant_id, Thread.user_id == user_id)
    return UserDetail(**_view(row).model_dump(), conversations=await session.scalar(held) or 0)


async def export_user(
    database: Database, actor: Actor, *, user_id: str, attachments: Attachments
) -> AsyncIterator[bytes]:
    """All that is kept of one of them, as `export_visitor` writes it. Raises `NotFound` before the first piece."""
    actor.require("read")
    async with database.tenant(actor.tenant_id, user_id=user_id) as session:
        await _require(session, actor, user_id)
        await record_audit(session, actor, "user.export", subject_id=user_id)
    return export_visitor(database, _Asked(actor.tenant_id, user_id), attachments=attachments)


async def erase_user(database: Database, actor: Actor, *, user_id: str, hub: RunHub, files: FileStore) -> None:
    """Forget one of them, as `erase_visitor` does. Raises `NotFound` where there is nothing, also the second time."""
    actor.require("admin")
    async with database.tenant(actor.tenant_id, user_id=user_id) as session:
        await _require(session, actor, user_id)
    await erase_visitor(database, _Asked(actor.tenant_id, user_id), hub=hub, files=files, by=actor)


async def _require(session: AsyncSession, actor: Actor, user_id: str) -> None:
    """`NotFound` unless the tenant knows them. Of somebody erased, a session that was still open may have left something."""
    known = select(User.user_id).where(User.tenant_id == actor.tenant_id, User.user_id == user_id)
    said = select(Thread.user_id).where(Thread.tenant_id == actor.tenant_id, Thread.user_id == user_id).limit(1)
    if await session.scalar(known) is None and await session.scalar(said) is None:
        raise _unknown()


def _unknown() -> NotFound:
    return NotFound("There is no such visitor or user.")


def _view(row: User) -> UserView:
    return UserView(
        id=row.user_id,
        external_id=row.external_id,
        verified=row.verified,
        name=row.name,
        email=row.email,
        attributes=row.attributes,
        created_at=row.created_at,
        last_seen_at=row.last_seen_at,
    )

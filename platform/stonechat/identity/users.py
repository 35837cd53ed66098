"""Visitors and users: who came back, and who a visitor turns out to be."""

from __future__ import annotations

import hashlib
import re
from typing import Any
from uuid import UUID

from sqlalchemy import func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.identity.models import User
from stonechat.identity.user_tokens import VouchedUser

_VISITOR = re.compile(r"vis_[A-Za-z0-9_-]{43}", re.ASCII)


def read_visitor(secret: str | None) -> str | None:
    """The visitor secret if it looks like one of ours, else None: the browser then gets a new one."""
    return secret if secret is not None and _VISITOR.fullmatch(secret) else None


def new_visitor() -> str:
    """A visitor secret of 256 random bits. Whoever holds it continues the visitor's conversations."""
    return ids.new_secret("vis")


def hash_visitor(secret: str) -> bytes:
    """What is stored of a visitor secret."""
    return hashlib.sha256(secret.encode()).digest()


async def recognise_visitor(session: AsyncSession, tenant_id: UUID, *, visitor_hash: bytes) -> str:
    """The id of the anonymous user behind a visitor secret: the same one each time, made on the first."""
    now = clock.now()
    user_id: str | None = await session.scalar(
        insert(User)
        .values(
            tenant_id=tenant_id,
            user_id=ids.new_id("usr"),
            visitor_hash=visitor_hash,
            created_at=now,
            last_seen_at=now,
        )
        .on_conflict_do_update(index_elements=[User.tenant_id, User.visitor_hash], set_={"last_seen_at": now})
        .returning(User.user_id)
    )
    assert user_id is not None  # noqa: S101  one of the two branches returns
    return user_id


async def recognise_user(session: AsyncSession, tenant_id: UUID, *, user: VouchedUser, visitor_hash: bytes) -> str:
    """The id of the user whom the tenant vouches for.

    An anonymous visitor who signs in for the first time becomes that user and keeps the conversation. Where the user is
    known already, the visitor's anonymous conversations stay behind, with the visitor. Either way the visitor secret no
    longer opens what belongs to the user: whoever signs out on a shared computer is a stranger again.
    """
    known = await _refresh(session, tenant_id, user=user)
    if known is not None:
        return known
    # One at a time for each new user: two tabs that sign in together are one person.
    name = func.hashtextextended(literal(f"{tenant_id}/{user.external_id}"), 0)
    await session.execute(select(func.pg_advisory_xact_lock(name)))
    known = await _refresh(session, tenant_id, user=user) or await _promote(
        session, tenant_id, user=user, visitor_hash=visitor_hash
    )
    if known is not None:
        return known
    now = clock.now()
    created = User(
        tenant_id=tenant_id, user_id=ids.new_id("usr"), created_at=now, **({"attributes": {}} | _values(user))
    )
    session.add(created)
    await session.flush()
    return created.user_id


async def _refresh(session: AsyncSession, tenant_id: UUID, *, user: VouchedUser) -> str | None:
    return await session.scalar(
        update(User)
        .where(User.tenant_id == tenant_id, User.external_id == user.external_id)
        .values(**_values(user))
        .returning(User.user_id)
    )


async def _promote(session: AsyncSession, tenant_id: UUID, *, user: VouchedUser, visitor_hash: bytes) -> str | None:
    return await session.scalar(
        update(User)
        .where(User.tenant_id == tenant_id, User.visitor_hash == visitor_hash, User.external_id.is_(None))
        .values(visitor_hash=None, **_values(user))
        .returning(User.user_id)
    )


def _values(user: VouchedUser) -> dict[str, Any]:
    """What the token says, and nothing about what it leaves out."""
    said = {"name": user.name, "email": user.email, "attributes": user.attributes}
    return {
        "external_id": user.external_id,
        "verified": True,
        "last_seen_at": clock.now(),
        **{field: value for field, value in said.items() if value is not None},
    }

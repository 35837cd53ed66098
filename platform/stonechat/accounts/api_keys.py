"""API keys: made, shown once, used, revoked."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import get_args
from uuid import UUID
from weakref import WeakKeyDictionary

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import delete, event, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from stonechat import clock, ids
from stonechat.accounts.actor import Actor, Scope
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import ApiKey
from stonechat.db.directory import DirectoryApiKey, tenant_of_api_key
from stonechat.db.session import Database
from stonechat.errors import Conflict, InvalidApiKey, InvalidInput, NotFound

MAX_LIVE_KEYS = 100
PREFIX_CHARACTERS = 11
TRUSTED_FOR = timedelta(seconds=5)
"""How long another process may still accept a key after it was revoked; the one that revokes it forgets it at once."""
MAX_REMEMBERED = 4096
USED_EVERY = timedelta(minutes=1)

_Remembered = OrderedDict[bytes, tuple[datetime, Actor]]
_caches: WeakKeyDictionary[Database, _Remembered] = WeakKeyDictionary()


class ApiKeyView(BaseModel):
    """An API key without its secret."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    prefix: str
    scopes: list[Scope]
    created_at: AwareDatetime
    last_used_at: AwareDatetime | None
    revoked_at: AwareDatetime | None


async def create_api_key(
    session: AsyncSession, actor: Actor, *, name: str, scopes: Collection[str]
) -> tuple[ApiKeyView, str]:
    """A new key and its secret, which is not kept and cannot be shown again."""
    actor.require("admin")
    name, chosen = name.strip(), [scope for scope in get_args(Scope) if scope in scopes]
    if not 1 <= len(name) <= 200 or "\x00" in name:
        raise InvalidInput("An API key's name has 1 to 200 characters.")
    if not chosen or len(chosen) != len(set(scopes)):
        raise InvalidInput(f"`scopes` names one or more of {', '.join(get_args(Scope))}.")
    live = (ApiKey.tenant_id == actor.tenant_id) & ApiKey.revoked_at.is_(None)
    if (await session.scalar(select(func.count()).select_from(ApiKey).where(live)) or 0) >= MAX_LIVE_KEYS:
        raise Conflict(f"There are already {MAX_LIVE_KEYS} API keys. Revoke one that is not used.")
    secret = ids.new_secret("sk")
    row = ApiKey(
        tenant_id=actor.tenant_id,
        api_key_id=ids.new_id("key"),
        name=name,
        prefix=secret[:PREFIX_CHARACTERS],
        secret_hash=_digest(secret),
        scopes=chosen,
    )
    session.add(row)
    session.add(DirectoryApiKey(secret_hash=row.secret_hash, tenant_id=actor.tenant_id, api_key_id=row.api_key_id))
    await session.flush()
    await session.refresh(row)
    await record_audit(
        session, actor, "api_key.create", subject_id=row.api_key_id, detail={"name": name, "scopes": chosen}
    )
    return _view(row), secret


async def list_api_keys(
    session: AsyncSession, actor: Actor, *, limit: int = MAX_LIVE_KEYS, before: str | None = None
) -> list[ApiKeyView]:
    """The live keys, newest first; those made before the key `before`."""
    actor.require("admin")
    live = (ApiKey.tenant_id == actor.tenant_id) & ApiKey.revoked_at.is_(None)
    if before is not None:
        live &= ApiKey.api_key_id < before
    rows = await session.scalars(select(ApiKey).where(live).order_by(ApiKey.api_key_id.desc()).limit(limit))
    return [_view(row) for row in rows]


async def revoke_api_key(session: AsyncSession, actor: Actor, *, api_key_id: str) -> None:
    """End a key. It stays in the books; twice changes nothing."""
    actor.require("admin")
    mine = (ApiKey.tenant_id == actor.tenant_id) & (ApiKey.api_key_id == api_key_id)
    row = await session.scalar(select(ApiKey).where(mine).with_for_update())
    if row is None:
        raise NotFound("There is no such API key.")
    if row.revoked_at is not None:
        return
    row.revoked_at = clock.now()
    await session.execute(delete(DirectoryApiKey).where(DirectoryApiKey.secret_hash == row.secret_hash))
    await record_audit(session, actor, "api_key.revoke", subject_id=api_key_id, detail={"name": row.name})
    secret_hash = row.secret_hash

    def forget(_session: Session) -> None:
        for remembered in _caches.values():
            remembered.pop(secret_hash, None)

    event.listen(session.sync_session, "after_commit", forget, once=True)


async def authenticate_api_key(database: Database, header: str | None) -> Actor:
    """Who sends this `Authorization` header, suspended or not. Raises `InvalidApiKey`."""
    scheme, _, secret = (header or "").partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret.startswith("sk_") or len(secret) > 128:
        raise InvalidApiKey("Send an API key: `Authorization: Bearer sk_…`.")
    secret_hash = _digest(secret)
    remembered = _caches.setdefault(database, OrderedDict())
    known = remembered.get(secret_hash)
    if known is not None and known[0] > clock.now():
        return known[1]
    actor = await _look_up(database, secret_hash)
    remembered[secret_hash] = (clock.now() + TRUSTED_FOR, actor)
    remembered.move_to_end(secret_hash)
    while len(remembered) > MAX_REMEMBERED:
        remembered.popitem(last=False)
    return actor


async def _look_up(database: Database, secret_hash: bytes) -> Actor:
    async with database.directory() as session:
        found = await tenant_of_api_key(session, secret_hash)
    if found is None:
        raise InvalidApiKey("This API key is unknown or was revoked.")
    tenant_id, api_key_id = found
    async with database.tenant(tenant_id) as session:
        mine = (ApiKey.tenant_id == tenant_id) & (ApiKey.api_key_id == api_key_id) & ApiKey.revoked_at.is_(None)
        key = await session.scalar(select(ApiKey).where(mine))
        if key is None:
            raise InvalidApiKey("This API key is unknown or was revoked.")
        await _note_use(session, tenant_id, key)
        return Actor(tenant_id, "api_key", api_key_id, frozenset(key.scopes))


async def _note_use(session: AsyncSession, tenant_id: UUID, key: ApiKey) -> None:
    now = clock.now()
    if key.last_used_at is None or key.last_used_at < now - USED_EVERY:
        mine = (ApiKey.tenant_id == tenant_id) & (ApiKey.api_key_id == key.api_key_id)
        await session.execute(update(ApiKey).where(mine).values(last_used_at=now))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _view(row: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=row.api_key_id,
        name=row.name,
        prefix=row.prefix,
        scopes=[scope for scope in get_args(Scope) if scope in row.scopes],
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
    )

"""The tenants' data keys, wrapped, in the table `tenant_keys`; unwrapped only in memory, and not for long."""

from __future__ import annotations

import os
from collections import OrderedDict
from datetime import datetime, timedelta
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.crypto.cipher import TenantCipher
from stonechat.crypto.keyring import KEY_BYTES, Keyring, WrappedKey
from stonechat.db.tenancy import TenantRow

MAX_CACHED_TENANTS = 1024
CACHED_FOR = timedelta(minutes=5)
"""How long a process may go on using a key that was replaced or deleted meanwhile."""


class TenantKey(TenantRow):
    """One version of a tenant's data key."""

    __tablename__ = "tenant_keys"

    key_version: Mapped[int] = mapped_column(primary_key=True)
    wrapped: Mapped[bytes]
    platform_key_id: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


_Cache = OrderedDict[UUID, tuple[datetime, TenantCipher]]
_caches: WeakKeyDictionary[Keyring, _Cache] = WeakKeyDictionary()


async def tenant_cipher(session: AsyncSession, keyring: Keyring, tenant_id: UUID) -> TenantCipher:
    """The tenant's cipher; its first data key is made on first use, in the session's transaction.

    `session` must be the tenant's own. Raises `SecretUnreadable` if the platform key is gone.
    """
    cache = _caches.setdefault(keyring, OrderedDict())
    cached = cache.get(tenant_id)
    if cached is not None and cached[0] > clock.now():
        cache.move_to_end(tenant_id)
        return cached[1]
    data_keys, settled = await _load(session, keyring, tenant_id)
    if not data_keys:
        await _create_first(session, keyring, tenant_id)
        data_keys, settled = await _load(session, keyring, tenant_id)
    cipher = TenantCipher(tenant_id, data_keys)
    if settled:
        cache[tenant_id] = (clock.now() + CACHED_FOR, cipher)
        cache.move_to_end(tenant_id)
        while len(cache) > MAX_CACHED_TENANTS:
            cache.popitem(last=False)
    return cipher


async def rewrap_tenant_keys(session: AsyncSession, keyring: Keyring, tenant_id: UUID) -> int:
    """Move the tenant's data keys under the newest platform key; how many moved. Twice changes nothing.

    Once every tenant's have moved, the old platform key can be removed. What the data keys sealed stays as it is.
    """
    rows = await session.scalars(
        select(TenantKey)
        .where(TenantKey.tenant_id == tenant_id, TenantKey.platform_key_id != keyring.newest_key_id)
        .with_for_update()
    )
    moved = 0
    for row in rows:
        old = WrappedKey(row.platform_key_id, row.wrapped)
        data_key = keyring.unwrap(old, tenant_id=tenant_id, version=row.key_version).data_key
        new = keyring.wrap(data_key, tenant_id=tenant_id, version=row.key_version)
        row.wrapped, row.platform_key_id = new.sealed, new.platform_key_id
        moved += 1
    await session.flush()
    return moved


async def _load(session: AsyncSession, keyring: Keyring, tenant_id: UUID) -> tuple[dict[int, bytes], bool]:
    """The data keys by version, and whether they are settled.

    A key made in this very transaction is not: were it cached and the transaction rolled back, secrets would be sealed
    with a key that nobody kept. Within a transaction `now()` stands still and is what `created_at` was set to.
    """
    rows = await session.execute(
        select(
            TenantKey.key_version,
            TenantKey.wrapped,
            TenantKey.platform_key_id,
            (TenantKey.created_at < func.now()).label("settled"),
        ).where(TenantKey.tenant_id == tenant_id)
    )
    data_keys, settled = {}, True
    for row in rows:
        wrapped = WrappedKey(row.platform_key_id, row.wrapped)
        data_keys[row.key_version] = keyring.unwrap(wrapped, tenant_id=tenant_id, version=row.key_version).data_key
        settled = settled and row.settled
    return data_keys, settled


async def _create_first(session: AsyncSession, keyring: Keyring, tenant_id: UUID) -> None:
    wrapped = keyring.wrap(os.urandom(KEY_BYTES), tenant_id=tenant_id, version=1)
    # Of two transactions that get here at once, the second waits for the first and then uses its key.
    await session.execute(
        insert(TenantKey)
        .values(tenant_id=tenant_id, key_version=1, wrapped=wrapped.sealed, platform_key_id=wrapped.platform_key_id)
        .on_conflict_do_nothing()
    )

"""Data keys in the database: made once, found again, kept apart, moved under new platform keys."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.crypto import tenant_keys
from stonechat.crypto.keyring import Keyring
from stonechat.crypto.tenant_keys import rewrap_tenant_keys, tenant_cipher
from stonechat.db.session import Database
from stonechat.errors import SecretUnreadable

OLD, NEW = os.urandom(20).hex(), os.urandom(20).hex()


async def rows(session: AsyncSession) -> list[tuple[int, bytes, str]]:
    found = await session.execute(text("select key_version, wrapped, platform_key_id from tenant_keys"))
    return [tuple(row) for row in found]


async def seal(database: Database, keyring: Keyring, tenant_id: UUID) -> bytes:
    async with database.tenant(tenant_id) as session:
        cipher = await tenant_cipher(session, keyring, tenant_id)
    return cipher.seal(b"secret", kind="k", subject="s")


async def test_the_first_use_makes_a_key_that_other_processes_find(database: Database, tenant_id: UUID) -> None:
    sealed = await seal(database, Keyring([OLD]), tenant_id)
    # A keyring of its own has a cache of its own, as another process would.
    async with database.tenant(tenant_id) as session:
        cipher = await tenant_cipher(session, Keyring([OLD]), tenant_id)
        assert cipher.open(sealed, kind="k", subject="s") == b"secret"
        [(version, _, platform_key_id)] = await rows(session)
    assert (version, platform_key_id) == (1, Keyring([OLD]).newest_key_id)


async def test_tenants_have_different_keys(database: Database, make_tenant: Callable[[], Awaitable[UUID]]) -> None:
    keyring, one, other = Keyring([OLD]), await make_tenant(), await make_tenant()
    sealed = await seal(database, keyring, one)
    async with database.tenant(other) as session:
        cipher = await tenant_cipher(session, keyring, other)
    with pytest.raises(SecretUnreadable):
        cipher.open(sealed, kind="k", subject="s")


async def test_a_key_moved_to_another_tenants_row_does_not_open(
    database: Database, make_tenant: Callable[[], Awaitable[UUID]]
) -> None:
    keyring, one, other = Keyring([OLD]), await make_tenant(), await make_tenant()
    await seal(database, keyring, one)
    async with database.tenant(one) as session:
        [(_, wrapped, key_id)] = await rows(session)
    async with database.tenant(other) as session:
        await session.execute(
            text("insert into tenant_keys values (:tenant, 1, :wrapped, :key_id)"),
            {"tenant": other, "wrapped": wrapped, "key_id": key_id},
        )
        with pytest.raises(SecretUnreadable):
            await tenant_cipher(session, keyring, other)


async def test_many_first_uses_at_once_agree_on_one_key(database: Database, tenant_id: UUID) -> None:
    everything = await asyncio.gather(*(seal(database, Keyring([OLD]), tenant_id) for _ in range(8)))
    async with database.tenant(tenant_id) as session:
        cipher = await tenant_cipher(session, Keyring([OLD]), tenant_id)
        assert len(await rows(session)) == 1
    assert [cipher.open(sealed, kind="k", subject="s") for sealed in everything] == [b"secret"] * 8


async def test_a_key_that_was_rolled_back_is_never_used_again(database: Database, tenant_id: UUID) -> None:
    keyring = Keyring([OLD])

    async def use_and_fail() -> None:
        async with database.tenant(tenant_id) as session:
            await tenant_cipher(session, keyring, tenant_id)
            await tenant_cipher(session, keyring, tenant_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await use_and_fail()
    sealed = await seal(database, keyring, tenant_id)
    async with database.tenant(tenant_id) as session:
        cipher = await tenant_cipher(session, Keyring([OLD]), tenant_id)
    assert cipher.open(sealed, kind="k", subject="s") == b"secret"


async def test_a_settled_key_is_remembered_and_the_memory_is_bounded(
    database: Database, make_tenant: Callable[[], Awaitable[UUID]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenant_keys, "MAX_CACHED_TENANTS", 2)
    keyring = Keyring([OLD])
    tenants = [await make_tenant() for _ in range(3)]
    statements: list[str] = []

    def count(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "tenant_keys" in statement:
            statements.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", count)
    try:
        for tenant in tenants:
            await seal(database, keyring, tenant)  # makes it
            await seal(database, keyring, tenant)  # finds it settled
        statements.clear()
        await seal(database, keyring, tenants[2])
        await seal(database, keyring, tenants[1])
        assert statements == []
        await seal(database, keyring, tenants[0])
        assert len(statements) == 1
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", count)


async def test_platform_keys_rotate(database: Database, tenant_id: UUID) -> None:
    sealed = await seal(database, Keyring([OLD]), tenant_id)
    rotated = Keyring([NEW, OLD])
    async with database.tenant(tenant_id) as session:
        assert (await tenant_cipher(session, rotated, tenant_id)).open(sealed, kind="k", subject="s") == b"secret"
        assert await rewrap_tenant_keys(session, rotated, tenant_id) == 1
    async with database.tenant(tenant_id) as session:
        assert await rewrap_tenant_keys(session, rotated, tenant_id) == 0
        cipher = await tenant_cipher(session, Keyring([NEW]), tenant_id)
    assert cipher.open(sealed, kind="k", subject="s") == b"secret"


async def test_a_platform_key_removed_too_early_is_said_plainly(database: Database, tenant_id: UUID) -> None:
    await seal(database, Keyring([OLD]), tenant_id)
    async with database.tenant(tenant_id) as session:
        with pytest.raises(SecretUnreadable, match="STONECHAT_SECRET_KEYS"):
            await tenant_cipher(session, Keyring([NEW]), tenant_id)

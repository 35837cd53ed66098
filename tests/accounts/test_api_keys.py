"""A key is shown once, opens what its scopes say, and ends when it is revoked."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.accounts.api_keys import authenticate_api_key, create_api_key, list_api_keys, revoke_api_key
from stonechat.accounts.audit import list_audit
from stonechat.db.session import Database
from stonechat.errors import InvalidApiKey, InvalidInput, NotFound, ScopeMissing


async def new_key(database: Database, tenant_id: UUID, *scopes: str) -> tuple[str, str]:
    async with database.tenant(tenant_id) as session:
        key, secret = await create_api_key(session, system(tenant_id), name="CI", scopes=scopes or ("read",))
    return key.id, secret


async def revoke(database: Database, tenant_id: UUID, key_id: str) -> None:
    async with database.tenant(tenant_id) as session:
        await revoke_api_key(session, system(tenant_id), api_key_id=key_id)


async def test_a_key_names_its_tenant_and_scopes(database: Database, tenant_id: UUID) -> None:
    key_id, secret = await new_key(database, tenant_id, "write", "read")
    actor = await authenticate_api_key(database, f"Bearer {secret}")
    assert actor == Actor(tenant_id, "api_key", key_id, frozenset({"read", "write"}))


async def test_the_secret_is_kept_nowhere(database: Database, tenant_id: UUID) -> None:
    _, secret = await new_key(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        (listed,) = await list_api_keys(session, system(tenant_id))
        rows = [
            str((await session.execute(text(f"select * from {table}"))).all())
            for table in ("api_keys", "directory_api_keys", "audit_log")
        ]
    assert secret.startswith(listed.prefix)
    assert len(listed.prefix) == 11
    assert not any(secret in row for row in rows)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic sk_x", "Bearer sk_unknown", "Bearer pk_x", "Bearer sk_" + "x" * 500],
)
async def test_what_is_no_key_is_refused(database: Database, header: str | None) -> None:
    with pytest.raises(InvalidApiKey):
        await authenticate_api_key(database, header)


async def test_a_revoked_key_is_refused_at_once_here_and_within_seconds_elsewhere(
    database: Database, test_database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id, secret = await new_key(database, tenant_id)
    elsewhere = Database(test_database.web_url, pool_size=2)
    try:
        for door in (database, elsewhere):
            await authenticate_api_key(door, f"Bearer {secret}")
        await revoke(elsewhere, tenant_id, key_id)
        with pytest.raises(InvalidApiKey):
            await authenticate_api_key(elsewhere, f"Bearer {secret}")
        later = clock.now() + timedelta(seconds=5, milliseconds=1)
        monkeypatch.setattr(clock, "now", lambda: later)
        with pytest.raises(InvalidApiKey):
            await authenticate_api_key(database, f"Bearer {secret}")
    finally:
        await elsewhere.close()
    await revoke(database, tenant_id, key_id)  # twice changes nothing


async def test_a_revocation_that_is_rolled_back_did_not_happen(database: Database, tenant_id: UUID) -> None:
    key_id, secret = await new_key(database, tenant_id)

    async def fail() -> None:
        async with database.tenant(tenant_id) as session:
            await revoke_api_key(session, system(tenant_id), api_key_id=key_id)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await authenticate_api_key(database, f"Bearer {secret}")).id == key_id


async def test_the_last_use_is_noted_at_most_once_a_minute(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await new_key(database, tenant_id)
    start = clock.now()
    seen = []
    for seconds in (0, 30, 70):
        monkeypatch.setattr(clock, "now", lambda moment=start + timedelta(seconds=seconds): moment)
        await authenticate_api_key(database, f"Bearer {secret}")
        async with database.tenant(tenant_id) as session:
            seen.append((await list_api_keys(session, system(tenant_id)))[0].last_used_at)
    assert seen == [start, start, start + timedelta(seconds=70)]


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["read"]), ("CI", []), ("CI", ["read", "fly"]), ("x" * 201, ["read"])]
)
async def test_bad_input_makes_no_key(database: Database, tenant_id: UUID, name: str, scopes: list[str]) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(InvalidInput):
            await create_api_key(session, system(tenant_id), name=name, scopes=scopes)
        assert await list_api_keys(session, system(tenant_id)) == []


async def test_only_admins_manage_keys(database: Database, tenant_id: UUID) -> None:
    editor = Actor(tenant_id, "api_key", "key_1", frozenset({"write"}))
    async with database.tenant(tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await create_api_key(session, editor, name="CI", scopes=["read"])
        with pytest.raises(ScopeMissing):
            await list_api_keys(session, editor)
        with pytest.raises(ScopeMissing):
            await revoke_api_key(session, editor, api_key_id="key_1")


async def test_another_tenants_key_is_not_found(database: Database, tenant_id: UUID, make_tenant) -> None:
    key_id, secret = await new_key(database, tenant_id)
    with pytest.raises(NotFound):
        await revoke(database, await make_tenant(), key_id)
    assert (await authenticate_api_key(database, f"Bearer {secret}")).tenant_id == tenant_id


async def test_making_and_revoking_are_in_the_audit_log(database: Database, tenant_id: UUID) -> None:
    key_id, _ = await new_key(database, tenant_id)
    await revoke(database, tenant_id, key_id)
    async with database.tenant(tenant_id) as session:
        entries = (await list_audit(session, system(tenant_id))).data
    assert [(entry.action, entry.subject_id) for entry in entries] == [
        ("api_key.revoke", key_id),
        ("api_key.create", key_id),
    ]

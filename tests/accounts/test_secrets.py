"""Secrets of a tenant: put in, replaced, deleted, and never shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat.accounts import secrets
from stonechat.accounts.actor import Actor, system
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import Conflict, InvalidInput, NotFound, ScopeMissing

KEYRING = Keyring(["a platform key for tests, long enough"])
VALUE = "Bearer swordfish-4711"


async def put(database: Database, tenant_id: UUID, name: str = "shop", value: str = VALUE) -> secrets.SecretView:
    async with database.tenant(tenant_id) as session:
        return await secrets.put_secret(session, system(tenant_id), keyring=KEYRING, name=name, value=value)


async def opened(database: Database, tenant_id: UUID, *names: str) -> dict[str, secrets.OpenedSecret]:
    async with database.tenant(tenant_id) as session:
        return await secrets.open_secrets(session, tenant_id, keyring=KEYRING, names=names)


async def test_a_value_is_stored_sealed_and_opened_by_its_name_only(database: Database, tenant_id: UUID) -> None:
    view = await put(database, tenant_id)
    assert VALUE not in view.model_dump_json()
    async with database.tenant(tenant_id) as session:
        stored = await session.execute(text("select s::text from tenant_secrets s"))
        audit = await session.execute(text("select a::text from audit_log a"))
        written = "".join(row[0] for row in [*stored, *audit])
    assert "shop" in written
    assert "secret.put" in written
    assert "swordfish" not in written
    assert VALUE.encode().hex() not in written
    found = await opened(database, tenant_id, "shop", "other")
    assert found["shop"].value == VALUE
    assert list(found) == ["shop"]
    assert VALUE not in repr(found)


async def test_a_new_value_takes_the_place_of_the_old_and_has_another_version(
    database: Database, tenant_id: UUID
) -> None:
    first = await put(database, tenant_id)
    old = (await opened(database, tenant_id, "shop"))["shop"]
    second = await put(database, tenant_id, value="new")
    new = (await opened(database, tenant_id, "shop"))["shop"]
    assert (first.id, first.created_at) == (second.id, second.created_at)
    assert second.updated_at > first.updated_at
    assert (new.value, new.version != old.version) == ("new", True)


async def test_another_tenants_secret_is_neither_opened_nor_deleted(
    database: Database, tenant_id: UUID, make_tenant: Callable[[], Awaitable[UUID]]
) -> None:
    theirs = await put(database, await make_tenant())
    assert await opened(database, tenant_id, "shop") == {}
    async with database.tenant(tenant_id) as session:
        assert await secrets.list_secrets(session, system(tenant_id)) == []
        with pytest.raises(NotFound):
            await secrets.delete_secret(session, system(tenant_id), secret_id=theirs.id)


async def test_a_deleted_secret_is_gone(database: Database, tenant_id: UUID) -> None:
    view = await put(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await secrets.delete_secret(session, system(tenant_id), secret_id=view.id)
    assert await opened(database, tenant_id, "shop") == {}
    again = await put(database, tenant_id)
    assert again.id != view.id


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Shop", "x"),
        ("9shop", "x"),
        ("", "x"),
        ("s" * 49, "x"),
        ("shop", ""),
        ("shop", " x"),
        ("shop", "a\r\nX: b"),
        ("shop", "ü"),
        ("shop", "x" * 4001),
        ("shop", "\x00"),
    ],
)
async def test_what_could_not_be_sent_is_refused(database: Database, tenant_id: UUID, name: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        await put(database, tenant_id, name, value)


async def test_there_are_not_more_than_a_hundred(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "MAX_SECRETS", 2)
    await put(database, tenant_id, "one")
    await put(database, tenant_id, "two")
    await put(database, tenant_id, "two", "another value")
    with pytest.raises(Conflict):
        await put(database, tenant_id, "three")


async def test_readers_see_names_and_change_nothing(database: Database, tenant_id: UUID) -> None:
    await put(database, tenant_id)
    reader = Actor(tenant_id, "api_key", "key", frozenset({"read"}))
    async with database.tenant(tenant_id) as session:
        assert [view.name for view in await secrets.list_secrets(session, reader)] == ["shop"]
        with pytest.raises(ScopeMissing):
            await secrets.put_secret(session, reader, keyring=KEYRING, name="x", value="y")
        with pytest.raises(ScopeMissing):
            await secrets.delete_secret(session, reader, secret_id="sec_1")

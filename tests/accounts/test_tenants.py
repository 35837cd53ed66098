"""Tenants are made with an owner, found by their members, and renamed."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.accounts.audit import list_audit
from stonechat.accounts.memberships import list_members
from stonechat.accounts.tenants import create_tenant, get_tenant, rename_tenant
from stonechat.db.directory import tenants_of_person
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound


def address() -> str:
    return f"owner-{uuid4().hex[:8]}@example.com"


async def test_a_new_tenant_has_an_owner_who_finds_it(database: Database) -> None:
    email = address()
    made = await create_tenant(database, name="  Acme  ", owner_email=email.upper())
    assert made.owner_is_new
    async with database.tenant(made.tenant_id) as session:
        actor = system(made.tenant_id)
        assert (await get_tenant(session, actor)).name == "Acme"
        assert [(member.email, member.role) for member in await list_members(session, actor)] == [(email, "owner")]
    async with database.directory() as session:
        assert await tenants_of_person(session, made.owner_id) == [made.tenant_id]


async def test_one_person_may_own_several(database: Database) -> None:
    email = address()
    first = await create_tenant(database, name="One", owner_email=email)
    second = await create_tenant(database, name="Two", owner_email=email)
    assert second.owner_id == first.owner_id
    assert not second.owner_is_new
    async with database.directory() as session:
        assert await tenants_of_person(session, first.owner_id) == [first.tenant_id, second.tenant_id]


@pytest.mark.parametrize(("name", "email"), [("", "a@example.com"), ("x" * 201, "a@example.com"), ("Acme", "nobody")])
async def test_nothing_is_made_of_bad_input(database: Database, name: str, email: str) -> None:
    tenant_id = uuid4()
    with pytest.raises(InvalidInput):
        await create_tenant(database, name=name, owner_email=email, tenant_id=tenant_id)
    async with database.platform() as session:
        assert not await session.scalar(text("select 1 from tenants where tenant_id = :id"), {"id": tenant_id})


async def test_renaming_is_written_down_once(database: Database) -> None:
    made = await create_tenant(database, name="Old", owner_email=address())
    actor = system(made.tenant_id)
    for _ in range(2):
        async with database.tenant(made.tenant_id) as session:
            assert (await rename_tenant(session, actor, name="New")).name == "New"
    async with database.tenant(made.tenant_id) as session:
        page = await list_audit(session, actor)
    assert [entry.action for entry in page.data] == ["tenant.rename", "tenant.create"]
    assert page.data[0].detail == {"from": "Old", "to": "New"}


async def test_another_tenant_is_not_found(database: Database) -> None:
    one = await create_tenant(database, name="One", owner_email=address())
    two = await create_tenant(database, name="Two", owner_email=address())
    async with database.tenant(one.tenant_id) as session:
        with pytest.raises(NotFound):
            await get_tenant(session, system(two.tenant_id))

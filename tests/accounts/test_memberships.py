"""Members come and go by their roles; an owner always remains."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest

from stonechat.accounts.actor import Actor, system
from stonechat.accounts.memberships import actor_of_member, add_member, change_role, list_members, remove_member
from stonechat.accounts.models import Role
from stonechat.accounts.tenants import CreatedTenant, create_tenant
from stonechat.db.directory import tenants_of_person
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists, Conflict, InvalidInput, NotFound, RoleTooLow, ScopeMissing


def address() -> str:
    return f"m-{uuid4().hex[:8]}@example.com"


@pytest.fixture
async def tenant(database: Database) -> CreatedTenant:
    return await create_tenant(database, name="Acme", owner_email=address())


async def join(database: Database, tenant_id: UUID, role: Role) -> str:
    async with database.tenant(tenant_id) as session:
        return (await add_member(session, system(tenant_id), email=address(), role=role)).id


async def as_member(database: Database, tenant_id: UUID, person_id: str) -> Actor:
    async with database.tenant(tenant_id) as session:
        return await actor_of_member(session, tenant_id, person_id=person_id)


@pytest.mark.parametrize(
    ("role", "scope"), [("owner", "admin"), ("admin", "admin"), ("editor", "write"), ("viewer", "read")]
)
async def test_a_role_is_a_scope(database: Database, tenant: CreatedTenant, role: Role, scope: str) -> None:
    person_id = await join(database, tenant.tenant_id, role)
    assert (await as_member(database, tenant.tenant_id, person_id)).scopes == {scope}


async def test_members_are_listed_and_findable(database: Database, tenant: CreatedTenant) -> None:
    person_id = await join(database, tenant.tenant_id, "viewer")
    actor = await as_member(database, tenant.tenant_id, person_id)
    async with database.tenant(tenant.tenant_id) as session:
        assert [(m.id, m.role) for m in await list_members(session, actor)] == [
            (tenant.owner_id, "owner"),
            (person_id, "viewer"),
        ]
        assert await tenants_of_person(session, person_id) == [tenant.tenant_id]


async def test_joining_twice_is_refused(database: Database, tenant: CreatedTenant) -> None:
    email = address()
    async with database.tenant(tenant.tenant_id) as session:
        await add_member(session, system(tenant.tenant_id), email=email, role="viewer")
        with pytest.raises(AlreadyExists):
            await add_member(session, system(tenant.tenant_id), email=email.upper(), role="editor")


async def test_an_unknown_role_is_refused(database: Database, tenant: CreatedTenant) -> None:
    async with database.tenant(tenant.tenant_id) as session:
        with pytest.raises(InvalidInput):
            await add_member(session, system(tenant.tenant_id), email=address(), role="emperor")  # type: ignore[arg-type]


async def test_the_last_owner_can_neither_leave_nor_step_down(database: Database, tenant: CreatedTenant) -> None:
    owner = await as_member(database, tenant.tenant_id, tenant.owner_id)
    for actor in (owner, system(tenant.tenant_id)):
        async with database.tenant(tenant.tenant_id) as session:
            with pytest.raises(Conflict):
                await remove_member(session, actor, person_id=tenant.owner_id)
            with pytest.raises(Conflict):
                await change_role(session, actor, person_id=tenant.owner_id, role="admin")


async def test_with_another_owner_they_can(database: Database, tenant: CreatedTenant) -> None:
    await join(database, tenant.tenant_id, "owner")
    owner = await as_member(database, tenant.tenant_id, tenant.owner_id)
    async with database.tenant(tenant.tenant_id) as session:
        await remove_member(session, owner, person_id=tenant.owner_id)
        assert await tenants_of_person(session, tenant.owner_id) == []
        with pytest.raises(NotFound):
            await actor_of_member(session, tenant.tenant_id, person_id=tenant.owner_id)


async def test_two_owners_cannot_remove_each_other_at_once(database: Database, tenant: CreatedTenant) -> None:
    second = await join(database, tenant.tenant_id, "owner")

    async def remove(actor_id: str, victim: str) -> None:
        actor = Actor(tenant.tenant_id, "person", actor_id, frozenset({"admin"}))
        async with database.tenant(tenant.tenant_id) as session:
            await remove_member(session, actor, person_id=victim)

    outcomes = await asyncio.gather(
        remove(tenant.owner_id, second), remove(second, tenant.owner_id), return_exceptions=True
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    async with database.tenant(tenant.tenant_id) as session:
        members = await list_members(session, system(tenant.tenant_id))
    assert [member.role for member in members] == ["owner"]


async def test_only_owners_make_and_unmake_owners(database: Database, tenant: CreatedTenant) -> None:
    admin_id, second = await join(database, tenant.tenant_id, "admin"), await join(database, tenant.tenant_id, "owner")
    admin = await as_member(database, tenant.tenant_id, admin_id)
    key = Actor(tenant.tenant_id, "api_key", "key_1", frozenset({"admin"}))
    for actor in (admin, key):
        async with database.tenant(tenant.tenant_id) as session:
            with pytest.raises(RoleTooLow):
                await change_role(session, actor, person_id=admin_id, role="owner")
            with pytest.raises(RoleTooLow):
                await remove_member(session, actor, person_id=second)
            with pytest.raises(RoleTooLow):
                await add_member(session, actor, email=address(), role="owner")
    owner = await as_member(database, tenant.tenant_id, tenant.owner_id)
    async with database.tenant(tenant.tenant_id) as session:
        assert (await change_role(session, owner, person_id=admin_id, role="owner")).role == "owner"


async def test_editors_and_viewers_manage_nobody_but_may_leave(database: Database, tenant: CreatedTenant) -> None:
    editor_id = await join(database, tenant.tenant_id, "editor")
    editor = await as_member(database, tenant.tenant_id, editor_id)
    async with database.tenant(tenant.tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await add_member(session, editor, email=address(), role="viewer")
        with pytest.raises(ScopeMissing):
            await remove_member(session, editor, person_id=tenant.owner_id)
        await remove_member(session, editor, person_id=editor_id)


async def test_another_tenants_members_are_not_found(database: Database, tenant: CreatedTenant) -> None:
    other = await create_tenant(database, name="Other", owner_email=address())
    async with database.tenant(tenant.tenant_id) as session:
        with pytest.raises(NotFound):
            await remove_member(session, system(tenant.tenant_id), person_id=other.owner_id)

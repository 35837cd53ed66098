"""Domain keys: made for an agent, changed, rotated, revoked, and nobody else's."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from stonechat.accounts.actor import Actor
from stonechat.db.directory import is_listed_origin, tenant_of_domain_key
from stonechat.db.session import Database
from stonechat.errors import InvalidCursor, InvalidInput, NotFound, ScopeMissing, UnknownDomainKey
from stonechat.identity.domain_keys import (
    DomainKeyPatch,
    NewDomainKey,
    create_domain_key,
    get_domain_key,
    last_seen_domain_keys,
    list_domain_keys,
    patch_domain_key,
    revoke_domain_key,
    rotate_domain_key,
)
from support.identity import actor_of, make_agent, make_domain_key, site_keys


async def test_a_new_key_is_public_and_found_by_its_public_half(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id, origins=[" https://Shop.example/", "https://*.shop.example"])
    assert key.key.startswith("pk_")
    assert key.origins == ["https://shop.example", "https://*.shop.example"]
    found = await site_keys(database).find(key.key)
    assert (found.tenant_id, found.domain_key_id, found.agent_id) == (tenant_id, key.id, key.agent_id)
    assert found.admits("https://shop.example")
    assert found.admits("https://a.b.shop.example")
    assert not found.admits("https://evil.example")
    assert not found.admits(None)


async def test_a_key_needs_an_agent_of_the_same_tenant(database: Database, tenant_id: UUID, make_tenant) -> None:
    foreign = await make_agent(database, await make_tenant())
    for agent_id in (foreign, "agt_none"):
        with pytest.raises(NotFound):
            async with database.tenant(tenant_id) as session:
                await create_domain_key(session, actor_of(tenant_id), agent_id=agent_id, new=NewDomainKey(name="x"))


async def test_bad_values_are_refused(database: Database, tenant_id: UUID) -> None:
    agent_id = await make_agent(database, tenant_id)
    with pytest.raises(InvalidInput):
        await make_domain_key(database, tenant_id, origins=["*"], agent_id=agent_id)
    for values in (
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "x", "environment": "moon"},
        {"name": "x", "other": 1},
        {"name": "x", "openai_domain_key": "<script>"},
        {"name": "x", "origins": ["https://a.example"] * 101},
    ):
        with pytest.raises(ValidationError):
            NewDomainKey.model_validate(values)


async def test_what_another_tenant_has_is_not_found(database: Database, tenant_id: UUID, make_tenant) -> None:
    key = await make_domain_key(database, tenant_id)
    stranger = actor_of(await make_tenant())
    with pytest.raises(NotFound):
        async with database.tenant(stranger.tenant_id) as session:
            await get_domain_key(session, stranger, agent_id=key.agent_id, domain_key_id=key.id)
    # Without row-level security's help: the explicit predicate alone.
    with pytest.raises(NotFound):
        async with database.tenant(tenant_id) as session:
            await revoke_domain_key(session, stranger, agent_id=key.agent_id, domain_key_id=key.id)
    async with database.tenant(tenant_id) as session:
        assert (await list_domain_keys(session, stranger, agent_id=key.agent_id)).data == []
    # And without the predicate's: row-level security alone.
    with pytest.raises(NotFound):
        async with database.tenant(stranger.tenant_id) as session:
            await get_domain_key(session, actor_of(tenant_id), agent_id=key.agent_id, domain_key_id=key.id)
    other_agent = await make_agent(database, tenant_id)
    with pytest.raises(NotFound):
        async with database.tenant(tenant_id) as session:
            await get_domain_key(session, actor_of(tenant_id), agent_id=other_agent, domain_key_id=key.id)


async def test_a_patch_changes_what_it_names_and_the_frame_follows(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    actor, door = actor_of(tenant_id), {"agent_id": key.agent_id, "domain_key_id": key.id}
    async with database.tenant(tenant_id) as session:
        patched = await patch_domain_key(
            session,
            actor,
            **door,
            patch=DomainKeyPatch(origins=["https://new.example"], openai_domain_key="domain_pk_1"),
        )
    assert (patched.name, patched.origins, patched.openai_domain_key) == (
        key.name,
        ["https://new.example"],
        "domain_pk_1",
    )
    assert (await site_keys(database).find(key.key)).origins == ("https://new.example",)
    async with database.tenant(tenant_id) as session:
        cleared = await patch_domain_key(session, actor, **door, patch=DomainKeyPatch(openai_domain_key=None))
        assert cleared.openai_domain_key is None
        with pytest.raises(InvalidInput):
            await patch_domain_key(session, actor, **door, patch=DomainKeyPatch(name=None))


async def test_a_stricter_environment_judges_the_origins_anew(database: Database, tenant_id: UUID) -> None:
    agent_id, actor = await make_agent(database, tenant_id), actor_of(tenant_id)
    async with database.tenant(tenant_id) as session:
        new = NewDomainKey(name="dev", environment="development", origins=["http://shop.test"])
        key = await create_domain_key(session, actor, agent_id=agent_id, new=new)
    with pytest.raises(InvalidInput):
        async with database.tenant(tenant_id) as session:
            await patch_domain_key(
                session, actor, agent_id=agent_id, domain_key_id=key.id, patch=DomainKeyPatch(environment="production")
            )


async def test_a_revoked_key_is_unknown(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id, origins=["https://only-here.example"])
    actor, door = actor_of(tenant_id), {"agent_id": key.agent_id, "domain_key_id": key.id}
    async with database.directory() as session:
        assert await is_listed_origin(session, ["https://only-here.example"])
    async with database.tenant(tenant_id) as session:
        await revoke_domain_key(session, actor, **door)
    with pytest.raises(UnknownDomainKey):
        await site_keys(database).find(key.key)
    async with database.directory() as session:
        assert await tenant_of_domain_key(session, key.key) is None
        assert not await is_listed_origin(session, ["https://only-here.example"])
    async with database.tenant(tenant_id) as session:
        assert (await list_domain_keys(session, actor, agent_id=key.agent_id)).data == []
        with pytest.raises(NotFound):
            await revoke_domain_key(session, actor, **door)


async def test_a_rotated_key_lives_beside_the_old_one(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        new = await rotate_domain_key(session, actor_of(tenant_id), agent_id=key.agent_id, domain_key_id=key.id)
    assert new.key != key.key
    assert (new.name, new.origins, new.environment) == (key.name, key.origins, key.environment)
    keys = site_keys(database)
    assert (await keys.find(key.key)).agent_id == (await keys.find(new.key)).agent_id


async def test_lists_page_newest_first(database: Database, tenant_id: UUID) -> None:
    agent_id, actor = await make_agent(database, tenant_id), actor_of(tenant_id)
    made = [(await make_domain_key(database, tenant_id, agent_id=agent_id)).id for _ in range(5)]
    await make_domain_key(database, tenant_id)
    seen, cursor = [], None
    async with database.tenant(tenant_id) as session:
        for _ in range(3):
            page = await list_domain_keys(session, actor, agent_id=agent_id, limit=2, cursor=cursor)
            seen += [key.id for key in page.data]
            cursor = page.next_cursor
        assert cursor is None
        with pytest.raises(InvalidCursor):
            await list_domain_keys(session, actor, agent_id=agent_id, cursor="nonsense")
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)


async def test_scopes_are_asked_for(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    reader = replace(actor_of(tenant_id), scopes=frozenset({"read"}))
    nobody = Actor(tenant_id, "api_key", "key_1")
    async with database.tenant(tenant_id) as session:
        assert (await list_domain_keys(session, reader, agent_id=key.agent_id)).data
        with pytest.raises(ScopeMissing):
            await revoke_domain_key(session, reader, agent_id=key.agent_id, domain_key_id=key.id)
        with pytest.raises(ScopeMissing):
            await list_domain_keys(session, nobody, agent_id=key.agent_id)


async def test_the_audit_log_tells(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        await revoke_domain_key(session, actor_of(tenant_id), agent_id=key.agent_id, domain_key_id=key.id)
    async with database.tenant(tenant_id) as session:
        noted = await session.execute(
            text("select action, subject_id from audit_log where tenant_id = :tenant order by audit_id"),
            {"tenant": tenant_id},
        )
    assert [tuple(row) for row in noted] == [("domain_key.create", key.id), ("domain_key.revoke", key.id)]


@pytest.mark.parametrize("public_key", ["", "pk_none", "x" * 5000, "pk_\x00", "pk_é", "' or 1=1"])
async def test_an_unknown_key_is_unknown(database: Database, public_key: str) -> None:
    keys = site_keys(database)
    for _ in range(2):  # from the database, then from memory
        with pytest.raises(UnknownDomainKey):
            await keys.find(public_key)


async def test_a_suspended_tenants_key_says_so(database: Database, tenant_id: UUID) -> None:
    key = await make_domain_key(database, tenant_id)
    assert not (await site_keys(database).find(key.key)).suspended
    async with database.tenant(tenant_id) as session:
        await session.execute(text("update tenants set status = 'suspended' where tenant_id = :id"), {"id": tenant_id})
    assert (await site_keys(database).find(key.key)).suspended


async def test_whether_an_origin_is_listed_anywhere(database: Database, tenant_id: UUID) -> None:
    await make_domain_key(
        database, tenant_id, origins=["https://*.listed.example:8443", "https://exact-listed.example"]
    )
    keys = site_keys(database)
    assert await keys.is_listed("https://exact-listed.example")
    assert await keys.is_listed("https://a.b.listed.example:8443")
    for origin in ("https://listed.example:8443", "https://a.listed.example", "http://exact-listed.example"):
        assert not await keys.is_listed(origin)
        assert not await keys.is_listed(origin)


async def test_what_was_seen_is_found_first(database: Database, tenant_id: UUID, make_tenant) -> None:
    other = await make_tenant()
    await make_domain_key(database, other, origins=["https://other.example"])
    unseen = await make_domain_key(database, tenant_id, origins=["https://shop.example"])
    seen = await make_domain_key(database, tenant_id, origins=["https://a.example"])
    agent_id = await make_agent(database, tenant_id)
    async with database.tenant(tenant_id) as session:
        trial = await create_domain_key(
            session, actor_of(tenant_id), agent_id=agent_id, new=NewDomainKey(name="x", environment="development")
        )
        seen_at = text("update domain_keys set last_seen_at = now() where domain_key_id = any(:ids)")
        await session.execute(seen_at, {"ids": [seen.id, trial.id]})
        session.expire_all()
        assert [key.id for key in await last_seen_domain_keys(session, actor_of(tenant_id))] == [seen.id, trial.id]
        everywhere = await list_domain_keys(session, actor_of(tenant_id))
    assert [key.id for key in everywhere.data] == [trial.id, seen.id, unseen.id]

"""Agents: draft, publish, roll back."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from stonechat.accounts.actor import Actor, system
from stonechat.assistant import agents
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.config import AgentConfig
from stonechat.db.session import Database
from stonechat.errors import (
    AgentNotPublished,
    Conflict,
    EditConflict,
    InvalidCursor,
    InvalidInput,
    ModelUnknown,
    NotFound,
    ScopeMissing,
    StonechatError,
)
from stonechat.settings import Settings
from support.assistant import add_provider

SETTINGS = Settings()


async def make(database: Database, tenant_id: UUID, **config: Any) -> agents.AgentView:
    async with database.tenant(tenant_id) as session:
        return await agents.create_agent(session, system(tenant_id), config={"name": "Shop"} | config)


async def publish(database: Database, tenant_id: UUID, agent_id: str, settings: Settings = SETTINGS) -> int:
    async with database.tenant(tenant_id) as session:
        view = await agents.publish_agent(session, system(tenant_id), agent_id=agent_id, settings=settings)
        return view.version


async def patch(
    database: Database, tenant_id: UUID, agent_id: str, *, revision: int | None = None, **change: Any
) -> agents.AgentView:
    async with database.tenant(tenant_id) as session:
        return await agents.patch_draft(session, system(tenant_id), agent_id=agent_id, patch=change, revision=revision)


async def test_an_agent_begins_as_a_draft(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id, greeting="Hi")
    assert (agent.draft.greeting, agent.draft_revision, agent.published_version) == ("Hi", 1, None)
    assert agent.id.startswith("agt_")
    async with database.tenant(tenant_id) as session:
        assert await agents.get_agent(session, system(tenant_id), agent_id=agent.id) == agent
        with pytest.raises(AgentNotPublished):
            await agents.published_version(session, tenant_id, agent_id=agent.id)


async def test_visitors_meet_what_was_published_not_the_draft(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id, greeting="First")
    assert await publish(database, tenant_id, agent.id) == 1
    edited = await patch(database, tenant_id, agent.id, greeting="Second", theme={"scheme": "dark"})
    assert (edited.draft.greeting, edited.draft.theme.scheme, edited.draft_revision) == ("Second", "dark", 2)
    async with database.tenant(tenant_id) as session:
        assert await agents.published_version(session, tenant_id, agent_id=agent.id) == 1
        published = await agents.load_config(session, tenant_id, agent_id=agent.id, version=1)
        draft = await agents.load_config(session, tenant_id, agent_id=agent.id, version="draft")
    assert (published.greeting, draft.greeting) == ("First", "Second")
    assert await publish(database, tenant_id, agent.id) == 2


async def test_publishing_the_same_again_is_the_same_version(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    assert await publish(database, tenant_id, agent.id) == 1
    assert await publish(database, tenant_id, agent.id) == 1


async def test_rolling_back_publishes_a_copy_and_keeps_the_draft(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id, greeting="First")
    await publish(database, tenant_id, agent.id)
    await patch(database, tenant_id, agent.id, greeting="Second")
    await publish(database, tenant_id, agent.id)
    actor = system(tenant_id)
    async with database.tenant(tenant_id) as session:
        back = await agents.rollback_agent(session, actor, agent_id=agent.id, version=1, settings=SETTINGS)
        assert (back.version, back.config.greeting) == (3, "First")
        versions = await agents.list_versions(session, actor, agent_id=agent.id)
        assert [(version.version, version.config.greeting) for version in versions] == [
            (3, "First"),
            (2, "Second"),
            (1, "First"),
        ]
        assert (await agents.get_agent(session, actor, agent_id=agent.id)).draft.greeting == "Second"
        for missing in (0, 9, 2**40):
            with pytest.raises(NotFound):
                await agents.rollback_agent(session, actor, agent_id=agent.id, version=missing, settings=SETTINGS)


async def test_null_means_the_default_and_bad_patches_change_nothing(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id, greeting="Hi", model="scripted")
    patched = await patch(database, tenant_id, agent.id, greeting=None, model=None)
    assert (patched.draft.greeting, patched.draft.model) == (AgentConfig(name="x").greeting, "extractive")
    with pytest.raises(InvalidInput):
        await patch(database, tenant_id, agent.id, name=None)
    unchanged = await patch(database, tenant_id, agent.id, name="Shop")
    assert unchanged.draft_revision == patched.draft_revision


async def test_of_two_editors_the_second_is_told(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    results = await asyncio.gather(
        patch(database, tenant_id, agent.id, revision=1, greeting="A"),
        patch(database, tenant_id, agent.id, revision=1, greeting="B"),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == ["AgentView", "EditConflict"]
    with pytest.raises(EditConflict) as caught:
        await patch(database, tenant_id, agent.id, revision=1, greeting="C")
    assert caught.value.members["draft_revision"] == 2


async def test_two_publishers_at_once_make_one_version(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    versions = await asyncio.gather(*(publish(database, tenant_id, agent.id) for _ in range(4)))
    assert versions == [1, 1, 1, 1]


async def test_models_that_nothing_here_can_answer_with_are_not_published(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id, model="acme/large")
    with pytest.raises(ModelUnknown, match="acme"):
        await publish(database, tenant_id, agent.id)
    await add_provider(database, tenant_id, name="acme", base_url="https://models.example/v1")
    assert await publish(database, tenant_id, agent.id) == 1

    await patch(database, tenant_id, agent.id, model="openai/gpt")
    with pytest.raises(ModelUnknown):
        await publish(database, tenant_id, agent.id)
    with_key = Settings(openai_api_key=SecretStr("sk-platform"))
    assert await publish(database, tenant_id, agent.id, with_key) == 2

    await patch(database, tenant_id, agent.id, model="scripted")
    production = Settings(
        environment="production", secret_keys=(SecretStr("k" * 32),), configured_public_url="https://chat.example"
    )
    with pytest.raises(ModelUnknown, match="load tests"):
        await publish(database, tenant_id, agent.id, production)
    assert await publish(database, tenant_id, agent.id) == 3


async def test_archived_agents_answer_no_one(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    await publish(database, tenant_id, agent.id)
    actor = system(tenant_id)
    async with database.tenant(tenant_id) as session:
        archived = await agents.archive_agent(session, actor, agent_id=agent.id)
        assert archived.archived_at is not None
        assert await agents.archive_agent(session, actor, agent_id=agent.id) == archived
        assert (await agents.list_agents(session, actor)).data == []
        assert len((await agents.list_agents(session, actor, archived=True)).data) == 1
        with pytest.raises(NotFound):
            await agents.published_version(session, tenant_id, agent_id=agent.id)
        with pytest.raises(Conflict):
            await agents.publish_agent(session, actor, agent_id=agent.id, settings=SETTINGS)


async def test_a_retired_agent_comes_back_as_it_was(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    await publish(database, tenant_id, agent.id)
    actor = system(tenant_id)
    async with database.tenant(tenant_id) as session:
        await agents.archive_agent(session, actor, agent_id=agent.id)
        back = await agents.restore_agent(session, actor, agent_id=agent.id)
        assert back.archived_at is None
        assert await agents.restore_agent(session, actor, agent_id=agent.id) == back
        assert await agents.published_version(session, tenant_id, agent_id=agent.id) == 1


async def test_nobody_publishes_what_they_have_not_seen(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    await patch(database, tenant_id, agent.id, greeting="By someone else")
    async with database.tenant(tenant_id) as session:
        actor = system(tenant_id)
        with pytest.raises(EditConflict):
            await agents.publish_agent(session, actor, agent_id=agent.id, settings=SETTINGS, revision=1)
        made = await agents.publish_agent(session, actor, agent_id=agent.id, settings=SETTINGS, revision=2)
        assert made.config.greeting == "By someone else"


async def test_live_versions_are_those_that_visitors_meet(database: Database, make_tenant: Any) -> None:
    mine, theirs = await make_tenant(), await make_tenant()
    live, never, foreign = await make(database, mine), await make(database, mine), await make(database, theirs)
    await publish(database, mine, live.id)
    await patch(database, mine, live.id, greeting="Second")
    await publish(database, mine, live.id)
    await publish(database, theirs, foreign.id)
    async with database.tenant(mine) as session:
        found = await agents.live_versions(session, system(mine), agent_ids=[live.id, never.id, foreign.id])
    assert {agent_id: (view.version, view.config.greeting) for agent_id, view in found.items()} == {
        live.id: (2, "Second")
    }


async def test_lists_page_newest_first(database: Database, tenant_id: UUID) -> None:
    made = [await make(database, tenant_id, name=f"Agent {number}") for number in range(5)]
    actor, seen, cursor = system(tenant_id), [], None
    async with database.tenant(tenant_id) as session:
        while True:
            page = await agents.list_agents(session, actor, limit=2, cursor=cursor)
            seen += [agent.id for agent in page.data]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == sorted((agent.id for agent in made), reverse=True)
        with pytest.raises(InvalidCursor):
            await agents.list_agents(session, actor, cursor="nonsense")
        with pytest.raises(InvalidInput):
            await agents.list_agents(session, actor, limit=101)


async def test_deleting_takes_the_versions_along(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    await publish(database, tenant_id, agent.id)
    async with database.tenant(tenant_id) as session:
        await agents.delete_agent(session, system(tenant_id), agent_id=agent.id)
        with pytest.raises(NotFound):
            await agents.load_config(session, tenant_id, agent_id=agent.id, version=1)
        with pytest.raises(NotFound):
            await agents.get_agent(session, system(tenant_id), agent_id=agent.id)


async def test_another_tenants_agent_is_not_found(database: Database, make_tenant: Any) -> None:
    mine, theirs = await make_tenant(), await make_tenant()
    agent = await make(database, theirs)
    await publish(database, theirs, agent.id)
    actor = system(mine)
    async with database.tenant(mine) as session:
        for attempt in (
            agents.get_agent(session, actor, agent_id=agent.id),
            agents.patch_draft(session, actor, agent_id=agent.id, patch={"greeting": "x"}),
            agents.publish_agent(session, actor, agent_id=agent.id, settings=SETTINGS),
            agents.rollback_agent(session, actor, agent_id=agent.id, version=1, settings=SETTINGS),
            agents.list_versions(session, actor, agent_id=agent.id),
            agents.archive_agent(session, actor, agent_id=agent.id),
            agents.restore_agent(session, actor, agent_id=agent.id),
            agents.delete_agent(session, actor, agent_id=agent.id),
            agents.published_version(session, mine, agent_id=agent.id),
            agents.load_config(session, mine, agent_id=agent.id, version=1),
            agents.load_config(session, mine, agent_id=agent.id, version="draft"),
        ):
            with pytest.raises(NotFound):
                await attempt


async def test_scopes(database: Database, tenant_id: UUID) -> None:
    agent = await make(database, tenant_id)
    reader = Actor(tenant_id, "api_key", "key_1", frozenset({"read"}))
    writer = Actor(tenant_id, "api_key", "key_1", frozenset({"write"}))
    async with database.tenant(tenant_id) as session:
        await agents.get_agent(session, reader, agent_id=agent.id)
        refused: list[type[StonechatError]] = []
        for attempt in (
            agents.create_agent(session, reader, config={"name": "x"}),
            agents.patch_draft(session, reader, agent_id=agent.id, patch={}),
            agents.publish_agent(session, reader, agent_id=agent.id, settings=SETTINGS),
            agents.delete_agent(session, writer, agent_id=agent.id),
        ):
            try:
                await attempt
            except ScopeMissing as error:
                refused.append(type(error))
        assert len(refused) == 4


async def test_published_configurations_are_read_once_and_the_cache_is_bounded(
    database: Database, tenant_id: UUID
) -> None:
    agent = await make(database, tenant_id)
    await publish(database, tenant_id, agent.id)
    cache = ConfigCache(max_size=2)
    async with database.tenant(tenant_id) as session:
        first = await cache.load(session, tenant_id, agent_id=agent.id, version=1)
        assert await cache.load(session, tenant_id, agent_id=agent.id, version=1) is first
    cache.put(tenant_id, "agt_b", 1, first)
    assert cache.get(tenant_id, agent.id, 1) is first
    cache.put(tenant_id, "agt_c", 1, first)
    assert len(cache) == 2
    assert cache.get(tenant_id, "agt_b", 1) is None
    assert cache.get(UUID(int=7), agent.id, 1) is None

"""What comes into being asks the plan first; what is there can always be read, exported and deleted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.accounts.invitations import accept_as_newcomer, invite, list_invitations, revoke_invitation
from stonechat.accounts.memberships import add_member, list_members, remove_member
from stonechat.assistant.agents import (
    archive_agent,
    create_agent,
    delete_agent,
    patch_draft,
    publish_agent,
    restore_agent,
)
from stonechat.db.session import Database
from stonechat.errors import FeatureNotInPlan, PlanLimitReached
from stonechat.knowledge import service, sources
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.models import Source
from stonechat.knowledge.schemas import TextSourceIn, WebSourceIn
from stonechat.knowledge.web.access import WebAccess
from stonechat.knowledge.web.service import create_web_source, start_due_syncs, sync_source, update_source
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.providers.service import create_provider
from stonechat.settings import Settings
from support.assistant import KEYRING
from support.knowledge import scratch_knowledge
from support.plans import OPERATOR

HTTP_TOOL = {
    "kind": "http",
    "name": "stock",
    "description": "Looks up what is in stock.",
    "url": "https://shop.example/stock",
}
MCP_SERVER = {
    "kind": "mcp",
    "name": "desk",
    "url": "https://desk.example/mcp",
    "allowed": ["open"],
}
On = Callable[[str], Awaitable[Actor]]


@pytest.fixture
def on(database: Database, tenant_id: UUID) -> On:
    """Puts the tenant on a plan; returns an actor who may do anything in it."""

    async def put(plan: str) -> Actor:
        async with database.tenant(tenant_id) as session:
            await set_subscription(session, tenant_id, plan_key=plan, provider="manual", status="active")
        return system(tenant_id)

    return put


@pytest.fixture
async def knowledge(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    async with scratch_knowledge(database, tmp_path) as room:
        yield room


async def test_agents_fill_the_plan_until_one_is_retired(database: Database, on: On) -> None:
    actor = await on("free")
    async with database.tenant(actor.tenant_id) as session:
        first = await create_agent(session, actor, config={"name": "One"})
        with pytest.raises(PlanLimitReached, match="includes 1 agent, and there is 1"):
            await create_agent(session, actor, config={"name": "Two"})
        await archive_agent(session, actor, agent_id=first.id)
        second = await create_agent(session, actor, config={"name": "Two"})
        with pytest.raises(PlanLimitReached):
            await restore_agent(session, actor, agent_id=first.id)
        await delete_agent(session, actor, agent_id=second.id)
        await restore_agent(session, actor, agent_id=first.id)


async def test_a_smaller_plan_takes_nothing_away(database: Database, on: On) -> None:
    actor = await on("starter")
    async with database.tenant(actor.tenant_id) as session:
        agents = [await create_agent(session, actor, config={"name": f"Agent {n}"}) for n in range(3)]
    await on("free")
    async with database.tenant(actor.tenant_id) as session:
        for agent in agents:
            await patch_draft(session, actor, agent_id=agent.id, patch={"greeting": "Still here."})
            await publish_agent(session, actor, agent_id=agent.id, settings=Settings())
        with pytest.raises(PlanLimitReached, match="there are 3"):
            await create_agent(session, actor, config={"name": "Four"})


@pytest.mark.parametrize(
    ("change", "feature"),
    [
        ({"tools": [HTTP_TOOL]}, "http_tools"),
        ({"tools": [MCP_SERVER]}, "mcp_servers"),
        ({"attachments": {"enabled": True}}, "attachments"),
        ({"dictation": {"enabled": True}}, "dictation"),
        ({"hand_over": {"enabled": True}}, "hand_over"),
    ],
)
async def test_a_configuration_uses_what_the_plan_includes(
    database: Database, on: On, change: dict[str, Any], feature: str
) -> None:
    actor = await on("business")
    async with database.tenant(actor.tenant_id) as session:
        agent = await create_agent(session, actor, config={"name": "Plain"})
        full = await create_agent(session, actor, config={"name": "Full", **change})
        published = await publish_agent(session, actor, agent_id=full.id, settings=Settings())
    await on("free")
    async with database.tenant(actor.tenant_id) as session:
        with pytest.raises(FeatureNotInPlan) as refused:
            await patch_draft(session, actor, agent_id=agent.id, patch=change)
        assert refused.value.members["feature"] == feature
        # What was there before can be worded anew, and taken out, and then it is gone.
        await patch_draft(session, actor, agent_id=full.id, patch={"greeting": "Hello."})
        again = await publish_agent(session, actor, agent_id=full.id, settings=Settings())
        assert again.version == published.version + 1
        await patch_draft(session, actor, agent_id=full.id, patch=dict.fromkeys(change))
        with pytest.raises(FeatureNotInPlan):
            await patch_draft(session, actor, agent_id=full.id, patch=change)


async def test_an_exception_opens_a_feature(database: Database, on: On) -> None:
    actor = await on("free")
    async with database.tenant(actor.tenant_id) as session:
        with pytest.raises(FeatureNotInPlan):
            await create_agent(session, actor, config={"name": "Tools", "tools": [MCP_SERVER]})
        await add_override(
            session,
            actor.tenant_id,
            field="mcp_servers",
            value=True,
            reason="A pilot.",
            expires_at=clock.now() + timedelta(days=30),
            by=OPERATOR,
        )
        await create_agent(session, actor, config={"name": "Tools", "tools": [MCP_SERVER]})


async def test_own_models_are_a_feature(database: Database, on: On) -> None:
    actor = await on("starter")
    provider: dict[str, Any] = {"name": "mine", "kind": "openai", "api_key": "sk-test", "keyring": KEYRING}
    async with database.tenant(actor.tenant_id) as session:
        with pytest.raises(FeatureNotInPlan):
            await create_provider(session, actor, **provider)
    await on("pro")
    async with database.tenant(actor.tenant_id) as session:
        assert (await create_provider(session, actor, **provider)).name == "mine"


def _address() -> str:
    return f"{uuid4().hex}@example.com"


async def test_members_and_open_invitations_take_seats(database: Database, on: On) -> None:
    actor = await on("starter")
    public_url = "https://chat.example"
    async with database.tenant(actor.tenant_id) as session:
        member = await add_member(session, actor, email=_address(), role="owner")
        invited = _address()
        for email in (invited, _address()):
            await invite(session, actor, email=email, role="viewer", public_url=public_url)
        with pytest.raises(PlanLimitReached, match="3 seats"):
            await invite(session, actor, email=_address(), role="viewer", public_url=public_url)
        with pytest.raises(PlanLimitReached):
            await add_member(session, actor, email=_address(), role="viewer")
        # Asking the same person again takes the place of the first time, and joining takes that of being asked.
        await invite(session, actor, email=invited, role="editor", public_url=public_url)
        await add_member(session, actor, email=invited, role="editor")
        for waiting in await list_invitations(session, actor):
            await revoke_invitation(session, actor, invitation_id=waiting.id)
        await invite(session, actor, email=_address(), role="viewer", public_url=public_url)
        await remove_member(session, actor, person_id=(await list_members(session, actor))[1].id)
        await invite(session, actor, email=_address(), role="viewer", public_url=public_url)
        assert member.id in {held.id for held in await list_members(session, actor)}


async def test_an_invitation_to_a_team_that_has_since_shrunk_says_so(
    database: Database, on: On, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = await on("starter")
    tokens: list[str] = []
    monkeypatch.setattr(
        "stonechat.accounts.invitations.invitation_url", lambda url, *, token: tokens.append(token) or url
    )
    async with database.tenant(actor.tenant_id) as session:
        await add_member(session, actor, email=_address(), role="owner")
        await invite(session, actor, email=_address(), role="viewer", public_url="https://chat.example")
    await on("free")
    with pytest.raises(PlanLimitReached):
        await accept_as_newcomer(database, tokens[0], name="Late", password="correct horse battery staple")
    await on("starter")
    await accept_as_newcomer(database, tokens[0], name="Late", password="correct horse battery staple")


async def test_sources_and_single_files_fill_the_plan(database: Database, on: On, knowledge: Knowledge) -> None:
    actor = await on("free")
    async with database.tenant(actor.tenant_id) as session:
        await add_override(
            session, actor.tenant_id, field="sources", value=2, reason="Small.", expires_at=None, by=OPERATOR
        )
        text = TextSourceIn(type="text", name="Hours", text="We open at nine.")
        await sources.create_source(session, actor, files=knowledge.files, source=text)
        document = await service.create_document(session, actor, files=knowledge.files, data=b"We close at five.")
    for attempt in (
        lambda session: sources.create_source(session, actor, files=knowledge.files, source=text),
        lambda session: service.create_document(session, actor, files=knowledge.files, data=b"And at noon."),
    ):
        with pytest.raises(PlanLimitReached, match="2 sources"):
            async with database.tenant(actor.tenant_id) as session:
                await attempt(session)
    async with database.tenant(actor.tenant_id) as session:
        await service.delete_document(session, actor, document_id=document.document_id)
        await service.create_document(session, actor, files=knowledge.files, data=b"And at noon.")


async def test_web_sources_and_their_clock_are_features(database: Database, on: On) -> None:
    actor = await on("free")
    site = WebSourceIn(type="url", url="https://shop.example/")
    async with database.tenant(actor.tenant_id) as session:
        with pytest.raises(FeatureNotInPlan, match="Web sites as sources"):
            await create_web_source(session, actor, web=WebAccess(), source=site)
    await on("starter")
    async with database.tenant(actor.tenant_id) as session:
        daily = site.model_copy(update={"schedule": "daily"})
        with pytest.raises(FeatureNotInPlan, match="by themselves"):
            await create_web_source(session, actor, web=WebAccess(), source=daily)


async def test_a_site_of_before_is_not_fetched_again(database: Database, on: On) -> None:
    actor = await on("pro")
    async with database.tenant(actor.tenant_id) as session:
        row = Source(
            tenant_id=actor.tenant_id,
            source_id="src_before",
            kind="url",
            name="Before",
            settings={},
            url="https://example.com/",
            schedule="daily",
            progress={},
            next_sync_at=clock.now() - timedelta(days=400),  # before any other test's
        )
        session.add(row)
    await on("starter")
    await start_due_syncs(database)
    async with database.tenant(actor.tenant_id) as session:
        found = await session.scalar(select(Source).where(Source.source_id == "src_before"))
        assert found is not None
        assert (found.status, found.next_sync_at is not None and found.next_sync_at > clock.now()) == ("ready", True)
        with pytest.raises(FeatureNotInPlan, match="by themselves"):
            await update_source(session, actor, source_id="src_before", schedule="weekly")
        await update_source(session, actor, source_id="src_before", schedule="never")
    await on("free")
    async with database.tenant(actor.tenant_id) as session:
        with pytest.raises(FeatureNotInPlan):
            await sync_source(session, actor, source_id="src_before")
        await sources.delete_source(session, actor, source_id="src_before")

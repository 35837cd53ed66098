"""What visitors are offered is what the plan includes at that moment; nothing of the configuration is lost meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.assistant.agents import create_agent, get_agent, publish_agent
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.plan_features import within_plan
from stonechat.chat.configs import PublishedConfigs
from stonechat.db.session import Database
from stonechat.embed.published import BRANDING, published_public_config
from stonechat.identity.caller import Caller
from stonechat.plans.remembered import REMEMBERED_FOR
from stonechat.plans.subscription import set_subscription
from stonechat.plans.terms import ALL_FEATURES, Feature
from stonechat.settings import Settings

TOOLS: list[dict[str, Any]] = [
    {"kind": "http", "name": "stock", "description": "Looks it up.", "url": "https://shop.example/stock"},
    {"kind": "mcp", "name": "desk", "url": "https://desk.example/mcp", "allowed": ["open"]},
    {"kind": "client", "name": "basket", "description": "Fills the basket."},
    {
        "kind": "widget",
        "name": "order",
        "description": "Shows an order.",
        "template": {
            "type": "Card",
            "children": [{"type": "Button", "label": "Ask", "onClickAction": {"type": "ask", "payload": {}}}],
        },
        "actions": {"ask": "stock"},
    },
]
FULL: dict[str, Any] = {
    "name": "Robin",
    "tools": TOOLS,
    "attachments": {"enabled": True},
    "dictation": {"enabled": True},
    "hand_over": {"enabled": True},
}


def test_each_feature_takes_with_it_what_needs_it() -> None:
    config = AgentConfig.model_validate(FULL)
    assert within_plan(config, ALL_FEATURES) is config

    def names(without: Feature) -> list[str]:
        return [tool.name for tool in within_plan(config, ALL_FEATURES - {without}).tools]

    assert names(Feature.HTTP_TOOLS) == ["desk", "basket"]
    assert names(Feature.MCP_SERVERS) == ["stock", "basket", "order"]
    nothing = within_plan(config, frozenset())
    assert [tool.name for tool in nothing.tools] == ["basket"]
    parts = (nothing.attachments, nothing.dictation, nothing.hand_over)
    assert not any(part.enabled for part in parts)
    assert AgentConfig.model_validate(nothing.as_json()) == nothing


async def test_a_lapsed_plan_switches_off_and_a_paid_one_on_again(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor, configs = system(tenant_id), ConfigCache()
    moment = clock.now()
    monkeypatch.setattr(clock, "now", lambda: moment)

    async def on(plan: str, status: Any = "active") -> None:
        nonlocal moment
        async with database.tenant(tenant_id) as session:
            await set_subscription(session, tenant_id, plan_key=plan, provider="manual", status=status)
        moment += REMEMBERED_FOR

    await on("business")
    async with database.tenant(tenant_id) as session:
        agent = await create_agent(session, actor, config=FULL)
        await publish_agent(session, actor, agent_id=agent.id, settings=Settings())
    caller = Caller(tenant_id, "usr_1", agent.id)
    published = PublishedConfigs(database, configs)

    async def offered() -> dict[str, Any]:
        async with database.tenant(tenant_id) as session:
            return await published_public_config(session, tenant_id, agent_id=agent.id, configs=configs)

    assert len((await published.now(caller)).tools) == 4
    assert (await offered())["disclaimer"] == ""
    await on("business", "unpaid")
    reduced = await published.now(caller)
    assert [tool.name for tool in reduced.tools] == ["basket"]
    assert await published.now(caller) is reduced, "agents are kept by their configuration"
    told = await offered()
    assert (told["attachments"], told["dictation"], told["disclaimer"]) == ({"enabled": False}, False, BRANDING)
    async with database.tenant(tenant_id) as session:
        assert len((await get_agent(session, actor, agent_id=agent.id)).draft.tools) == 4
    await on("business")
    assert len((await published.now(caller)).tools) == 4
    assert (await offered())["disclaimer"] == ""


async def test_within_seconds_nobody_is_asked_twice(database: Database, tenant_id: UUID) -> None:
    configs = ConfigCache()
    async with database.tenant(tenant_id) as session:
        first = await configs.features.load(session, tenant_id)
        await set_subscription(session, tenant_id, plan_key="free", provider="manual", status="active")
        assert await configs.features.load(session, tenant_id) is first
    assert configs.features.get(tenant_id) is first
    assert timedelta(0) < REMEMBERED_FOR <= timedelta(seconds=30)

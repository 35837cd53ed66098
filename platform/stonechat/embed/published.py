"""What visitors may know of an agent."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.assistant.agents import published_version
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.config import public_config
from stonechat.errors import AgentNotPublished, NotFound
from stonechat.plans.terms import Feature

BRANDING = "Powered by Stonechat"
"""Stands under the composer unless the plan includes to be without it."""


async def published_public_config(
    session: AsyncSession, tenant_id: UUID, *, agent_id: str, configs: ConfigCache
) -> dict[str, Any]:
    """The public part of the published configuration, as far as the plan includes what it offers; raises `AgentNotPublished`, also for an archived agent."""
    try:
        version = await published_version(session, tenant_id, agent_id=agent_id)
    except NotFound:
        raise AgentNotPublished("This agent was retired. Point the domain key's page to another.") from None
    config = await configs.load(session, tenant_id, agent_id=agent_id, version=version)
    features = await configs.features.load(session, tenant_id)
    public = public_config(configs.within(config, features))
    if Feature.REMOVE_BRANDING not in features:
        public["disclaimer"] = f"{public['disclaimer']} · {BRANDING}" if public["disclaimer"] else BRANDING
    return public

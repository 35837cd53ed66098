"""The names of a tenant's agents, for lists of other things."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.assistant.agents import MAX_AGENTS
from stonechat.assistant.models import Agent


@dataclass(frozen=True, slots=True)
class AgentName:
    """An agent, as far as a list needs it."""

    id: str
    name: str
    archived: bool


async def list_agent_names(session: AsyncSession, actor: Actor) -> list[AgentName]:
    """Every agent, archived ones included, by name."""
    actor.require("read")
    rows = await session.execute(
        select(Agent.agent_id, Agent.name, Agent.archived_at)
        .where(Agent.tenant_id == actor.tenant_id)
        .order_by(Agent.name, Agent.agent_id)
        .limit(MAX_AGENTS)
    )
    return [AgentName(agent_id, name, archived_at is not None) for agent_id, name, archived_at in rows]

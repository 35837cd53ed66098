"""A chat without the rest of the platform: server, hub, scripted assistant, one published agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import ids
from stonechat.chat.hub import RunHub
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from support.chat import Chat, caller_of
from support.responders import Scripted

CONFIG = '{"name": "Test", "model": "scripted", "instructions": "Answer."}'
MakeAgent = Callable[[UUID], Awaitable[str]]


@pytest.fixture(scope="session")
def make_agent(database: Database) -> MakeAgent:
    """A published agent of a tenant; returns its id."""

    async def make(tenant_id: UUID) -> str:
        agent_id = ids.new_id("agt")
        async with database.tenant(tenant_id) as session:
            await session.execute(
                text(
                    "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                    "values (:tenant, :agent, 'Test', cast(:config as jsonb), 1)"
                ),
                {"tenant": tenant_id, "agent": agent_id, "config": CONFIG},
            )
            await session.execute(
                text(
                    "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                    "values (:tenant, :agent, 1, cast(:config as jsonb), 'test')"
                ),
                {"tenant": tenant_id, "agent": agent_id, "config": CONFIG},
            )
        return agent_id

    return make


@pytest.fixture
async def anna(tenant_id: UUID, make_agent: MakeAgent) -> Caller:
    """A visitor of a fresh tenant with a published agent."""
    return caller_of(tenant_id, agent_id=await make_agent(tenant_id))


@pytest.fixture
async def chat(database: Database) -> AsyncIterator[Chat]:
    """The server with an assistant whose script the test may set."""
    responder = Scripted()
    hub = RunHub(database)
    yield Chat(ChatServer(hub, responder), responder)
    await hub.close()

"""The routes that visitors' pages and the management API of this room need, over real services."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.api import domain_keys, embed, health, identity_keys, limits, sessions
from stonechat.api.cors import VisitorCors
from stonechat.api.dependencies import Services, VisitorCaller
from stonechat.api.idempotency import Idempotency
from stonechat.app import open_services
from stonechat.assistant.agents import create_agent, publish_agent
from stonechat.limits.addresses import reset_addresses
from stonechat.settings import Settings
from stonechat.web import install_middlewares, install_problem_handlers
from support.identity import PLATFORM, PLATFORM_KEY

VISITOR_ADDRESS = "198.51.100.7"


@dataclass(frozen=True)
class Site:
    """A tenant with an agent and an API key."""

    tenant_id: UUID
    agent_id: str
    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"}


@asynccontextmanager
async def running_services(database_url: str, folder: Path, **settings: Any) -> AsyncIterator[Services]:
    """A web process's services, on the test database and an index of their own; every address starts uncounted."""
    reset_addresses()
    chosen = Settings(
        **{
            "database_url": database_url,
            "secret_keys": (PLATFORM_KEY,),
            "configured_public_url": PLATFORM,
            "data_dir": folder,
            "database_pool_size": 4,
        }
        | settings
    )
    async with open_services(chosen) as services:
        yield services


def build_app(services: Services) -> FastAPI:
    app = FastAPI()
    app.state.services = services
    app.state.idempotency = Idempotency(services.database, services.keyring)
    install_problem_handlers(app)
    app.add_middleware(VisitorCors)
    install_middlewares(app, services.settings)
    for router in (sessions.router, embed.router, embed.assets_router, health.router):
        app.include_router(router)
    for router in (sessions.preview_router, domain_keys.router, identity_keys.router, limits.router):
        app.include_router(router, prefix="/api/v1")

    @app.post("/v1/whoami")
    async def whoami(caller: VisitorCaller) -> dict[str, Any]:
        return {"user": caller.user_id, "origin": caller.origin}

    return app


@asynccontextmanager
async def client_of(
    app: FastAPI, *, address: str = VISITOR_ADDRESS, **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, client=(address, 4711))
    async with httpx.AsyncClient(transport=transport, base_url=PLATFORM, **options) as client:
        yield client


async def make_site(
    services: Services, tenant_id: UUID, *, name: str = "Robin", publish: bool = True, **config: Any
) -> Site:
    """An agent (published unless told otherwise) and an API key of a tenant."""
    actor = system(tenant_id)
    async with services.database.tenant(tenant_id) as session:
        agent = await create_agent(session, actor, config={"name": name, **config})
        _, api_key = await create_api_key(session, actor, name="tests", scopes=["admin"])
        if publish:
            await publish_agent(session, actor, agent_id=agent.id, settings=services.settings)
    return Site(tenant_id, agent.id, api_key)

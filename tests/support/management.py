"""The whole application without a worker, and API keys of its tenants."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.accounts.tenants import create_tenant
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.settings import Settings
from support.postgres import TestDatabase

PLATFORM = "http://platform.example"


@dataclass
class Keyed:
    """A tenant as one of its API keys sees it."""

    tenant_id: UUID
    client: httpx.AsyncClient
    secret: str

    async def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """Call the management API; asserts the status and returns the JSON, if any."""
        answer = await self.ask(method, path, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.secret}"} | options.pop("headers", {})
        return await self.client.request(method, f"/api/v1{path}", headers=headers, **options)


@dataclass
class Management:
    app: FastAPI
    services: Services
    client: httpx.AsyncClient

    async def tenant(self, name: str = "A shop", *, scope: str = "admin") -> Keyed:
        """A new tenant with an owner, owner@<id>.example."""
        made = await create_tenant(
            self.services.database, name=name, owner_email=f"{name.replace(' ', '-').lower()}-owner@shop.example"
        )
        return await self.key(made.tenant_id, scope)

    async def key(self, tenant_id: UUID, scope: str) -> Keyed:
        """Another API key of a tenant."""
        async with self.services.database.tenant(tenant_id) as session:
            _, secret = await create_api_key(session, system(tenant_id), name="tests", scopes=[scope])
        return Keyed(tenant_id, self.client, secret)


@asynccontextmanager
async def management(database: TestDatabase, folder: Path, **chosen: Any) -> AsyncIterator[Management]:
    """The application over `database`; its files and index are in `folder`. `chosen`: settings by field."""
    settings = Settings().model_copy(
        update={
            "data_dir": folder,
            "secret_keys": (SecretStr("a platform key for tests, long enough"),),
            "database_url": database.web_url,
            "database_pool_size": 8,
            "configured_public_url": PLATFORM,
            "configured_ip_requests_per_minute": 100_000,
            "outbound_allowed": ("127.0.0.0/8",),
            **chosen,
        }
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 1))
        async with httpx.AsyncClient(transport=transport, base_url=PLATFORM, timeout=60) as client:
            yield Management(app, app.state.services, client)
        await app.state.drain()

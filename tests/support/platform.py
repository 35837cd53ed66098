"""The whole application in process, without a network: visitors and scripts talk to it as they would over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.assistant.agents import create_agent, publish_agent
from stonechat.assistant.turn import Responder
from stonechat.identity.caller import Caller
from stonechat.limits.rules import AgentRules, LimitRules, TenantRules, VisitorRules
from stonechat.providers.service import create_provider
from stonechat.settings import Settings
from support.chat import decode
from support.postgres import TestDatabase
from support.responders import Scripted

ORIGIN = "https://shop.example"


@dataclass
class Platform:
    """The application, one tenant of its own, and its published agents."""

    app: FastAPI
    services: Services
    tenant_id: UUID
    http: httpx.AsyncClient
    assistant: Responder
    """Who answers until `script` puts a double in its place."""

    def script(self, script: Any = None) -> Scripted:
        """From now on every agent says what the script says."""
        responder = Scripted(script)
        self.services.chat.responder = responder
        return responder

    async def agent(self, **config: Any) -> str:
        """A published agent's id."""
        values = {"name": "Robin", "model": "scripted", "knowledge": {"enabled": False}} | config
        async with self.services.database.tenant(self.tenant_id) as session:
            made = await create_agent(session, system(self.tenant_id), config=values)
            await publish_agent(session, system(self.tenant_id), agent_id=made.id, settings=self.services.settings)
        return made.id

    async def provider(self, base_url: str, *, name: str = "acme") -> None:
        """A model provider of the tenant's."""
        async with self.services.database.tenant(self.tenant_id) as session:
            await create_provider(
                session,
                system(self.tenant_id),
                keyring=self.services.keyring,
                name=name,
                kind="openai_compatible",
                api_key="sk-tenants-own",
                base_url=base_url,
            )

    def visitor(self, agent_id: str, user_id: str | None = None) -> Visitor:
        caller = Caller(
            tenant_id=self.tenant_id, user_id=user_id or ids.new_id("usr"), agent_id=agent_id, origin=ORIGIN
        )
        token, _ = self.services.session_tokens.mint(caller)
        return Visitor(self, caller, token)


@dataclass
class Visitor:
    """Somebody on the customer's page."""

    platform: Platform
    caller: Caller
    token: str

    async def send(self, type_: str, *, headers: dict[str, str] | None = None, **params: Any) -> httpx.Response:
        """One request of the protocol."""
        return await self.platform.http.post(
            "/chatkit",
            json={"type": type_, "params": params},
            headers={"Authorization": f"Bearer {self.token}", "Origin": ORIGIN} | (headers or {}),
        )

    async def events(self, type_: str, **params: Any) -> list[dict[str, Any]]:
        """A request that streams, to its end."""
        answer = await self.send(type_, **params)
        assert answer.status_code == 200, answer.text
        return decode(answer.content)

    async def json(self, type_: str, **params: Any) -> Any:
        """A request that does not."""
        answer = await self.send(type_, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def refused(self, type_: str, **params: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        answer = await self.send(type_, **params)
        assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
        return answer.status_code, answer.json()["code"]

    async def say(self, words: str, thread: str | None = None, **options: Any) -> list[dict[str, Any]]:
        """A message, and the events of its answer."""
        return await self.events(**self.message(words, thread, **options))

    def message(self, words: str, thread: str | None = None, **options: Any) -> dict[str, Any]:
        """The type and the parameters of a message."""
        said = {
            "content": [{"type": "input_text", "text": words}],
            "attachments": [],
            "inference_options": options,
        }
        if thread is None:
            return {"type_": "threads.create", "input": said}
        return {"type_": "threads.add_user_message", "input": said, "thread_id": thread}

    async def items(self, thread: str) -> list[dict[str, Any]]:
        """The conversation as the visitor sees it, oldest first."""
        found: list[dict[str, Any]] = (await self.json("items.list", thread_id=thread, order="asc", limit=100))["data"]
        return found


@asynccontextmanager
async def open_app(database: TestDatabase, folder: Path, **changes: Any) -> AsyncIterator[FastAPI]:
    """The application, its services open. `changes` are settings."""
    settings = Settings().model_copy(
        update={
            "environment": "development",
            "secret_keys": (SecretStr("x" * 40),),
            "database_url": database.web_url,
            "data_dir": folder,
            **changes,
        }
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        yield app


@asynccontextmanager
async def platform_of(app: FastAPI) -> AsyncIterator[Platform]:
    """A new tenant of an open application. One visitor may do a lot; who answers is as before afterwards."""
    services: Services = app.state.services
    tenant_id = ids.new_tenant_id()
    rules = LimitRules(
        visitor=VisitorRules(messages_per_minute=10_000, concurrent=100),
        agent=AgentRules(messages_per_minute=10_000),
        tenant=TenantRules(messages_per_minute=10_000),
    )
    async with services.database.tenant(tenant_id) as session:
        await session.execute(text("insert into tenants (tenant_id, name) values (:id, 'A tenant')"), {"id": tenant_id})
        await session.execute(
            text("insert into limit_rules (tenant_id, rules, updated_at) values (:t, cast(:r as jsonb), :n)"),
            {"t": tenant_id, "r": rules.model_dump_json(), "n": clock.now()},
        )
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("127.0.0.1", 1))
    assistant = services.chat.responder
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", timeout=30) as http:
        yield Platform(app, services, tenant_id, http, assistant)
    services.chat.responder = assistant


@asynccontextmanager
async def open_platform(database: TestDatabase, folder: Path, **changes: Any) -> AsyncIterator[Platform]:
    """An application of one's own, with a tenant. `changes` are settings."""
    async with open_app(database, folder, **changes) as app, platform_of(app) as platform:
        yield platform


def of_type(events: list[dict[str, Any]], type_: str) -> list[dict[str, Any]]:
    """The events of a type."""
    return [event for event in events if event["type"] == type_]


def as_json(value: Any) -> Any:
    """A model as clients see it."""
    return json.loads(value.model_dump_json(by_alias=True, exclude_none=True))

"""One of whatever a path of the console names, made through the management API and the chat, as customers make them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import choices
from string import ascii_lowercase
from typing import Any
from uuid import UUID, uuid4

import httpx

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.accounts.invitations import invite, list_invitations
from stonechat.billing.models import InvoiceRow
from stonechat.operator.support import SupportGrantRow
from support.api import message
from support.console import ConsoleWorld
from support.identity import PLATFORM

ORIGIN = "https://furnished.example"
MAX_AGENTS, MAX_ENDPOINTS = 40, 10
"""Of those made last, which are kept."""


class Furniture:
    """Makes things in one tenant: `make` knows every parameter that paths of the console have."""

    def __init__(self, world: ConsoleWorld, tenant_id: UUID, api: httpx.AsyncClient) -> None:
        self.world, self.tenant_id, self.api = world, tenant_id, api
        self._answer = self._run = self._user = ""
        self._agents: list[str] = []
        self._endpoints: list[str] = []

    async def make(self, names: list[str]) -> dict[str, str]:
        """New things, by the names of the parameters. Raises `LookupError` for a name it does not know."""
        made: dict[str, str] = {}
        for name in names:
            maker = getattr(self, f"_{name}", None)
            if maker is None:
                raise LookupError(f"{name}: say in support/furnishing.py how one is made")
            made[name] = await maker(made)
        return made

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.api.post(path, json=body)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    async def _agent_id(self, _made: dict[str, str]) -> str:
        agent = str((await self._post("/agents", {"name": "Robin", "model": "extractive"}))["id"])
        await self._post(f"/agents/{agent}/publish", {})
        self._agents.append(agent)
        if len(self._agents) > MAX_AGENTS:  # a tenant has room for so many
            await self.api.delete(f"/agents/{self._agents.pop(0)}")
        return agent

    async def _domain_key(self, agent_id: str) -> dict[str, Any]:
        body = {"name": "Site", "environment": "production", "origins": [ORIGIN]}
        return await self._post(f"/agents/{agent_id}/domain-keys", body)

    async def _key_id(self, made: dict[str, str]) -> str:
        return str((await self._domain_key(made["agent_id"]))["id"])

    async def _document_id(self, _made: dict[str, str]) -> str:
        answer = await self.api.post("/knowledge/documents", files={"file": ("returns.md", b"# Returns\n\n45 days.")})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def _identity_key_id(self, _made: dict[str, str]) -> str:
        return str((await self._post("/identity-keys", {"kind": "hs256"}))["id"])

    async def _api_key_id(self, _made: dict[str, str]) -> str:
        return str((await self._post("/api-keys", {"name": "Import", "scopes": ["read"]}))["id"])

    async def _provider_id(self, _made: dict[str, str]) -> str:
        body = {"name": f"p-{uuid4().hex[:8]}", "kind": "openai", "api_key": "sk-x"}
        return str((await self._post("/model-providers", body))["id"])

    async def _thread_id(self, _made: dict[str, str]) -> str:
        return await self._conversation("How long is a return?")

    async def visitor(self) -> dict[str, str]:
        """The headers of somebody who came in by the site of an agent that was made last."""
        key = await self._domain_key(self._agents[-1])
        session = await self.api.post(
            f"{PLATFORM}/v1/sessions",
            json={"domain_key": key["key"]},
            headers={"Origin": ORIGIN, "Authorization": ""},
        )
        assert session.status_code == 200, session.text
        self._user = str(session.json()["user"]["id"])
        return {"Authorization": f"Bearer {session.json()['token']}", "Origin": ORIGIN}

    async def _user_id(self, _made: dict[str, str]) -> str:
        """Of a visitor with a conversation."""
        await self._conversation("Do you ship to Norway?")
        return self._user

    async def _conversation(self, question: str) -> str:
        await self._agent_id({})
        headers = await self.visitor()
        turn = await self.api.post(f"{PLATFORM}/chatkit", json=message(question), headers=headers)
        assert turn.status_code == 200, turn.text
        self._run = turn.headers["stonechat-run"]
        events = [json.loads(line[6:]) for line in turn.text.splitlines() if line.startswith("data: ")]
        done = {event["item"]["type"]: event["item"] for event in events if event["type"] == "thread.item.done"}
        self._answer = str(done["assistant_message"]["id"])
        return str(done["assistant_message"]["thread_id"])

    async def _item_id(self, _made: dict[str, str]) -> str:
        """The answer in the thread that was made last."""
        return self._answer

    async def _run_id(self, _made: dict[str, str]) -> str:
        """The run that answered in the thread that was made last."""
        return self._run

    async def _group_id(self, _made: dict[str, str]) -> str:
        """A question that nothing answers, like no other."""
        word = "".join(choices(ascii_lowercase, k=12))
        await self._conversation(f"Where does the {word} {word[::-1]} live?")
        await self.world.services.chat.hub.afterwards_done()
        answer = await self.api.get("/knowledge/unanswered", params={"limit": 100})
        return next(str(group["id"]) for group in answer.json()["data"] if word in str(group["question"]))

    async def _source_id(self, _made: dict[str, str]) -> str:
        address = f"https://furnished.example/{uuid4().hex}"
        return str((await self._post("/knowledge/sources", {"type": "url", "url": address}))["id"])

    async def _tool_name(self, made: dict[str, str]) -> str:
        name = f"tool_{uuid4().hex[:8]}"
        tool = {"kind": "client", "name": name, "description": "Does something."}
        answer = await self.api.patch(f"/agents/{made['agent_id']}", json={"tools": [tool]})
        assert answer.is_success, answer.text
        return name

    async def _secret_id(self, _made: dict[str, str]) -> str:
        answer = await self.api.put("/secrets", json={"name": f"s-{uuid4().hex[:8]}", "value": "x"})
        assert answer.is_success, answer.text
        return str(answer.json()["id"])

    async def _endpoint_id(self, _made: dict[str, str]) -> str:
        endpoint = str((await self._post("/webhook-endpoints", {"url": "https://hooks.furnished.example/in"}))["id"])
        self._endpoints.append(endpoint)
        if len(self._endpoints) > MAX_ENDPOINTS:
            await self.api.delete(f"/webhook-endpoints/{self._endpoints.pop(0)}")
        return endpoint

    async def _delivery_id(self, made: dict[str, str]) -> str:
        return str((await self._post(f"/webhook-endpoints/{made['endpoint_id']}/test", {}))["id"])

    async def _invitation_id(self, _made: dict[str, str]) -> str:
        email = f"new-{uuid4().hex[:10]}@example.com"
        async with self.world.services.database.tenant(self.tenant_id) as session:
            actor = system(self.tenant_id)
            await invite(session, actor, email=email, role="viewer", public_url=PLATFORM)
            return next(row.id for row in await list_invitations(session, actor) if row.email == email)

    async def _invoice_id(self, _made: dict[str, str]) -> str:
        invoice_id = f"inv_{uuid4().hex}"
        async with self.world.services.database.tenant(self.tenant_id) as session:
            session.add(
                InvoiceRow(
                    tenant_id=self.tenant_id,
                    invoice_id=invoice_id,
                    provider="manual",
                    number=invoice_id[-8:],
                    status="open",
                    currency="usd",
                    total_cents=9900,
                    tax_cents=0,
                    due_cents=9900,
                    paid_cents=0,
                    lines=[{"description": "Pro", "amount_cents": 9900, "quantity": 1}],
                    created_at=clock.now(),
                )
            )
        return invoice_id

    async def _grant_id(self, _made: dict[str, str]) -> str:
        """A look that an operator asked for, and that waits for the tenant to agree."""
        grant_id = ids.new_id("sup")
        async with self.world.services.database.tenant(self.tenant_id) as session:
            session.add(
                SupportGrantRow(
                    tenant_id=self.tenant_id,
                    grant_id=grant_id,
                    operator_id="op_1",
                    operator_name="Olga",
                    reason="Asked for help",
                    access="read",
                    minutes=60,
                    asked_at=clock.now(),
                )
            )
        return grant_id

    async def _person_id(self, _made: dict[str, str]) -> str:
        return (await self.world.signed_in("viewer", tenant_id=self.tenant_id)).person_id


@asynccontextmanager
async def furniture(world: ConsoleWorld, tenant_id: UUID) -> AsyncIterator[Furniture]:
    async with world.services.database.tenant(tenant_id) as session:
        _, secret = await create_api_key(session, system(tenant_id), name="furniture", scopes=["admin"])
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=world.app, client=("203.0.113.9", 1)),
        base_url=f"{PLATFORM}/api/v1",
        headers={"Authorization": f"Bearer {secret}"},
    ) as api:
        yield Furniture(world, tenant_id, api)

"""A tenant made by the command line and driven over `/api/v1`, as a customer's script would."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from support.running import Running

INGEST_SECONDS = 60


@dataclass
class Tenant:
    """One tenant and a client that carries its API key."""

    id: str
    api: httpx.AsyncClient
    url: str

    async def call(self, method: str, path: str, expect: int = 200, **options: Any) -> Any:
        """Call the management API; asserts the status and returns the JSON, if any."""
        answer = await self.api.request(method, path, **options)
        assert answer.status_code == expect, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def agent(self, **config: Any) -> str:
        """A published agent; returns its id."""
        made = await self.call("POST", "/agents", 201, json={"name": "Helper", "model": "extractive", **config})
        await self.call("POST", f"/agents/{made['id']}/publish", json={})
        return str(made["id"])

    async def domain_key(self, agent: str, *origins: str) -> str:
        """A domain key for these origins; returns the public key."""
        body = {"name": "Site", "environment": "development", "origins": list(origins)}
        return str((await self.call("POST", f"/agents/{agent}/domain-keys", 201, json=body))["key"])

    async def document(self, name: str, content: bytes, **form: str) -> dict[str, Any]:
        """Upload a document and wait until it is ready or failed."""
        answer = await self.api.post("/knowledge/documents", files={"file": (name, content)}, data=form)
        assert answer.status_code in (201, 202), answer.text
        document: dict[str, Any] = answer.json()
        deadline = time.monotonic() + INGEST_SECONDS
        while document["status"] in ("pending", "processing"):
            assert time.monotonic() < deadline, f"{name} is still {document['status']}"
            await asyncio.sleep(0.1)
            document = await self.call("GET", f"/knowledge/documents/{document['id']}")
        return document

    async def session(self, domain_key: str, origin: str, **more: Any) -> dict[str, Any]:
        """A visitor's session."""
        answer = await self.api.post(
            f"{self.url}/v1/sessions", json={"domain_key": domain_key, **more}, headers={"Origin": origin}
        )
        assert answer.status_code == 200, answer.text
        session: dict[str, Any] = answer.json()
        return session

    async def ask(self, token: str, origin: str, question: str, thread: str | None = None) -> Answer:
        """Ask over the ChatKit protocol and read the stream to its end."""
        events: list[dict[str, Any]] = []
        async with self.api.stream(
            "POST",
            f"{self.url}/chatkit",
            json=message(question, thread),
            headers={"Authorization": f"Bearer {token}", "Origin": origin},
        ) as stream:
            assert stream.status_code == 200, (await stream.aread()).decode()
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
        return Answer(events)


@dataclass
class Answer:
    """The events of one turn."""

    events: list[dict[str, Any]]

    @property
    def item(self) -> dict[str, Any]:
        """The assistant's finished message."""
        done = [event["item"] for event in self.events if event["type"] == "thread.item.done"]
        found: dict[str, Any] = [item for item in done if item["type"] == "assistant_message"][-1]
        return found

    @property
    def text(self) -> str:
        return "".join(part["text"] for part in self.item["content"])

    @property
    def sources(self) -> list[dict[str, Any]]:
        return [note["source"] for part in self.item["content"] for note in part["annotations"]]

    @property
    def thread(self) -> str:
        return str(self.item["thread_id"])


def message(text: str, thread: str | None = None) -> dict[str, Any]:
    """A ChatKit request that says `text` in a thread, or in a new one."""
    content = [{"type": "input_text", "text": text}]
    params: dict[str, Any] = {"input": {"content": content, "attachments": [], "inference_options": {}}}
    if thread is None:
        return {"type": "threads.create", "params": params}
    return {"type": "threads.add_user_message", "params": params | {"thread_id": thread}}


@asynccontextmanager
async def new_tenant(running: Running, name: str = "A company") -> AsyncIterator[Tenant]:
    """A tenant as `stonechat tenant create` makes it."""
    made = await running.tenant(name, "owner@company.example")
    async with client_of(running, str(made["api_key"])) as client:
        yield Tenant(str(made["tenant_id"]), client, running.url)


def client_of(running: Running, api_key: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {api_key}"}
    return httpx.AsyncClient(base_url=f"{running.url}/api/v1", headers=headers, timeout=30, trust_env=False)

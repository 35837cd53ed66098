"""Two tenants with everything a tenant can have, two users each, on a database whose guards can be taken away one by one."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import asyncpg
import httpx
from chatkit.types import FileAttachment
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.engine import make_url

from stonechat import clock, ids
from stonechat.accounts.provisioning import provision_tenant
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.billing.models import InvoiceRow
from stonechat.chat.store import PostgresStore
from stonechat.identity.caller import Caller
from stonechat.knowledge.unanswered import Asked, note_unanswered
from stonechat.plans.overrides import add_override
from stonechat.settings import Settings
from stonechat.webhooks.fan_out import add_delivery
from support.api import message
from support.postgres import TestDatabase

Mode = Literal["as built", "predicates removed", "row-level security off"]
MODES: tuple[Mode, ...] = ("as built", "predicates removed", "row-level security off")
ORIGIN = "https://isolation.example"


ADDED_UP = {"tenant_summaries", "tenant_months"}
"""Sums that the clock makes for operators, whoever asks for what."""


@dataclass
class User:
    """A visitor with a conversation."""

    caller: Caller
    token: str
    thread: str
    item: str
    """The assistant's message in the thread."""
    question: str
    """The visitor's own message."""
    run: str
    attachment: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Origin": ORIGIN}


@dataclass
class Side:
    """One tenant: its API client, its users, and the id of one of everything, by the name of a path parameter."""

    tenant_id: UUID
    api: httpx.AsyncClient
    secret_word: str
    """Stands in this tenant's document and nowhere else."""
    ids: dict[str, str] = field(default_factory=dict)
    chunks: list[str] = field(default_factory=list)
    anna: User = None  # type: ignore[assignment]
    ben: User = None  # type: ignore[assignment]

    @property
    def all_ids(self) -> set[str]:
        users = (self.anna, self.ben)
        parts = ("thread", "item", "run", "attachment")
        return {*self.ids.values(), *self.chunks, *(getattr(user, part) for user in users for part in parts)}


@dataclass
class World:
    mode: Mode
    app: FastAPI
    services: Services
    ours: Side
    theirs: Side
    admin_url: str

    async def rows_of(self, side: Side) -> dict[str, str]:
        """A digest of each table's rows of this tenant, to see that nothing was touched."""
        connection = await asyncpg.connect(self.admin_url)
        try:
            tables = await connection.fetch(
                "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' "
                "where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace = 'public'::regnamespace"
            )
            digests = {}
            for (table,) in tables:
                if table in ADDED_UP:
                    continue
                # When a key was last used is no one's secret, and changes by the tenant's own doing.
                digest = await connection.fetchval(
                    f"select md5(coalesce(string_agg(line, '|' order by line), '')) from (select "
                    f"(to_jsonb(t) - 'last_used_at' - 'last_seen_at' - 'last_seen_origin')::text as line "
                    f"from {table} t where tenant_id = $1) rows",
                    side.tenant_id,
                )
                digests[table] = digest
            return digests
        finally:
            await connection.close()


@asynccontextmanager
async def open_world(mode: Mode, database: TestDatabase, folder: Path) -> AsyncIterator[World]:
    """The application over `database`, populated as built; then the guard that `mode` names is taken away."""
    settings = Settings().model_copy(
        update={
            "data_dir": folder,
            "secret_keys": (SecretStr("a secret of forty-two characters for tests"),),
            "database_url": database.web_url,
            "configured_owner_database_url": database.admin_url,
            "configured_public_url": "http://platform.example",
            "configured_ip_requests_per_minute": 100_000,  # every route is asked from one address
        }
    )
    app = create_app(settings, with_worker=True)
    async with app.router.lifespan_context(app):
        services: Services = app.state.services
        ours, theirs = await _populate(app, services, "heliotrope"), await _populate(app, services, "quartzite")
        if mode == "predicates removed":
            await _remove_predicates(services, database)
        elif mode == "row-level security off":
            await _switch_off_row_level_security(database)
        yield World(mode, app, services, ours, theirs, database.admin_url)
        for side in (ours, theirs):
            await side.api.aclose()


def client(app: FastAPI, **headers: str) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False, client=("203.0.113.9", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://platform.example", headers=headers, timeout=30)


async def _populate(app: FastAPI, services: Services, word: str) -> Side:
    made = await provision_tenant(
        services.database, name=word, owner_email=f"owner@{word}.example", public_url="http://platform.example"
    )
    api = client(app, Authorization=f"Bearer {made['api_key']}")
    api.base_url = httpx.URL("http://platform.example/api/v1")
    side = Side(UUID(str(made["tenant_id"])), api, word)

    async def post(path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await api.post(path, json=body)
        assert answer.is_success, answer.text
        result: dict[str, Any] = answer.json()
        return result

    agent = (await post("/agents", {"name": word, "model": "extractive"}))["id"]
    await post(f"/agents/{agent}/publish", {})
    key = await post(f"/agents/{agent}/domain-keys", {"name": word, "environment": "production", "origins": [ORIGIN]})
    side.ids = {
        "agent_id": agent,
        "domain_key_id": key["id"],
        "identity_key_id": (await post("/identity-keys", {"kind": "hs256"}))["id"],
        "api_key_id": (await post("/api-keys", {"name": word, "scopes": ["read"]}))["id"],
        "provider_id": (await post("/model-providers", {"name": word, "kind": "openai", "api_key": "sk-x"}))["id"],
        "source_id": (await post("/knowledge/sources", {"type": "text", "name": word, "text": f"About {word}."}))["id"],
        "document_id": await _document(api, word),
    }
    secret = await api.put("/secrets", json={"name": word, "value": f"the {word} is a lie"})
    side.ids["secret_id"] = secret.json()["id"]
    found = await post("/knowledge/search", {"query": word})
    side.chunks = [result["chunk_id"] for result in found["results"]]
    assert side.chunks, "the tenant finds its own document"
    side.ids["person_id"] = (await api.get("/members")).json()["data"][0]["id"]
    invited = await post("/members/invitations", {"email": f"guest@{word}.example", "role": "viewer"})
    side.ids["invitation_id"] = invited["id"]
    side.anna = await _user(app, services, side, key["key"])
    side.ben = await _user(app, services, side, key["key"])
    side.ids["group_id"] = await _unanswered(services, side)
    side.ids["override_id"] = await _override(services, side)
    side.ids["endpoint_id"], side.ids["delivery_id"] = await _webhook(services, side)
    side.ids["invoice_id"] = await _invoice(services, side)
    side.ids["thread_id"], side.ids["run"], side.ids["user_id"] = (
        side.anna.thread,
        side.anna.run,
        side.anna.caller.user_id,
    )
    return side


async def _unanswered(services: Services, side: Side) -> str:
    """A question of Anna's that went unanswered: its group."""
    anna = side.anna
    asked = Asked(
        anna.caller.agent_id,
        anna.caller.user_id,
        anna.thread,
        anna.question,
        f"Who made {side.secret_word}?",
        "abstained",
    )
    async with services.database.tenant(side.tenant_id) as session:
        group = await note_unanswered(session, side.tenant_id, asked=asked)
    assert group is not None
    return group


async def _webhook(services: Services, side: Side) -> tuple[str, str]:
    """An endpoint that is switched off, so that nothing is sent anywhere, and a delivery that failed."""
    body = {"url": f"https://{side.secret_word}.example/hook", "description": side.secret_word}
    endpoint = str((await side.api.post("/webhook-endpoints", json=body)).json()["id"])
    assert (await side.api.patch(f"/webhook-endpoints/{endpoint}", json={"enabled": False})).is_success
    async with services.database.tenant(side.tenant_id) as session:
        delivery = await add_delivery(
            session,
            side.tenant_id,
            endpoint_id=endpoint,
            event_id=ids.new_id("evt"),
            kind="conversation.closed",
            data={"reason": side.secret_word},
            occurred_at=clock.now(),
            refused="It was off.",
        )
    assert delivery is not None
    return endpoint, delivery


async def _invoice(services: Services, side: Side) -> str:
    """One that is to be paid."""
    invoice_id, now = ids.new_id("inv"), clock.now()
    async with services.database.tenant(side.tenant_id) as session:
        session.add(
            InvoiceRow(
                tenant_id=side.tenant_id, invoice_id=invoice_id, provider="manual", number=f"{side.secret_word}-1",
                status="open", currency="usd", total_cents=9_900, tax_cents=0, due_cents=9_900, paid_cents=0,
                lines=[{"description": side.secret_word, "amount_cents": 9_900, "quantity": 1}], created_at=now,
            )
        )  # fmt: skip
    return invoice_id


async def _override(services: Services, side: Side) -> str:
    """An exception from the plan."""
    async with services.database.tenant(side.tenant_id) as session:
        made = await add_override(
            session,
            side.tenant_id,
            field="agents",
            value=99,
            reason=f"For {side.secret_word}.",
            expires_at=None,
            by="opr_world",
        )
    return made.id


async def _document(api: httpx.AsyncClient, word: str) -> str:
    text = f"# {word}\n\nThe {word} is kept in the cellar behind the second door."
    answer = await api.post("/knowledge/documents", files={"file": (f"{word}.md", text.encode())})
    assert answer.status_code == 202, answer.text
    document_id = str(answer.json()["id"])
    for _ in range(600):
        pending = (await api.get("/knowledge/documents", params={"status": "pending"})).json()["data"]
        reading = (await api.get("/knowledge/documents", params={"status": "processing"})).json()["data"]
        if not pending and not reading:
            return document_id
        await asyncio.sleep(0.05)
    raise AssertionError("the documents were not read")


async def _user(app: FastAPI, services: Services, side: Side, key: str) -> User:
    async with client(app) as browser:
        answer = await browser.post("/v1/sessions", json={"domain_key": key}, headers={"Origin": ORIGIN})
        assert answer.status_code == 200, answer.text
        token = answer.json()["token"]
        headers = {"Authorization": f"Bearer {token}", "Origin": ORIGIN, "Stonechat-Stream": "resumable"}
        turn = await browser.post("/chatkit", json=message(f"Where is the {side.secret_word} kept?"), headers=headers)
        assert turn.status_code == 200, turn.text
    caller = services.session_tokens.verify(token)
    events = [json.loads(line[6:]) for line in turn.text.splitlines() if line.startswith("data: ")]
    done = {event["item"]["type"]: event["item"] for event in events if event["type"] == "thread.item.done"}
    assert "second door" in done["assistant_message"]["content"][0]["text"]
    attachment = FileAttachment(id=ids.new_id("atc"), name="a.txt", mime_type="text/plain")
    await PostgresStore(services.database).save_attachment(attachment, caller)
    item = done["assistant_message"]
    return User(
        caller,
        token,
        item["thread_id"],
        item["id"],
        done["user_message"]["id"],
        turn.headers["stonechat-run"],
        attachment.id,
    )


# Taking guards away

_PREDICATE = re.compile(r"(?<![\w.])(?!users\.)(?:\w+\.)?(?:tenant_id|user_id) = (\$\d+)(::\w+)?")


def _without_predicates(statement: str) -> str:
    """The statement with every comparison of tenant or user to a parameter made true. Only conditions are touched."""
    head, where, conditions = statement.partition("WHERE")
    return head + where + _PREDICATE.sub(lambda found: f"({found[1]}{found[2] or '::text'} is not null)", conditions)


async def _remove_predicates(services: Services, database: TestDatabase) -> None:
    @event.listens_for(services.database.engine.sync_engine, "before_cursor_execute", retval=True)
    def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> tuple[str, Any]:
        return _without_predicates(statement), parameters

    connection = await asyncpg.connect(database.admin_url)
    functions = await connection.fetch(  # as the newest migration left them
        "select pg_get_functiondef(oid) from pg_proc where pronamespace = 'public'::regnamespace "
        "and (proname like 'chat%' or proname like 'usage%')"
    )
    await connection.close()
    text = ";\n".join(definition for (definition,) in functions)
    of_one = r"(?:\[(?:n|array_position\([^)]*\))\])?"  # of functions that take several runs at once
    changed, count = re.subn(rf"\b\w+\.(?:tenant_id|user_id) = p_(?:tenant|user)s?{of_one}", "true", text)
    assert count > 20
    await _as_admin(database, changed)


async def _switch_off_row_level_security(database: TestDatabase) -> None:
    connection = await asyncpg.connect(database.admin_url)
    tables = await connection.fetch(
        "select relname from pg_class where relrowsecurity and relnamespace = 'public'::regnamespace"
    )
    await connection.close()
    assert len(tables) > 10
    script = ";".join(
        f'alter table "{table}" no force row level security; alter table "{table}" disable row level security'
        for (table,) in tables
    )
    await _as_admin(database, script)


async def _as_admin(database: TestDatabase, script: str) -> None:
    url = make_url(database.admin_url)
    connection = await asyncpg.connect(url.render_as_string(hide_password=False))
    try:
        await connection.execute(script)
    finally:
        await connection.close()

"""What the benchmark puts into the database, and takes away again: tenants of its own, and long threads in them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from sqlalchemy import text

from stonechat import ids
from stonechat.bench.processes import ORIGIN
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.identity.tokens import SessionTokens
from stonechat.limits.rules import AgentRules, LimitRules, TenantRules, VisitorRules
from stonechat.settings import Settings

CONNECTIONS = 16
"""How many visitors there are, each with a connection of their own."""
ITEMS_A_STATEMENT = 50_000
_CONFIG = {"name": "Bench", "model": "scripted", "instructions": "Be helpful.", "knowledge": {"enabled": False}}
_MANY = 100_000
_ITEM = """
    insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at)
    select :t, :thread, 'msg_bench' || n, :user,
           case when n % 2 = 1 then 'user_message' else 'assistant_message' end,
           json_build_object(
               'id', 'msg_bench' || n, 'thread_id', cast(:thread as text), 'created_at', now(),
               'type', case when n % 2 = 1 then 'user_message' else 'assistant_message' end,
               'content', json_build_array(json_build_object(
                   'type', case when n % 2 = 1 then 'input_text' else 'output_text' end,
                   'text', 'What was said before, number ' || n, 'annotations', json_build_array())),
               'attachments', json_build_array(), 'inference_options', json_build_object()),
           now()
    from generate_series(cast(:first as int), cast(:last as int)) as n"""


@dataclass(frozen=True, slots=True)
class Visitors:
    """A tenant made for the benchmark, and a session for each of its visitors."""

    tenant_id: UUID
    agent_id: str
    tokens: list[str]

    def user_id(self, number: int) -> str:
        """Whose session `tokens[number]` is."""
        return _user_id(number)


async def prepare(settings: Settings) -> Visitors:
    """A tenant with a published agent, and limits so high that they count but do not bind."""
    tenant_id, agent_id = ids.new_tenant_id(), ids.new_id("agt")
    rules = LimitRules(
        visitor=VisitorRules(messages_per_minute=_MANY, concurrent=100),
        agent=AgentRules(messages_per_minute=_MANY),
        tenant=TenantRules(messages_per_minute=_MANY),
    )
    values = {"t": tenant_id, "a": agent_id, "c": json.dumps(_CONFIG), "r": rules.model_dump_json()}
    database = Database(str(settings.database_url), pool_size=2)
    try:
        async with database.tenant(tenant_id) as session:
            for statement in (
                "insert into tenants (tenant_id, name) values (:t, 'Benchmark')",
                "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                "values (:t, :a, 'Bench', cast(:c as jsonb), 1)",
                "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                "values (:t, :a, 1, cast(:c as jsonb), 'system')",
                "insert into limit_rules (tenant_id, rules) values (:t, cast(:r as jsonb))",
            ):
                await session.execute(text(statement), {key: values[key] for key in "tacr" if f":{key}" in statement})
    finally:
        await database.close()
    signer = SessionTokens(Keyring([key.get_secret_value() for key in settings.secret_keys]), issuer=ORIGIN)
    tokens = [
        signer.mint(Caller(tenant_id, _user_id(number), agent_id, origin=ORIGIN))[0] for number in range(CONNECTIONS)
    ]
    return Visitors(tenant_id, agent_id, tokens)


async def refresh_statistics(settings: Settings) -> None:
    """What Postgres does of itself within a minute: learn how many rows there are. In a new database it knows of none, and
    plans the first turns without."""
    connection = await asyncpg.connect(str(settings.owner_database_url), timeout=10)
    try:
        await connection.execute("analyze threads, thread_items, runs, turn_traces, usage_ledger")
    finally:
        await connection.close()


async def grow_thread(settings: Settings, visitors: Visitors, *, items: int, user: int = 0) -> str:
    """A thread of a visitor with so many items; returns its id."""
    thread_id = ids.new_id("thr")
    scope = {"t": visitors.tenant_id, "thread": thread_id, "user": visitors.user_id(user)}
    database = Database(str(settings.database_url), pool_size=2)
    try:
        async with database.tenant(visitors.tenant_id, user_id=visitors.user_id(user)) as session:
            await session.execute(
                text(
                    "insert into threads (tenant_id, thread_id, user_id, agent_id, title, created_at) "
                    "values (:t, :thread, :user, :agent, 'Benchmark', now())"
                ),
                scope | {"agent": visitors.agent_id},
            )
        for first in range(1, items + 1, ITEMS_A_STATEMENT):
            async with database.tenant(visitors.tenant_id, user_id=visitors.user_id(user)) as session:
                last = min(first + ITEMS_A_STATEMENT - 1, items)
                await session.execute(text(_ITEM), scope | {"first": first, "last": last})
    finally:
        await database.close()
    return thread_id


async def tidy(settings: Settings, tenant_id: UUID) -> None:
    """Delete what a tenant of the benchmark left, the big tables piece by piece."""
    database = Database(str(settings.database_url), pool_size=2)
    some = "select ctid from thread_items where tenant_id = :t limit 100000"
    try:
        left = True
        while left:
            async with database.tenant(tenant_id) as session:
                gone = await session.execute(
                    text(
                        f"with gone as (delete from thread_items where ctid in ({some}) returning 1) "  # noqa: S608
                        "select count(*) from gone"
                    ),
                    {"t": tenant_id},
                )
                left = bool(gone.scalar_one())
        async with database.tenant(tenant_id) as session:
            await session.execute(text("delete from tenants where tenant_id = :t"), {"t": tenant_id})
    finally:
        await database.close()


def _user_id(number: int) -> str:
    return f"usr_bench_{number}"

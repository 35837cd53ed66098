"""What was streamed is kept for reconnecting clients, for a while, and never longer than the conversation."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from sqlalchemy import text

from stonechat.chat.sweeper import purge_run_events
from stonechat.db.session import Database
from support.postgres import TestDatabase

THREAD = """insert into threads (tenant_id, thread_id, user_id, created_at) values (:tenant, :run, 'usr_1', now())"""
RUN = """insert into runs (tenant_id, run_id, thread_id, user_id, process_id, resumable, status, lease_expires_at)
         values (:tenant, :run, :run, 'usr_1', 'p', true, :status, now())"""
EVENTS = """insert into run_events (tenant_id, created_at, run_id, first_seq, last_seq, user_id, payload)
            values (:tenant, now() - make_interval(mins => :age), :run, 1, 1, 'usr_1', 'x')"""


async def _run(database: Database, tenant_id: UUID, run: str, *, status: str, age: int) -> None:
    values = {"tenant": tenant_id, "run": run}
    async with database.tenant(tenant_id) as session:
        await session.execute(text(THREAD), values)
        await session.execute(text(RUN), values | {"status": status})
        await session.execute(text(EVENTS), values | {"age": age})


async def _left(test_database: TestDatabase, tenant_id: UUID) -> set[str]:
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        return {
            row[0] for row in await connection.fetch("select run_id from run_events where tenant_id = $1", tenant_id)
        }
    finally:
        await connection.close()


async def test_events_go_an_hour_after_their_run(
    database: Database, test_database: TestDatabase, tenant_id: UUID
) -> None:
    await _run(database, tenant_id, "run_old", status="done", age=61)
    await _run(database, tenant_id, "run_new", status="done", age=59)
    await _run(database, tenant_id, "run_long", status="running", age=61)
    assert await purge_run_events(database) >= 1
    assert await _left(test_database, tenant_id) == {"run_new", "run_long"}


async def test_events_go_with_their_conversation(
    database: Database, test_database: TestDatabase, tenant_id: UUID
) -> None:
    await _run(database, tenant_id, "run_1", status="done", age=0)
    async with database.tenant(tenant_id) as session:
        await session.execute(text("delete from threads where tenant_id = :tenant"), {"tenant": tenant_id})
    assert await _left(test_database, tenant_id) == set()

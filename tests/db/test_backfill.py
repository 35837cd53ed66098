"""A migration that changes rows changes every tenant's, or fails; it never quietly changes none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import asyncpg
import pytest

from stonechat.db.tenancy import OWNER, owner_sees_all
from support.postgres import TestDatabase, migrated_database

BACKFILL = "update agents set archived_at = now()"


@pytest.fixture
async def throwaway(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    """A migrated database with one agent in each of three tenants."""
    async with migrated_database(postgres_admin_url, f"stonechat_backfill_{os.getpid()}_{uuid4().hex[:6]}") as database:
        connection = await asyncpg.connect(database.admin_url)
        for number in range(3):
            tenant_id = uuid4()
            await connection.execute("insert into tenants (tenant_id, name) values ($1, 'T')", tenant_id)
            await connection.execute(
                "insert into agents (tenant_id, agent_id, name, draft) values ($1, $2, 'A', '{}')",
                tenant_id,
                f"agt_{number}",
            )
        await connection.close()
        yield database


class Operations:
    """Alembic's `op`, as far as a backfill needs it: runs statements as the owner, one after another."""

    def __init__(self, connection: asyncpg.Connection, loop: asyncio.AbstractEventLoop) -> None:
        self._connection = connection
        self._loop = loop
        self.results: list[str] = []

    def execute(self, sqltext: str) -> None:
        running = asyncio.run_coroutine_threadsafe(self._connection.execute(sqltext), self._loop)
        self.results.append(running.result(30))


async def as_owner(database: TestDatabase, migration: Callable[[Operations], None]) -> list[str]:
    """Run a migration's body as the owner, in one transaction. Returns what each statement answered."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        async with connection.transaction():
            await connection.execute(f"set local role {OWNER}")
            operations = Operations(connection, asyncio.get_running_loop())
            await asyncio.to_thread(migration, operations)
            return operations.results
    finally:
        await connection.close()


def with_everything_in_sight(op: Operations) -> None:
    with owner_sees_all(op, "agents"):
        op.execute(BACKFILL)


async def test_a_backfill_touches_every_tenants_rows(throwaway: TestDatabase) -> None:
    assert "UPDATE 3" in await as_owner(throwaway, with_everything_in_sight)
    assert await _count(throwaway, "select count(*) from agents where archived_at is not null") == 3


async def test_afterwards_the_table_is_as_guarded_as_before(throwaway: TestDatabase) -> None:
    await as_owner(throwaway, with_everything_in_sight)
    assert (
        await _count(throwaway, "select count(*) from pg_class where relname = 'agents' and relforcerowsecurity") == 1
    )


async def test_it_does_not_hang_on_the_owners_policy(throwaway: TestDatabase) -> None:
    """Without that policy, a plain backfill would quietly change nothing. This one still changes all."""
    await _run(throwaway, "drop policy owner_all on agents")

    def plain(op: Operations) -> None:
        op.execute(BACKFILL)

    assert "UPDATE 0" in await as_owner(throwaway, plain)
    assert "UPDATE 3" in await as_owner(throwaway, with_everything_in_sight)


async def test_a_table_that_was_forgotten_is_an_error_and_nothing_is_changed(throwaway: TestDatabase) -> None:
    await _run(throwaway, "drop policy owner_all on agents")

    def forgetful(op: Operations) -> None:
        with owner_sees_all(op, "tenants"):
            op.execute("update tenants set name = 'changed'")
            op.execute(BACKFILL)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await as_owner(throwaway, forgetful)
    assert await _count(throwaway, "select count(*) from tenants where name = 'changed'") == 0


async def _run(database: TestDatabase, statement: str) -> None:
    connection = await asyncpg.connect(database.admin_url)
    await connection.execute(statement)
    await connection.close()


async def _count(database: TestDatabase, query: str) -> int:
    connection = await asyncpg.connect(database.admin_url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()

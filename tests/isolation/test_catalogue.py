"""The migrated schema keeps tenants apart, table by table; and this test would notice if it did not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from stonechat.db import tenancy
from support.catalogue import faults
from support.postgres import TestDatabase, migrated_database


@pytest.fixture(scope="module")
async def throwaway(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    async with migrated_database(postgres_admin_url, f"stonechat_catalogue_{os.getpid()}") as database:
        yield database


async def test_the_schema_keeps_tenants_apart(test_database: TestDatabase) -> None:
    connection = await asyncpg.connect(test_database.admin_url)
    try:
        assert await faults(connection) == []
    finally:
        await connection.close()


class Collected:
    """Stands in for Alembic's `op`: keeps the statements."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def execute(self, sqltext: str) -> None:
        self.statements.append(sqltext)


def protected(*statements: str, table: str = "bad") -> str:
    """The statements, followed by the usual protection of `table`."""
    op = Collected()
    tenancy.protect_tenant_table(op, table)
    return ";".join([*statements, *op.statements])


GOOD = "create table bad (tenant_id uuid, id text, primary key (tenant_id, id))"
BAD = {
    "a bare table": ("create table bad (id int primary key)", "bad does not force row-level security"),
    "no force": (protected(GOOD) + "; alter table bad no force row level security", "bad does not force"),
    "no tenant": (
        "create table bad (id int primary key); alter table bad enable row level security, force row level security",
        "bad has no tenant_id",
    ),
    "tenant may be null": (protected("create table bad (tenant_id uuid, id int)"), "bad has no tenant_id"),
    "no primary key": (protected("create table bad (tenant_id uuid not null)"), "bad has no primary key"),
    "key of another order": (
        protected("create table bad (tenant_id uuid, id text, primary key (id, tenant_id))"),
        "bad: unique bad_pkey does not begin",
    ),
    "global uniqueness": (
        protected(GOOD.replace("id text", "id text unique")),
        "bad: unique bad_id_key does not begin",
    ),
    "unique expression": (
        protected(GOOD) + "; create unique index sly on bad (lower(id))",
        "bad: unique sly does not begin",
    ),
    "foreign key to one column": (
        protected("create table good (tenant_id uuid, id text unique, primary key (tenant_id, id))", GOOD)
        + "; alter table bad add foreign key (id) references good (id)",
        "bad: foreign key bad_id_fkey does not begin",
    ),
    "foreign key that clears the tenant": (
        protected(GOOD.replace("id text", "id text, agent_id text"))
        + "; alter table bad add constraint clears foreign key (tenant_id, agent_id) references agents on delete set null",
        "bad: foreign key clears would clear tenant_id",
    ),
    "policy missing": (protected(GOOD) + "; drop policy owner_all on bad", "bad lacks the policy owner_all"),
    "policy weakened": (
        protected(GOOD) + "; alter policy tenant_isolation on bad using (true)",
        "bad: the policy tenant_isolation is not",
    ),
    "policy unchecked": (
        protected(GOOD) + "; alter policy tenant_isolation on bad with check (true)",
        "bad: the policy tenant_isolation is not",
    ),
    "policy for all": (
        protected(GOOD) + "; alter policy platform_read on bad to public",
        "bad: the policy platform_read is not",
    ),
    "another way in": (protected(GOOD) + "; create policy sly on bad using (true)", "bad: the policy sly permits"),
    "users that meet": (
        protected(GOOD.replace("id text", "id text, user_id text")),
        "bad names users",
    ),
    "partition within reach": (
        "grant select on audit_log_default to stonechat_app",
        "stonechat_app may reach partition audit_log_default",
    ),
    "one column of a partition": (
        "grant select (detail) on audit_log_default to stonechat_platform",
        "stonechat_platform may reach partition audit_log_default",
    ),
    "truncate": ("grant truncate on threads to stonechat_app", "stonechat_app may truncate threads"),
    "truncate by everybody": ("grant truncate on threads to public", "stonechat_app may truncate threads"),
    "ownership": ("alter table people owner to stonechat_app", "stonechat_app owns table people"),
    "creation": ("grant create on schema public to stonechat_app", "stonechat_app may create things in public"),
    "a platform's table changed": (
        "grant update on platform_settings to stonechat_app",
        "stonechat_app may change platform_settings",
    ),
    "platform writes": ("grant update on agents to stonechat_platform", "stonechat_platform may write to agents"),
    "definer function": (
        "create function sly() returns bigint language sql security definer set search_path = public, pg_temp "
        "as 'select count(*) from threads'",
        "stonechat_app may call sly, which runs",
    ),
    "definer function without a path": (
        "create function sly() returns bigint language sql security definer as 'select count(*) from threads'",
        "sly trusts the caller's search_path",
    ),
    "view": (
        "create view sly as select * from threads; grant select on sly to stonechat_app",
        "view sly reads with its owner's rights",
    ),
    "materialised view": (
        "create materialized view sly as select * from threads; grant select on sly to stonechat_app",
        "view sly reads with its owner's rights",
    ),
}


@pytest.mark.parametrize("bad", BAD)
async def test_a_fault_is_found(throwaway: TestDatabase, bad: str) -> None:
    statement, complaint = BAD[bad]
    connection = await asyncpg.connect(throwaway.admin_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(statement)
        found = await faults(connection)
        await transaction.rollback()
    finally:
        await connection.close()
    assert any(fault.startswith(complaint) for fault in found), found


async def test_what_is_right_is_left_alone(throwaway: TestDatabase) -> None:
    connection = await asyncpg.connect(throwaway.admin_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(protected(GOOD))
        await connection.execute(
            "create view fine with (security_invoker = true) as select * from threads; grant select on fine to stonechat_app"
        )
        assert await faults(connection) == []
        await transaction.rollback()
    finally:
        await connection.close()

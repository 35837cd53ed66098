"""A transaction sees its own tenant's rows and nobody else's."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from stonechat.db.session import Database

COUNT = text("select count(*) from tenants where tenant_id = :id")


async def test_a_tenant_sees_itself(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        assert await session.scalar(COUNT, {"id": tenant_id}) == 1


async def test_another_tenant_sees_nothing_of_it(database: Database, tenant_id: UUID, make_tenant) -> None:
    async with database.tenant(await make_tenant()) as session:
        assert await session.scalar(COUNT, {"id": tenant_id}) == 0


async def test_without_a_tenant_there_are_no_rows(database: Database, tenant_id: UUID) -> None:
    async with database.directory() as session:
        assert await session.scalar(text("select count(*) from tenants")) == 0
    async with database.hot.acquire() as connection:
        assert await connection.fetchval("select count(*) from tenants") == 0


async def test_the_setting_ends_with_its_transaction(database: Database, tenant_id: UUID) -> None:
    for _ in range(20):  # more than the pool has connections
        async with database.tenant(tenant_id) as session:
            await session.scalar(COUNT, {"id": tenant_id})
    async with database.directory() as session:
        assert not await session.scalar(text("select current_setting('stonechat.tenant_id', true)"))


async def test_the_platform_reads_across_tenants_and_writes_nowhere(database: Database, tenant_id: UUID) -> None:
    async with database.platform() as session:
        assert await session.scalar(COUNT, {"id": tenant_id}) == 1
        assert not await session.scalar(text("select has_table_privilege('tenants', 'update')"))


@pytest.mark.parametrize("engine", ["engine", "platform_engine"])
async def test_errors_do_not_repeat_what_people_wrote(database: Database, engine: str) -> None:
    async with getattr(database, engine).connect() as connection:
        with pytest.raises(DBAPIError) as failed:
            await connection.execute(
                text("select 1 / 0 from (values (cast(:said as text))) as t"), {"said": "my own words"}
            )
    assert "my own words" not in str(failed.value)

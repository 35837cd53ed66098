"""Bare tenants, for tests to keep apart by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

from sqlalchemy import text

from stonechat import ids
from stonechat.db.session import Database

MakeTenant = Callable[[], Awaitable[UUID]]


def tenant_maker(database: Database) -> MakeTenant:
    """What creates a tenant (a bare row) and returns its id."""

    async def make() -> UUID:
        tenant_id = ids.new_tenant_id()
        async with database.tenant(tenant_id) as session:
            await session.execute(
                text("insert into tenants (tenant_id, name) values (:id, :name)"),
                {"id": tenant_id, "name": f"Tenant {tenant_id.hex[:8]}"},
            )
        return tenant_id

    return make

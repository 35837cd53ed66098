"""Fixtures of rooms that sweep through all tenants: a database that holds no other room's, which may be thousands.

A room's `conftest.py` imports all four; they stand in the place of those that the other rooms share.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from stonechat.db.session import Database
from support.postgres import TestDatabase, migrated_database
from support.tenants import MakeTenant, tenant_maker

__all__ = ["database", "make_tenant", "tenant_id", "test_database"]


@pytest.fixture(scope="session")
async def test_database(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    async with migrated_database(postgres_admin_url, f"stonechat_own_{os.getpid()}_{uuid4().hex[:6]}") as made:
        yield made


@pytest.fixture(scope="session")
async def database(test_database: TestDatabase) -> AsyncIterator[Database]:
    opened = Database(test_database.web_url, pool_size=10)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def make_tenant(database: Database) -> MakeTenant:
    return tenant_maker(database)


@pytest.fixture
async def tenant_id(make_tenant: MakeTenant) -> UUID:
    return await make_tenant()

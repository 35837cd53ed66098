"""One migrated database and fresh tenants on it. The rooms share those of `tests/conftest.py`, which imports all four.

A room that sweeps through all tenants, of which the others may have made thousands, imports them once more into its own
`conftest.py`: that is a database of its own.
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
    """Tests keep apart by making tenants of their own."""
    async with migrated_database(postgres_admin_url, f"stonechat_test_{os.getpid()}_{uuid4().hex[:6]}") as made:
        yield made


@pytest.fixture(scope="session")
async def database(test_database: TestDatabase) -> AsyncIterator[Database]:
    """The application's own door to the test database."""
    opened = Database(test_database.web_url, pool_size=10)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def make_tenant(database: Database) -> MakeTenant:
    """Creates a tenant (a bare row) and returns its id."""
    return tenant_maker(database)


@pytest.fixture
async def tenant_id(make_tenant: MakeTenant) -> UUID:
    """A fresh tenant."""
    return await make_tenant()

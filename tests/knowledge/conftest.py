"""Fixtures of the knowledge room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from stonechat.db.session import Database
from stonechat.knowledge.deps import Knowledge
from support.crawling import crawling
from support.knowledge import scratch_knowledge
from support.site import Crawl


@pytest.fixture
async def knowledge(database: Database, tmp_path: Path) -> AsyncIterator[Knowledge]:
    """The room over the test database, with an index and a file store of its own."""
    async with scratch_knowledge(database, tmp_path) as room:
        yield room


@pytest.fixture(scope="session")
async def shared_knowledge(database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Knowledge]:
    """A room for tests that only read."""
    async with scratch_knowledge(database, tmp_path_factory.mktemp("knowledge")) as room:
        yield room


@pytest.fixture
async def crawl(database: Database, tenant_id: UUID, tmp_path: Path) -> AsyncIterator[Crawl]:
    """A fresh tenant, and a site to fetch."""
    async with crawling(database, tenant_id, tmp_path) as made:
        yield made

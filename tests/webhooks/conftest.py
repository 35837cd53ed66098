"""A fresh tenant's webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from stonechat.db.session import Database
from support.webhooks import Hooks, hooks_of


@pytest.fixture
async def hooks(database: Database, tenant_id: UUID) -> AsyncIterator[Hooks]:
    async with hooks_of(database, tenant_id) as hooks:
        yield hooks

"""Plans and settings are the platform's: what a test changes there is put back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stonechat.db.session import Database
from support.plans import platform_put_back


@pytest.fixture(autouse=True)
async def _put_back(database: Database) -> AsyncIterator[None]:
    async with platform_put_back(database):
        yield

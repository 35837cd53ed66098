"""The application with an agent that answers from documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.platform import Platform, open_platform
from support.postgres import TestDatabase


@pytest.fixture
async def platform(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Platform]:
    async with open_platform(test_database, tmp_path) as opened:
        yield opened

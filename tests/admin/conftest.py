"""One console for all tests of its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.console import ConsoleWorld, console_world
from support.postgres import TestDatabase


@pytest.fixture(scope="session")
async def world(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    async with console_world(test_database.web_url, tmp_path_factory.mktemp("console")) as world:
        yield world

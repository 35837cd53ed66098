"""One console, with its operators' room, for all tests of it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.console import ConsoleWorld, console_world
from support.postgres import TestDatabase


@pytest.fixture(scope="session")
async def world(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    folder = tmp_path_factory.mktemp("operators")
    async with console_world(test_database.web_url, folder, configured_ip_requests_per_minute=1_000_000) as world:
        yield world

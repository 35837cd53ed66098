"""One measured platform for the room: series only ever grow, so that tests look at what an event adds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.metrics import Measured, open_measured
from support.postgres import TestDatabase


@pytest.fixture(scope="session")
async def measured(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Measured]:
    async with open_measured(test_database, tmp_path_factory.mktemp("measured")) as opened:
        yield opened

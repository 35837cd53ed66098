"""The world, three times: as built, with every predicate removed, and with row-level security off."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from support.postgres import migrated_database
from support.world import MODES, Mode, World, open_world


@pytest.fixture(scope="session", params=MODES, ids=[mode.replace(" ", "-") for mode in MODES])
async def world(
    request: pytest.FixtureRequest, postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    mode: Mode = request.param
    name = f"stonechat_world_{os.getpid()}_{MODES.index(mode)}"
    async with (
        migrated_database(postgres_admin_url, name) as database,
        open_world(mode, database, tmp_path_factory.mktemp("world")) as world,
    ):
        yield world

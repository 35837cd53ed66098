"""The application, with a new tenant for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from support.platform import Platform, open_app, platform_of
from support.postgres import TestDatabase


@pytest.fixture(scope="session")
async def application(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FastAPI]:
    async with open_app(test_database, tmp_path_factory.mktemp("unanswered")) as app:
        yield app


@pytest.fixture
async def platform(application: FastAPI) -> AsyncIterator[Platform]:
    async with platform_of(application) as platform:
        yield platform

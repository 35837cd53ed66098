"""Fixtures that every room's tests share: one migrated database a run, and fresh tenants on it."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Generator

import pytest
from argon2 import PasswordHasher

from stonechat.accounts.passwords import PASSWORDS
from stonechat.serving import quiet_the_collector
from support.databases import database, make_tenant, tenant_id, test_database
from support.postgres import admin_server
from support.routes import remember_routes
from support.trust import read_trust_once

__all__ = ["database", "make_tenant", "tenant_id", "test_database"]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import everything, then keep the collector off it, as while serving: to make the application takes half the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        quiet_the_collector()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """For `--dist loadfile`. There is no such hook where tests run in one process."""
    if config.getoption("dist") != "loadfile":
        return None
    from support.schedule import RoomScheduling

    return RoomScheduling(config, log)


def pytest_configure() -> None:
    remember_routes()
    read_trust_once()


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> None:
    """Hash at the least cost in this process; processes that tests start, and tests of the cost, have their own."""
    PASSWORDS.hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(scope="session")
async def postgres_admin_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """An administrator's URL on the test server, for tests that make databases of their own."""
    async with admin_server(tmp_path_factory.mktemp("postgres")) as url:
        yield url

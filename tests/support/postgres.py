"""A migrated Postgres database for tests: on the embedded server, or on the one named by STONECHAT_TEST_DATABASE_URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy.engine import make_url

from stonechat.db import migrate

WEB_LOGIN = "stonechat_test_web"
CARELESS = ("fsync", "full_page_writes", "synchronous_commit")
"""What guards against power cuts, which no test of a shared server makes. Servers of single tests keep it."""


@dataclass(frozen=True)
class TestDatabase:
    """Addresses of one migrated database: as the administrator, and as the login that the application uses."""

    __test__ = False

    admin_url: str
    web_url: str


@asynccontextmanager
async def admin_server(folder: Path) -> AsyncIterator[str]:
    """The URL of an administrator on some Postgres server; an embedded one in `folder` unless the environment names one."""
    if url := os.environ.get("STONECHAT_TEST_DATABASE_URL"):
        yield url
        return
    from stonechat.db.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(folder)
    address = await asyncio.to_thread(server.acquire)
    try:
        connection = await asyncpg.connect(address.url("postgres"))
        for setting in CARELESS:
            await connection.execute(f"alter system set {setting} = off")
        await connection.execute("select pg_reload_conf()")
        await connection.close()
        yield address.url("postgres")
    finally:
        await asyncio.to_thread(server.release)


@asynccontextmanager
async def migrated_database(admin_url: str, name: str) -> AsyncIterator[TestDatabase]:
    """A new database with the newest schema, dropped afterwards."""
    password = "for-tests-only"
    await migrate.ensure_roles(admin_url, logins={WEB_LOGIN: password})
    await migrate.create_database(admin_url, name)
    url = make_url(admin_url).set(database=name)
    own = url.render_as_string(hide_password=False)
    try:
        await migrate.migrate(own)
        web = url.set(username=WEB_LOGIN, password=password).render_as_string(hide_password=False)
        yield TestDatabase(own, web)
    finally:
        connection = await asyncpg.connect(admin_url)
        await connection.execute(f'drop database if exists "{name}" with (force)')
        await connection.close()

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
from stonechat.db.tenancy import OWNER

WEB_LOGIN = "stonechat_test_web"
CARELESS = ("fsync", "full_page_writes", "synchronous_commit")
"""What guards against power cuts, which no test of a shared server makes. Servers of single tests keep it."""

_templates: dict[str, str] = {}
"""By the administrator's URL, the database that others are copied from."""


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
        try:
            yield url
        finally:
            if template := _templates.pop(url, None):
                await _drop(url, template)
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
        _templates.pop(address.url("postgres"), None)
        await asyncio.to_thread(server.release)


@asynccontextmanager
async def migrated_database(admin_url: str, name: str) -> AsyncIterator[TestDatabase]:
    """A new database with the newest schema, dropped afterwards. The first is migrated, the others are copies of it."""
    password = "for-tests-only"
    await migrate.ensure_roles(admin_url, logins={WEB_LOGIN: password})
    if admin_url not in _templates:
        template = f"stonechat_template_{os.getpid()}"
        await migrate.create_database(admin_url, template)
        await migrate.migrate(_url_of(admin_url, template))
        _templates[admin_url] = template
    await _drop(admin_url, name)  # a run that was killed may have left one of this name
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f'create database "{name}" owner {OWNER} template "{_templates[admin_url]}"')
    finally:
        await connection.close()
    own = _url_of(admin_url, name)
    web = make_url(own).set(username=WEB_LOGIN, password=password).render_as_string(hide_password=False)
    try:
        yield TestDatabase(own, web)
    finally:
        await _drop(admin_url, name)


def _url_of(admin_url: str, database: str) -> str:
    return make_url(admin_url).set(database=database).render_as_string(hide_password=False)


async def _drop(admin_url: str, database: str) -> None:
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f'drop database if exists "{database}" with (force)')
    await connection.close()

"""Migrations on databases as people have them: made by an administrator, or served by logins with few rights."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from stonechat import ids
from stonechat.db import migrate
from stonechat.db.session import Database
from support.running import STONECHAT, environment, free_port, start


@pytest.fixture
async def ordinary_database(postgres_admin_url: str) -> AsyncIterator[str]:
    """A database that somebody made by hand, owned by the administrator."""
    name = f"stonechat_ordinary_{os.getpid()}"
    connection = await asyncpg.connect(postgres_admin_url)
    await connection.execute(f'create database "{name}"')
    try:
        yield make_url(postgres_admin_url).set(database=name).render_as_string(hide_password=False)
    finally:
        await connection.execute(f'drop database "{name}" with (force)')
        await connection.close()


async def works(url: str) -> None:
    """The application can make a tenant and see it, in its own role."""
    database = Database(url, pool_size=2)
    try:
        tenant_id = ids.new_tenant_id()
        async with database.tenant(tenant_id) as session:
            assert await session.scalar(text("select current_user")) == "stonechat_app"
            await session.execute(text("insert into tenants (tenant_id, name) values (:id, 'x')"), {"id": tenant_id})
        async with database.platform() as session:
            assert await session.scalar(text("select count(*) from tenants")) == 1
        async with database.hot.acquire() as connection:
            assert await connection.fetchval("select current_user") == "stonechat_app"
    finally:
        await database.close()


async def test_one_url_is_enough(ordinary_database: str) -> None:
    await migrate.ensure_roles(ordinary_database)
    assert (await migrate.migrate(ordinary_database))[-1] == migrate.head_revision()
    assert await migrate.is_current(ordinary_database)
    await works(ordinary_database)


async def test_running_it_again_changes_nothing(ordinary_database: str) -> None:
    for _ in range(2):
        await migrate.ensure_roles(ordinary_database)
        applied = await migrate.migrate(ordinary_database)
    assert applied == []


async def test_a_login_of_its_own_for_the_application(ordinary_database: str) -> None:
    login = f"web_{os.getpid()}"
    connection = await asyncpg.connect(ordinary_database)
    try:
        await connection.execute(f"create role {login} login password 'few-rights'")
        await migrate.ensure_roles(ordinary_database, web_login=login)
        await migrate.migrate(ordinary_database)
        url = make_url(ordinary_database).set(username=login, password="few-rights")
        await works(url.render_as_string(hide_password=False))
    finally:
        await connection.execute(f"drop role {login}")
        await connection.close()


async def test_up_prepares_the_database_it_is_given(ordinary_database: str, tmp_path: Path) -> None:
    running = await start(tmp_path / "data", demo=False, DATABASE_URL=ordinary_database)
    try:
        assert not (running.data_dir / "postgres").exists()
    finally:
        await running.stop()
    assert await migrate.is_current(ordinary_database)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x", "Postgres at 127.0.0.1:1 cannot be used"),
        ("DATABASE_URL", "mysql://127.0.0.1/x", "starts with postgresql://"),
        ("STONECHAT_PUBLIC_URL", "notaurl", "scheme and host"),
        ("STONECHAT_FILES_URL", "ftp://example.com", "a folder or s3://"),
        ("STONECHAT_SECRET_KEYS", "short", "at least 32 bytes"),
        ("PORT", "many", "PORT"),
    ],
)
async def test_a_mistake_in_the_settings_is_told_in_a_sentence(
    tmp_path: Path, name: str, value: str, told: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        str(STONECHAT),
        "up",
        env=environment(tmp_path / "data", **{"PORT": str(free_port()), name: value}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode not in (0, None)
    assert told in output.decode()
    assert "Traceback" not in output.decode()

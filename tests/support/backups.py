"""Databases to restore into, what stands in one row by row, and archives made by hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from click.testing import CliRunner, Result
from sqlalchemy.engine import make_url

from stonechat.backup.archive import ArchiveWriter
from stonechat.backup.manifest import (
    HEAD,
    MANIFEST,
    SIGNATURE,
    Head,
    Manifest,
    StoredFile,
    Sums,
    TablePart,
    key_ids,
    meaning_of,
    sign,
)
from stonechat.backup.tables import Table, data_tables, owner_connection
from stonechat.cli import main
from stonechat.crypto.keyring import Keyring
from stonechat.db import migrate
from stonechat.db.migrate import head_revision
from support.postgres import WEB_LOGIN, TestDatabase

KEY = "a secret of forty-two characters for tests"


@asynccontextmanager
async def bare_database(admin_url: str, name: str) -> AsyncIterator[TestDatabase]:
    """A database without anything in it, dropped afterwards."""
    password = "for-tests-only"
    await migrate.ensure_roles(admin_url, logins={WEB_LOGIN: password})
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(f'drop database if exists "{name}" with (force)')
        await connection.execute(f'create database "{name}"')
        own = make_url(admin_url).set(database=name)
        web = own.set(username=WEB_LOGIN, password=password)
        yield TestDatabase(own.render_as_string(hide_password=False), web.render_as_string(hide_password=False))
        await connection.execute(f'drop database "{name}" with (force)')
    finally:
        await connection.close()


async def tables_there(admin_url: str) -> list[Table]:
    """Every table with data; none in a database that is bare."""
    async with owner_connection(admin_url, name="tests") as connection:
        return await data_tables(connection)


async def rows_of(admin_url: str) -> dict[str, tuple[int, str]]:
    """By table, how many rows there are and a digest of all of them."""
    found, tables = {}, await tables_there(admin_url)
    connection = await asyncpg.connect(admin_url)  # as an administrator, whom no policy binds
    try:
        for table in tables:
            row = await connection.fetchrow(
                "select count(*) as rows, md5(coalesce(string_agg(line, '|' order by line), '')) as digest "
                f"from (select t::text as line from {table.quoted} t) as lines"
            )
            found[table.name] = (row["rows"], row["digest"])
    finally:
        await connection.close()
    return found


async def shape_of(admin_url: str) -> list[tuple[Any, ...]]:
    """What the catalogue says of every table, partition, trigger, sequence and foreign key."""
    connection = await asyncpg.connect(admin_url)
    try:
        asked = (
            "select c.relname::text, c.relkind::text, c.relrowsecurity, c.relforcerowsecurity, "
            "pg_get_expr(c.relpartbound, c.oid) from pg_class c "
            "where c.relnamespace in ('public'::regnamespace, 'jobs'::regnamespace) order by 1",
            "select tgrelid::regclass::text, tgname::text, tgenabled::text from pg_trigger where not tgisinternal order by 1, 2",
            "select conrelid::regclass::text, conname::text, convalidated from pg_constraint where contype = 'f' order by 1, 2",
        )
        shape = [tuple(row) for query in asked for row in await connection.fetch(query)]
        sequences = await connection.fetch(
            "select schemaname, sequencename, last_value from pg_sequences order by 1, 2"
        )
        return shape + [tuple(row) for row in sequences]
    finally:
        await connection.close()


def files_of(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, by its place in there."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def command(
    *arguments: str | Path, database: TestDatabase | None, folder: Path, key: str = KEY, patch: pytest.MonkeyPatch
) -> Result:
    """`stonechat …` with an environment of its own. Its own event loops want a thread of their own."""
    wanted = {"STONECHAT_DATA_DIR": str(folder), "STONECHAT_SECRET_KEYS": key, "STONECHAT_ENV": "development"}
    if database is not None:
        wanted |= {"DATABASE_URL": database.web_url, "STONECHAT_OWNER_DATABASE_URL": database.admin_url}
    with patch.context() as context:
        for name in ("DATABASE_URL", "STONECHAT_OWNER_DATABASE_URL", "STONECHAT_FILES_URL", "QDRANT_URL"):
            context.delenv(name, raising=False)
        for name, value in wanted.items():
            context.setenv(name, value)
        return await asyncio.to_thread(CliRunner().invoke, main, [str(each) for each in arguments])


Members = list[tuple[str, bytes]]


def members(*, head: dict[str, Any] | None = None, key: str = KEY) -> Members:
    """A small archive, properly made: a table of two parts and a file."""
    keyring, sums = Keyring([key]), Sums()
    body: Members = [
        ("tables/public.tenants/000001.copy", b"1\tone\n2\ttwo\n"),
        ("tables/public.tenants/000002.copy", b"3\tthree\n"),
        ("files/0193000000007000800000000000a1de/documents/doc_1", b"An original."),
    ]
    sums.begin_table("public.tenants", ["tenant_id", "name"])
    for name, data in body:
        match meaning_of(name):
            case TablePart(table, _):
                sums.add_rows(table, data, part_begins=True)
            case StoredFile() as file:
                sums.add_file(file, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    said = Head(
        stonechat="0.1.0",
        revision=head_revision() or "",
        made_at="2026-11-23T05:00:00.000Z",
        postgres="18.0",
        keys=key_ids(keyring),
        needed_keys=key_ids(keyring),
    ).model_dump() | (head or {})
    head_bytes = Head.model_construct(**said).model_dump_json(warnings=False).encode()
    manifest = Manifest(
        head_sha256=hashlib.sha256(head_bytes).hexdigest(),
        tables=sums.tables,
        partitions={},
        sequences={},
        files=sums.files,
    )
    manifest_bytes = manifest.model_dump_json().encode()
    return [
        (HEAD, head_bytes),
        *body,
        (MANIFEST, manifest_bytes),
        (SIGNATURE, sign(keyring, manifest_bytes).model_dump_json().encode()),
    ]


def write(path: Path, content: Members) -> Path:
    """The archive of these members."""
    with ArchiveWriter(path) as archive:
        for name, data in content:
            archive.add(name, data)
        archive.finish()
    return path

"""Putting a checked archive back, into an empty database only.

All rows come in one transaction, as the role that owns the tables: no superuser is needed, and no foreign key is dropped,
since each table comes after those that it refers to. Files go to the file store before that transaction ends. So whatever
interrupts it before its end leaves an empty database, and it can be begun again; files that are there already count if
they are the same, and are never overwritten if they are not.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterable
from typing import IO
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError

from stonechat.backup.archive import READ_BYTES, ArchiveReader, Member
from stonechat.backup.checking import Checked
from stonechat.backup.listing import pages_of
from stonechat.backup.manifest import MANIFEST, StoredFile, Sums, TablePart, meaning_of
from stonechat.backup.progress import Progress, Say, in_words
from stonechat.backup.tables import (
    Table,
    any_table,
    data_tables,
    first_filled,
    has_roles,
    months_of,
    owner_connection,
    quoted,
    revision_of,
    sequences_of,
)
from stonechat.db import migrate
from stonechat.errors import Conflict, InvalidInput, NotFound, Unavailable
from stonechat.files import MAX_FILE_BYTES, FileStore

_IDLE_SECONDS = 30.0
"""What stands between may forget a connection over which nothing is said while files are written."""
ELSEWHERE = (
    "A backup is restored into an empty database only, and nothing here is ever overwritten. Make a new database and name it "
    "with DATABASE_URL; for an embedded one, set STONECHAT_DATA_DIR to a new folder that holds nothing but the old one's file "
    "`secret_key`."
)


async def require_empty(owner_url: str, *, revision: str) -> None:
    """Raise `Conflict` unless the database is empty: no tables at all, or ours without a row, not newer than `revision`."""
    async with owner_connection(owner_url, name="stonechat-restore", role=None) as connection:
        if (found := await any_table(connection)) is None:
            return
        if not await has_roles(connection):
            raise Conflict(f"The database holds {found}, which is not Stonechat's. {ELSEWHERE}")
    async with owner_connection(owner_url, name="stonechat-restore") as connection:
        if not (tables := await data_tables(connection)) or (there := await revision_of(connection)) is None:
            raise Conflict(f"The database holds {found}, which is not Stonechat's. {ELSEWHERE}")
        if filled := await first_filled(connection, tables):
            raise Conflict(f"The database is not empty: there are rows in {filled}. {ELSEWHERE}")
        known = migrate.revisions()
        if there not in known or known.index(there) > known.index(revision):
            raise Conflict(
                f"The database is empty, but has the schema {there} already, and the backup's is older ({revision}). {ELSEWHERE} "
                "What is missing is made there, and brought up to date afterwards."
            )


async def require_free(files: FileStore, listing: IO[str]) -> None:
    """Raise `Conflict` if the file store holds one of the archive's files with other content. `listing` as it was checked."""
    listing.seek(0)
    lines = (line.split() for line in listing)
    for (tenant, folder), group in itertools.groupby(lines, key=lambda line: (line[0], line[1].partition("/")[0])):
        there = await _names(files, UUID(hex=tenant), folder)
        for _, name, sha256 in group:
            if name in there and await _sha256(files, UUID(hex=tenant), name) != sha256:
                raise Conflict(
                    f"The file store holds another {tenant}/{name} than the backup, so it belongs to a platform in use. "
                    "Set STONECHAT_FILES_URL to an empty folder or to another prefix of the bucket. Nothing was restored."
                )


async def restore_archive(
    owner_url: str, checked: Checked, *, files: FileStore, say: Say, web_login: str | None = None
) -> None:
    """Make the schema that the archive is of, put everything in, and bring it up to date. `web_login` will use it.

    Raises `Conflict` if the database is not empty, `Unavailable` if it or the file store fails; then it is empty again.
    """
    revision = checked.head.revision
    await require_empty(owner_url, revision=revision)
    progress = Progress(say)
    progress.step(f"Making the schema {revision} ...")
    await migrate.ensure_roles(owner_url, web_login=web_login)
    await migrate.migrate(owner_url, revision=revision)
    progress.step(f"Writing {checked.rows:,} rows and {checked.manifest.files.count:,} files ...")
    try:
        async with owner_connection(owner_url, name="stonechat-restore") as connection, connection.transaction():
            await _load(connection, checked, files=files, progress=progress)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise Unavailable(
            f"The database gave up: {error}. It is empty again, and `stonechat restore` may be begun once more; should all "
            "have been in at that very moment, it says that there are rows. Then run `stonechat migrate` and `stonechat reindex`."
        ) from error
    progress.step("All rows and files are in.")
    await _bring_up_to_date(owner_url, progress)


async def _bring_up_to_date(owner_url: str, progress: Progress) -> None:
    try:
        if applied := await migrate.migrate(owner_url):
            progress.step(f"Brought the schema up to {applied[-1]}.")
        async with owner_connection(owner_url, name="stonechat-restore") as connection:
            await connection.execute("select public.stonechat_ensure_partitions()")
            # Until then the planner takes every table for an empty one.
            tables = await data_tables(connection)
            await connection.execute(f"analyze {', '.join(table.quoted for table in tables)}")
    except (asyncpg.PostgresError, DBAPIError, OSError) as error:
        raise Unavailable(
            f"Everything is restored, but the schema could not be brought up to date: {error} Run `stonechat migrate`, then "
            "`stonechat reindex`."
        ) from error


async def _load(connection: asyncpg.Connection, checked: Checked, *, files: FileStore, progress: Progress) -> None:
    """Everything, in the transaction that is open."""
    tables = {table.name: table for table in await data_tables(connection)}
    _require_same(checked, tables)
    try:
        await connection.execute(
            f"lock table {', '.join(table.quoted for table in tables.values())} in access exclusive mode"
        )
    except asyncpg.LockNotAvailableError:
        raise Unavailable(
            "Somebody works in the database. Stop every `serve`, `worker` and `up` that uses it."
        ) from None
    if filled := await first_filled(connection, list(tables.values())):
        raise Conflict(f"Somebody wrote rows into {filled} meanwhile. {ELSEWHERE}")
    unknown = checked.manifest.tables.keys() - tables.keys()
    if unknown:
        progress.step(f"Left out, since no version of Stonechat has it: {', '.join(sorted(unknown))}.")
    forced = [table for table in tables.values() if table.forced]
    # Rows come by COPY, which Postgres refuses whom row-level security binds. Seen by nobody until the end.
    await _each(connection, (f"alter table {table.quoted} no force row level security" for table in forced))
    await _each(connection, _triggers(tables.values(), "disable"))
    await _make_months(connection, checked)
    loader = _Loader(connection, checked, tables, files, progress)
    with ArchiveReader(checked.path) as archive:
        await loader.load(archive)
    await _set_sequences(connection, checked)
    await _each(connection, _triggers(tables.values(), "enable"))
    await _each(connection, (f"alter table {table.quoted} force row level security" for table in forced))
    if {table.name: table for table in await data_tables(connection)} != tables:
        raise Unavailable("The tables are not as they were before the rows came. Nothing was kept.")


def _require_same(checked: Checked, tables: dict[str, Table]) -> None:
    for name, table in tables.items():
        said = checked.manifest.tables.get(name)
        if said is None or sorted(said.columns) != sorted(table.columns):
            raise InvalidInput(
                f"{checked.path} says that it is of the schema {checked.head.revision}, but its table {name} is not. Nothing "
                "was restored."
            )


class _Loader:
    """Goes through the archive once more, this time writing, and adds up again what it writes."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        checked: Checked,
        tables: dict[str, Table],
        files: FileStore,
        progress: Progress,
    ) -> None:
        self._connection, self._checked, self._tables = connection, checked, tables
        self._files, self._progress = files, progress
        self._sums = Sums()
        self._spoken = time.monotonic()
        self._member: Member | None = None

    async def load(self, archive: ArchiveReader) -> None:
        self._member = await asyncio.to_thread(archive.next)  # the head
        self._member = await asyncio.to_thread(archive.next)
        while self._member is not None and self._member.name != MANIFEST:
            match meaning_of(self._member.name):
                case TablePart(table, _):
                    await self._take_rows(archive, table)
                case StoredFile() as file:
                    await self._take_file(archive, file)
                case None:
                    raise archive.damaged("a backup holds nothing of that name")
        if (different := self._sums.differs_from(self._checked.manifest)) is not None:
            raise archive.damaged(f"{different} changed since it was checked")

    async def _take_rows(self, archive: ArchiveReader, name: str) -> None:
        table = self._tables.get(name)
        if table is None:
            async for _ in self._parts(archive, name, all_of_them=True):
                pass
            return
        schema, _, relation = name.partition(".")
        # Foreign keys are checked at the end of each COPY, and until then the server notes every row: parts keep that
        # short. Rows that refer to others of their own table need them all.
        await self._connection.copy_to_table(
            relation,
            schema_name=schema,
            columns=self._checked.manifest.tables[name].columns,
            source=self._parts(archive, name, all_of_them=name in table.refers_to),
            format="text",
            encoding="UTF8",
        )

    async def _parts(self, archive: ArchiveReader, table: str, *, all_of_them: bool) -> AsyncIterator[bytes]:
        while self._member is not None and isinstance(part := meaning_of(self._member.name), TablePart):
            if part.table != table:
                return
            begins = True
            while data := await asyncio.to_thread(archive.read, READ_BYTES):
                self._sums.add_rows(table, data, part_begins=begins)
                begins = False
                yield data
                self._progress.moved(len(data), table)
            self._member = await asyncio.to_thread(archive.next)
            if not all_of_them:
                return

    async def _take_file(self, archive: ArchiveReader, file: StoredFile) -> None:
        data = await asyncio.to_thread(archive.read_all, at_most=MAX_FILE_BYTES)
        self._sums.add_file(file, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        await self._files.put(*file, data=data)
        self._progress.moved(len(data), "the files")
        if time.monotonic() - self._spoken >= _IDLE_SECONDS:
            await self._connection.execute("select 1")
            self._spoken = time.monotonic()
        self._member = await asyncio.to_thread(archive.next)


async def _make_months(connection: asyncpg.Connection, checked: Checked) -> None:
    """Partitions for the months of then: what would go to the default partition could never be moved out of it."""
    there = await months_of(connection)
    for parent, months in checked.manifest.partitions.items():
        for month in sorted(set(months) - set(there.get(parent, ()))) if parent in there else ():
            year, number = int(month[:4]), int(month[4:])
            after = f"{year + number // 12}-{number % 12 + 1:02}"
            await connection.execute(
                f"create table {quoted(f'public.{parent}_{month}')} partition of {quoted(f'public.{parent}')} "
                f"for values from ('{year}-{number:02}-01 00:00:00+00') to ('{after}-01 00:00:00+00')"
            )


async def _set_sequences(connection: asyncpg.Connection, checked: Checked) -> None:
    for name in await sequences_of(connection):
        if (said := checked.manifest.sequences.get(name)) is not None:
            await connection.execute("select setval($1::text::regclass, $2, $3)", quoted(name), *said)


def _triggers(tables: Iterable[Table], verb: str) -> Iterable[str]:
    for table in tables:
        for trigger in table.on_insert:
            yield f"alter table {table.quoted} {verb} trigger {quoted(trigger)}"


async def _each(connection: asyncpg.Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        await connection.execute(statement)


async def _names(files: FileStore, tenant_id: UUID, folder: str) -> set[str]:
    return {f"{folder}/{name}" async for page in pages_of(files, tenant_id, folder) for name in page}


async def _sha256(files: FileStore, tenant_id: UUID, name: str) -> str | None:
    try:
        return hashlib.sha256(await files.get(tenant_id, name)).hexdigest()
    except NotFound:
        return None


def summary(checked: Checked) -> str:
    """What an archive holds, in a line."""
    held = checked.manifest
    return (
        f"{checked.rows:,} rows of {len(held.tables)} tables and {held.files.count:,} files ({in_words(held.files.bytes)}), "
        f"as of {checked.head.made_at}"
    )

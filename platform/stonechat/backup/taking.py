"""Making a backup, while everything runs: all rows of one moment, then the files that those rows speak of.

A file is stored before the row that names it, and removed after it, so what the rows of one moment name is there a little
later, unless it was deleted meanwhile; then it is left out, and the restored platform notes that it is gone, as it does
with any file that is lost. Files that no row names are left out, too: nothing would ever delete them again.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from uuid import UUID

import asyncpg

import stonechat
from stonechat import clock
from stonechat.backup.archive import ArchiveWriter
from stonechat.backup.listing import pages_of
from stonechat.backup.manifest import (
    FOLDERS,
    HEAD,
    MANIFEST,
    SIGNATURE,
    Head,
    Manifest,
    StoredFile,
    Sums,
    file_name,
    key_ids,
    part_name,
    sign,
)
from stonechat.backup.progress import Progress, Say
from stonechat.backup.tables import (
    Table,
    data_tables,
    hidden_tables,
    months_of,
    owner_connection,
    quoted,
    revision_of,
    sequences_of,
)
from stonechat.crypto.keyring import Keyring
from stonechat.errors import NotFound, SecretUnreadable, Unavailable
from stonechat.files import FileStore

PART_BYTES = 4 * 1024 * 1024
"""Of rows, before compression; a part ends with a row."""
LOCK_TIMEOUT = "5s"
"""For a table that a migration changes."""
_ATTEMPTS = 3
_TENANTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Taken:
    """What was backed up."""

    path: Path
    size: int
    """Bytes of the archive."""
    head: Head
    manifest: Manifest
    seconds: float

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.manifest.tables.values())


async def take_backup(owner_url: str, *, files: FileStore, keyring: Keyring, path: Path, say: Say) -> Taken:
    """Write everything into a new file, readable by its owner alone. Under its name there is all of it or nothing.

    Raises `Conflict` if the file exists, `SecretUnreadable` if the keyring lacks a key that the data needs, `Unavailable`
    if the database, the file store or the disk cannot do their part.
    """
    begun, progress, sums = time.monotonic(), Progress(say), Sums()
    with ArchiveWriter(path) as archive, tempfile.TemporaryFile("w+", encoding="ascii") as names:
        try:
            async with owner_connection(owner_url, name="stonechat-backup") as connection:
                tables = await _hold_still(connection)
                head = await _head(connection, keyring)
                head_bytes = head.model_dump_json(indent=2).encode()
                archive.add(HEAD, head_bytes)
                for table in tables:
                    await _write_table(connection, table, archive=archive, sums=sums, progress=progress)
                partitions, sequences = await months_of(connection), await sequences_of(connection)
                await _note_files(connection, tables, files=files, names=names, progress=progress)
        except asyncpg.PostgresError as error:
            raise Unavailable(f"The database could not be read to its end: {error}. Nothing was kept.") from error
        except (OSError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"The connection to the database was lost: {error}. Nothing was kept.") from error
        await _write_files(files, names=names, archive=archive, sums=sums, progress=progress)
        manifest = Manifest(
            head_sha256=hashlib.sha256(head_bytes).hexdigest(),
            tables=sums.tables,
            partitions=partitions,
            sequences=sequences,
            files=sums.files,
        )
        manifest_bytes = manifest.model_dump_json(indent=2).encode()
        archive.add(MANIFEST, manifest_bytes)
        archive.add(SIGNATURE, sign(keyring, manifest_bytes).model_dump_json(indent=2).encode())
        size = await asyncio.to_thread(archive.finish)
    return Taken(archive.path, size, head, manifest, time.monotonic() - begun)


async def _hold_still(connection: asyncpg.Connection) -> list[Table]:
    """Begin a transaction that sees one moment, with no migration in between; the tables."""
    for _ in range(_ATTEMPTS):
        tables = await data_tables(connection)
        if not tables or await revision_of(connection) is None:
            raise Unavailable("There is no Stonechat in this database, so there is nothing to back up.")
        # A transaction that locks first sees the moment after it, and from then on no table changes its columns.
        await connection.execute("begin isolation level repeatable read, read only")
        await connection.execute(f"set local lock_timeout = '{LOCK_TIMEOUT}'")
        try:
            await connection.execute(f"lock table {', '.join(table.quoted for table in tables)} in access share mode")
        except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError):
            await connection.execute("rollback")
            continue
        if await data_tables(connection) == tables:
            if hidden := await hidden_tables(connection):
                raise Unavailable(
                    f"Row-level security would hide rows of {', '.join(hidden)} from the backup, so none was made. Each "
                    "of them needs its policy `owner_all`."
                )
            return tables
        await connection.execute("rollback")
    raise Unavailable("A migration is at work on this database. Begin the backup again when it is done.")


async def _head(connection: asyncpg.Connection, keyring: Keyring) -> Head:
    used = await connection.fetch("select distinct platform_key_id from public.tenant_keys order by 1")
    known = key_ids(keyring)
    needed = [key_id for (key_id,) in used]
    if missing := [key_id for key_id in needed if key_id not in known]:
        raise SecretUnreadable(
            f"STONECHAT_SECRET_KEYS lacks the key {', '.join(missing)}, without which this database's secrets cannot be "
            "decrypted. Set it as the running platform has it; no backup was made."
        )
    return Head(
        stonechat=stonechat.__version__,
        revision=await revision_of(connection) or "",
        made_at=clock.rfc3339(clock.now()),
        postgres=await connection.fetchval("show server_version"),
        keys=known,
        needed_keys=needed,
    )


async def _write_table(
    connection: asyncpg.Connection, table: Table, *, archive: ArchiveWriter, sums: Sums, progress: Progress
) -> None:
    sums.begin_table(table.name, list(table.columns))
    held = bytearray()

    async def write(end: int) -> None:
        part = bytes(held[:end])
        del held[:end]
        await asyncio.to_thread(_add_part, archive, sums, table.name, part)
        progress.moved(len(part), table.name)

    async def take(data: bytes) -> None:
        held.extend(data)
        if len(held) >= PART_BYTES and (end := held.rfind(b"\n") + 1):
            await write(end)

    query = f"select {table.column_list} from {table.quoted}"  # noqa: S608  partitions included
    await connection.copy_from_query(query, output=take, format="text")
    if held:
        await write(len(held))


def _add_part(archive: ArchiveWriter, sums: Sums, table: str, part: bytes) -> None:
    sums.add_rows(table, part, part_begins=True)
    archive.add(part_name(table, sums.parts_of(table)), part)


async def _note_files(
    connection: asyncpg.Connection, tables: list[Table], *, files: FileStore, names: IO[str], progress: Progress
) -> None:
    """Write down the names of the files that the rows speak of, so that the database need not wait for their bytes."""
    progress.step("Looking through the file store ...")
    there = {table.name for table in tables}
    async for tenant_id in _tenants(connection):
        for folder, (table, column) in FOLDERS.items():
            if f"public.{table}" not in there:
                continue
            asked = f"select {column} from {quoted(f'public.{table}')} where tenant_id = $1 and {column} = any($2)"  # noqa: S608
            async for found in pages_of(files, tenant_id, folder):
                # A document's bytes that replaced its first ones are named after it, with a dot.
                rows = {name: name.partition(".")[0] if folder == "documents" else name for name in found}
                known = {key for (key,) in await connection.fetch(asked, tenant_id, list(rows.values()))}
                names.writelines(f"{tenant_id.hex} {folder}/{name}\n" for name, key in rows.items() if key in known)


async def _tenants(connection: asyncpg.Connection) -> AsyncIterator[UUID]:
    after = UUID(int=0)
    asked = f"select tenant_id from public.tenants where tenant_id > $1 order by tenant_id limit {_TENANTS_AT_ONCE}"  # noqa: S608
    while page := await connection.fetch(asked, after):
        for (tenant_id,) in page:
            yield tenant_id
        after = page[-1][0]


async def _write_files(
    files: FileStore, *, names: IO[str], archive: ArchiveWriter, sums: Sums, progress: Progress
) -> None:
    names.seek(0)
    for line in names:
        tenant, _, name = line.rstrip("\n").partition(" ")
        file = StoredFile(UUID(hex=tenant), name)
        try:
            data = await files.get(*file)
        except NotFound:
            continue  # deleted meanwhile
        sums.add_file(file, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        await asyncio.to_thread(archive.add, file_name(*file), data)
        progress.moved(len(data), "the files")

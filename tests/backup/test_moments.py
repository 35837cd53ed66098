"""While others write, and what is left when it breaks off: one moment, or nothing."""

from __future__ import annotations

import asyncio
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from stonechat import ids
from stonechat.backup import listing, taking
from stonechat.backup.archive import ArchiveReader, ArchiveWriter
from stonechat.backup.checking import Checked, check_archive
from stonechat.backup.listing import pages_of
from stonechat.backup.restoring import require_empty, require_free, restore_archive
from stonechat.backup.taking import Taken, take_backup
from stonechat.crypto.keyring import Keyring
from stonechat.db import migrate
from stonechat.errors import Conflict, InvalidInput, SecretUnreadable, Unavailable
from stonechat.files import FileStore, FolderStore, S3Store
from support.backups import KEY, bare_database, rows_of, shape_of, tables_there
from support.fake_s3 import fake_s3
from support.postgres import TestDatabase, migrated_database

KEYRING = Keyring([KEY])
OLD = "0020"
"""A revision of the past, which tables and columns of today are missing from."""


async def took(url: str, path: Path, files: FileStore) -> Taken:
    return await take_backup(url, files=files, keyring=KEYRING, path=path, say=lambda _: None)


def checked_of(path: Path, listing: Any = None) -> Checked:
    return check_archive(path, KEYRING, say=lambda _: None, listing=listing)


async def put_back(url: str, checked: Checked, files: FileStore) -> None:
    await restore_archive(url, checked, files=files, say=lambda _: None)


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"role": "stonechat_owner"})
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def a_tenant(tenant_id: UUID) -> str:
    return f"insert into tenants (tenant_id, name) values ('{tenant_id}', 'A tenant')"


def a_conversation(tenant_id: UUID) -> str:
    """A thread with two items, in one statement."""
    thread = ids.new_id("thr")
    return f"""
        with made as (
            insert into threads (tenant_id, thread_id, user_id, created_at) values ('{tenant_id}', '{thread}', 'u', now()))
        insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at)
        select '{tenant_id}', '{thread}', 'item_' || n, 'u', 'user_message', '{{"words": "one\\ntwo"}}', now()
        from generate_series(1, 2) n"""


async def fill(url: str) -> None:
    """A few rows."""
    tenant_id = ids.new_tenant_id()
    await run(
        url,
        a_tenant(tenant_id),
        *(a_conversation(tenant_id) for _ in range(3)),
        *(
            "insert into documents (tenant_id, document_id, title, media_type, bytes, sha256, status) "
            f"values ('{tenant_id}', 'doc_{n}', 'T', 'text/plain', 3, sha256('{n}'), 'ready')"
            for n in (1, 2)
        ),
        # Now the parent comes before its child in the table, and so in the archive, or it does not.
        "update documents set parent_id = 'doc_2' where document_id = 'doc_1'",
        "update documents set parent_id = 'doc_1' where document_id = 'doc_2'",
    )


@pytest.fixture(scope="module")
async def here(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    """What is backed up."""
    async with migrated_database(postgres_admin_url, f"stonechat_here_{os.getpid()}") as database:
        await fill(database.admin_url)
        yield database


@pytest.fixture
async def there(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    """Where to, with the newest schema and no row."""
    async with migrated_database(postgres_admin_url, f"stonechat_there_{os.getpid()}") as database:
        yield database


@pytest.fixture
async def bare(postgres_admin_url: str) -> AsyncIterator[TestDatabase]:
    """Where there is nothing at all."""
    async with bare_database(postgres_admin_url, f"stonechat_bare_{os.getpid()}") as database:
        yield database


@pytest.fixture(scope="module")
async def old(postgres_admin_url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A backup of an earlier version."""
    path = tmp_path_factory.mktemp("old") / "old.tar.gz"
    async with bare_database(postgres_admin_url, f"stonechat_old_{os.getpid()}") as database:
        await migrate.ensure_roles(database.admin_url)
        await migrate.migrate(database.admin_url, revision=OLD)
        await fill(database.admin_url)
        await run(
            database.admin_url,
            "create table a_note_of_mine (words text)",
            "insert into a_note_of_mine values ('by hand')",
        )
        await took(database.admin_url, path, FolderStore(path.parent / "files"))
        yield path


async def test_one_of_an_earlier_version_is_brought_up_to_date(old: Path, bare: TestDatabase, tmp_path: Path) -> None:
    files = FolderStore(tmp_path / "files")
    checked = checked_of(old)
    assert checked.head.revision == OLD
    said: list[str] = []
    await restore_archive(bare.admin_url, checked, files=files, say=said.append)
    assert await migrate.is_current(bare.admin_url)
    there = await rows_of(bare.admin_url)
    filled = {name: count for name, (count, _) in there.items() if count}
    assert filled["public.thread_items"] == 6
    assert filled["public.documents"] == 2
    assert "public.a_note_of_mine" not in there
    assert any("no version of Stonechat has it: public.a_note_of_mine" in line for line in said)
    assert f"Brought the schema up to {migrate.head_revision()}." in said


async def test_a_newer_schema_is_refused_and_left_alone(old: Path, bare: TestDatabase, tmp_path: Path) -> None:
    await migrate.ensure_roles(bare.admin_url)
    await migrate.migrate(bare.admin_url, revision="0021")
    before = await shape_of(bare.admin_url)
    with pytest.raises(Conflict, match="has the schema 0021 already, and the backup's is older"):
        await put_back(bare.admin_url, checked_of(old), FolderStore(tmp_path))
    assert await shape_of(bare.admin_url) == before
    await require_empty(bare.admin_url, revision="0022")


async def test_a_database_of_somebody_elses_is_refused(bare: TestDatabase, tmp_path: Path) -> None:
    connection = await asyncpg.connect(bare.admin_url)
    await connection.execute("create table users (name text)")
    await connection.close()
    with pytest.raises(Conflict, match=r"holds public\.users, which is not Stonechat's"):
        await require_empty(bare.admin_url, revision=OLD)
    with pytest.raises(Unavailable, match="no Stonechat in this database"):
        await took(bare.admin_url, tmp_path / "one.tar.gz", FolderStore(tmp_path))


async def test_what_breaks_off_leaves_an_empty_database_and_can_be_begun_again(
    here: TestDatabase, there: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FolderStore(tmp_path / "files")
    tenant = (await tenants_of(here))[0]
    await files.put(tenant, "documents/doc_1", data=b"one")
    await files.put(tenant, "documents/doc_2", data=b"two")
    await took(here.admin_url, tmp_path / "one.tar.gz", files)
    checked = checked_of(tmp_path / "one.tar.gz")
    elsewhere, put = FolderStore(tmp_path / "elsewhere"), FolderStore.put

    async def fail_at_the_second(store: FolderStore, tenant_id: UUID, name: str, **options: Any) -> None:
        if name.endswith("2"):
            raise Unavailable("The file store cannot be written right now.")
        await put(store, tenant_id, name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(FolderStore, "put", fail_at_the_second)
        with pytest.raises(Unavailable, match="file store"):
            await put_back(there.admin_url, checked, elsewhere)
    assert {count for count, _ in (await rows_of(there.admin_url)).values()} == {0}
    assert all(table.forced for table in await tables_there(there.admin_url) if table.name == "public.threads")
    await put_back(there.admin_url, checked, elsewhere)
    assert await elsewhere.get(tenant, "documents/doc_2") == b"two"


async def test_rows_that_the_database_refuses_leave_it_empty(
    here: TestDatabase, there: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = FolderStore(tmp_path / "files")
    await took(here.admin_url, tmp_path / "one.tar.gz", files)
    checked = checked_of(tmp_path / "one.tar.gz")
    read = ArchiveReader.read

    def spoilt(archive: ArchiveReader, size: int) -> bytes:
        return read(archive, size).replace(b"user_message", b"user_mess\xffge")

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveReader, "read", spoilt)
        with pytest.raises(Unavailable, match="The database gave up"):
            await put_back(there.admin_url, checked, files)
    monkeypatch.setattr(ArchiveReader, "read", lambda archive, size: read(archive, size).replace(b"one", b"0ne"))
    with pytest.raises(InvalidInput, match="changed since it was checked"):
        await put_back(there.admin_url, checked, files)
    assert {count for count, _ in (await rows_of(there.admin_url)).values()} == {0}


async def tenants_of(database: TestDatabase) -> list[UUID]:
    connection = await asyncpg.connect(database.admin_url)
    try:
        return [UUID(str(tenant)) for (tenant,) in await connection.fetch("select tenant_id from tenants")]
    finally:
        await connection.close()


async def test_a_file_store_in_use_is_refused_and_what_is_there_already_counts(
    here: TestDatabase, tmp_path: Path
) -> None:
    files, other = FolderStore(tmp_path / "files"), FolderStore(tmp_path / "other")
    tenant = (await tenants_of(here))[0]
    await files.put(tenant, "documents/doc_1", data=b"one")
    await took(here.admin_url, tmp_path / "one.tar.gz", files)
    with (tmp_path / "listing").open("w+") as found:
        checked_of(tmp_path / "one.tar.gz", found)
        await require_free(files, found)
        await require_free(other, found)
        await other.put(tenant, "documents/doc_1", data=b"another")
        with pytest.raises(Conflict, match="belongs to a platform in use"):
            await require_free(other, found)
    assert await other.get(tenant, "documents/doc_1") == b"another"


async def test_files_in_a_bucket_are_backed_up_and_put_back(
    here: TestDatabase, there: TestDatabase, tmp_path: Path
) -> None:
    tenant = (await tenants_of(here))[0]
    async with fake_s3() as cloud:
        files, other = S3Store(cloud.url, access=cloud.access), S3Store(f"{cloud.url}/two", access=cloud.access)
        for n in ("1", "2", "2.0123abcd", "3", "3.0123abcd"):
            await files.put(tenant, f"documents/doc_{n}", data=f"{n}".encode())
        taken = await took(here.admin_url, tmp_path / "one.tar.gz", files)
        await put_back(there.admin_url, checked_of(tmp_path / "one.tar.gz"), other)
        there_now = [name async for page in pages_of(other, tenant, "documents") for name in page]
        assert there_now == ["doc_1", "doc_2", "doc_2.0123abcd"]
        assert await other.get(tenant, "documents/doc_2.0123abcd") == b"2.0123abcd"
        assert taken.manifest.files.count == 3
        for store in (files, other):
            await store.aclose()


async def test_a_store_that_cannot_list_on_does_not_keep_us_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, tenant, names = FolderStore(tmp_path), UUID(int=1), FolderStore.names
    for n in range(3):
        await files.put(tenant, f"documents/{n}", data=b"")

    async def from_the_beginning(
        store: FolderStore, tenant_id: UUID, folder: str, *, after: str, limit: int
    ) -> list[str]:
        return await names(store, tenant_id, folder, limit=limit)

    monkeypatch.setattr(FolderStore, "names", from_the_beginning)
    assert [page async for page in pages_of(files, tenant, "documents")] == [["0", "1", "2"]]
    monkeypatch.setattr(listing, "MAX_NAMES", 2)
    with pytest.raises(Unavailable, match="start-after"):
        _ = [page async for page in pages_of(files, tenant, "documents")]


async def test_what_is_written_meanwhile_is_in_it_as_a_whole_or_not_at_all(
    here: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conversations come between the copy of the threads and that of their items; files go."""
    tenant, files, loop = (await tenants_of(here))[0], FolderStore(tmp_path / "files"), asyncio.get_running_loop()
    for n in (1, 2):
        await files.put(tenant, f"documents/doc_{n}", data=b"some")
    await files.put(tenant, "documents/doc_3", data=b"of no row")
    add, writes = ArchiveWriter.add, 0

    async def write() -> None:
        await run(here.admin_url, *(a_conversation(tenant) for _ in range(5)))
        await files.delete(tenant, "documents/doc_2")

    def and_somebody_writes(archive: ArchiveWriter, name: str, data: bytes) -> None:
        nonlocal writes
        add(archive, name, data)
        if name.startswith("tables/public.threads/"):
            writes += 1
            asyncio.run_coroutine_threadsafe(write(), loop).result(30)

    async def count(table: str) -> int:
        return (await rows_of(here.admin_url))[table][0]

    before = await count("public.threads")
    monkeypatch.setattr(ArchiveWriter, "add", and_somebody_writes)
    taken = await took(here.admin_url, tmp_path / "one.tar.gz", files)
    tables = taken.manifest.tables
    assert (writes, await count("public.threads")) == (1, before + 5)
    assert (tables["public.threads"].rows, tables["public.thread_items"].rows) == (before, 2 * before)
    assert taken.manifest.files.count == 1
    names = list(taken.manifest.tables)
    assert names.index("public.threads") < names.index("public.thread_items")


async def test_rows_that_a_policy_would_hide_are_not_left_out_in_silence(here: TestDatabase, tmp_path: Path) -> None:
    await run(here.admin_url, "alter policy owner_all on threads using (tenant_id is null)")
    try:
        with pytest.raises(Unavailable, match=r"hide rows of public\.threads"):
            await took(here.admin_url, tmp_path / "one.tar.gz", FolderStore(tmp_path / "files"))
    finally:
        await run(here.admin_url, "alter policy owner_all on threads using (true)")
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_gets_full_leaves_nothing_behind(
    here: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_archive: ArchiveWriter, name: str, _data: bytes) -> None:
        if name.startswith("tables/public.thread_items/"):
            raise Unavailable("There is no room.")

    monkeypatch.setattr(ArchiveWriter, "add", full)
    monkeypatch.setattr(taking, "PART_BYTES", 1)  # in the middle of the table
    with pytest.raises(Unavailable, match="no room"):
        await took(here.admin_url, tmp_path / "one.tar.gz", FolderStore(tmp_path / "files"))
    assert list(tmp_path.iterdir()) == []


async def test_a_migration_that_fails_afterwards_is_told_apart(
    here: TestDatabase, there: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, work = FolderStore(tmp_path / "files"), migrate.migrate
    await took(here.admin_url, tmp_path / "one.tar.gz", files)

    async def fail_in_the_end(url: str, *, revision: str = "head") -> list[str]:
        if revision == "head":
            raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")
        return await work(url, revision=revision)

    monkeypatch.setattr(migrate, "migrate", fail_in_the_end)
    with pytest.raises(Unavailable, match=r"Everything is restored, but .* Run `stonechat migrate`"):
        await put_back(there.admin_url, checked_of(tmp_path / "one.tar.gz"), files)
    assert await rows_of(there.admin_url) == await rows_of(here.admin_url)


async def test_a_migration_at_work_is_said(here: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_ATTEMPTS", 1)
    monkeypatch.setattr(taking, "LOCK_TIMEOUT", "50ms")
    connection = await asyncpg.connect(here.admin_url)
    try:
        await connection.execute("begin; lock table threads in access exclusive mode")
        with pytest.raises(Unavailable, match="A migration is at work"):
            await took(here.admin_url, tmp_path / "one.tar.gz", FolderStore(tmp_path / "files"))
    finally:
        await connection.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_key_that_the_rows_need_must_be_there(here: TestDatabase, tmp_path: Path) -> None:
    tenant = (await tenants_of(here))[0]
    await run(
        here.admin_url,
        f"insert into tenant_keys (tenant_id, key_version, wrapped, platform_key_id) values ('{tenant}', 1, '', 'feedbeef')",
    )
    with pytest.raises(SecretUnreadable, match="lacks the key feedbeef"):
        await took(here.admin_url, tmp_path / "one.tar.gz", FolderStore(tmp_path / "files"))
    await run(here.admin_url, "delete from tenant_keys")


async def test_memory_does_not_grow_with_the_rows(
    here: TestDatabase, there: TestDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, files = (await tenants_of(here))[0], FolderStore(tmp_path / "files")
    words = "repeat(md5(n::text), 64)"
    await run(
        here.admin_url,
        f"insert into thread_items (tenant_id, thread_id, item_id, user_id, kind, data, created_at) "
        f"select '{tenant}', (select min(thread_id) from threads), 'many_' || n, 'u', 'user_message', "
        f"to_json({words}), now() from generate_series(1, 12000) n",
    )
    monkeypatch.setattr(taking, "PART_BYTES", 512 * 1024)
    tracemalloc.start()
    try:
        taken = await took(here.admin_url, tmp_path / "many.tar.gz", files)
        _, taking_peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        checked = checked_of(tmp_path / "many.tar.gz")
        await put_back(there.admin_url, checked, files)
        _, restoring_peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    items = taken.manifest.tables["public.thread_items"]
    assert items.bytes > 24_000_000
    assert items.parts > 20
    assert (await rows_of(there.admin_url))["public.thread_items"][0] == items.rows
    assert max(taking_peak, restoring_peak) < 12_000_000  # of 26 MB

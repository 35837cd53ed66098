"""The store that outside suites borrow: no set-up, any loop, a tenant for each name."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import datetime
from types import SimpleNamespace

import asyncpg
import pytest
from chatkit.store import NotFoundError
from chatkit.types import ThreadMetadata

from stonechat import testing
from stonechat.errors import InvalidInput
from stonechat.testing import DetachedPostgresStore
from support.chat import thread, user_message
from support.postgres import TestDatabase

ANNA = SimpleNamespace(user_id="anna")
BOB = SimpleNamespace(user_id="bob")


@pytest.fixture(autouse=True)
def elsewhere(test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("DATABASE_URL", test_database.web_url)
    fresh = testing._Elsewhere()
    monkeypatch.setattr(testing, "_elsewhere", fresh)
    yield
    fresh.stop()


def test_it_is_built_without_a_loop_and_used_from_many() -> None:
    store = DetachedPostgresStore("shared")
    kept = thread("thr_1", title="one")
    item = user_message("thr_1", "hello")

    async def write() -> None:
        await store.save_thread(kept, ANNA)
        await store.add_thread_item("thr_1", item, ANNA)

    async def read() -> None:
        assert (await DetachedPostgresStore("shared").load_thread("thr_1", ANNA)).title == "one"
        assert (await store.load_thread_items("thr_1", None, 10, "asc", ANNA)).data == [item]
        for stranger, context in [
            (store, BOB),
            (DetachedPostgresStore("other"), ANNA),
            (DetachedPostgresStore(), ANNA),
        ]:
            with pytest.raises(NotFoundError):
                await stranger.load_thread("thr_1", context)

    with asyncio.Runner() as runner:
        runner.run(write())
    with asyncio.Runner() as runner:
        runner.run(read())


def test_a_context_may_be_a_mapping() -> None:
    store = DetachedPostgresStore()

    async def save_and_load() -> str:
        await store.save_thread(thread("thr_1"), ANNA)
        with pytest.raises(NotFoundError):
            await store.load_thread("thr_1", {"user_id": "bob"})
        return (await store.load_thread("thr_1", {"user_id": "anna"})).id

    assert asyncio.run(save_and_load()) == "thr_1"


def test_what_was_saved_is_what_is_loaded() -> None:
    store = DetachedPostgresStore()
    threads = [thread(), ThreadMetadata(id="thr_naive", created_at=datetime.now())]  # noqa: DTZ005  as the SDK does

    async def save_and_load() -> list[ThreadMetadata]:
        for each in threads:
            await store.save_thread(each, ANNA)
        return [await store.load_thread(each.id, ANNA) for each in threads]

    assert asyncio.run(save_and_load()) == threads


@pytest.mark.parametrize("user_id", ["a\x00b", "half \ud800"])
def test_a_user_that_no_database_can_hold_is_refused_clearly(user_id: str) -> None:
    with pytest.raises(InvalidInput, match="id is text"):
        asyncio.run(DetachedPostgresStore().load_threads(1, None, "asc", SimpleNamespace(user_id=user_id)))


async def test_it_prepares_a_database_that_is_empty(
    postgres_admin_url: str, monkeypatch: pytest.MonkeyPatch, elsewhere: None
) -> None:
    name = f"stonechat_empty_{os.getpid()}"
    connection = await asyncpg.connect(postgres_admin_url)
    try:
        await connection.execute(f"create database {name}")
        monkeypatch.setenv("DATABASE_URL", postgres_admin_url.rpartition("/")[0] + f"/{name}")
        store = DetachedPostgresStore()
        await store.save_thread(thread("thr_1", title="first"), ANNA)
        assert (await store.load_thread("thr_1", ANNA)).title == "first"
        await asyncio.to_thread(testing._elsewhere.stop)
    finally:
        await connection.execute(f"drop database if exists {name} with (force)")
        await connection.close()


def test_subclasses_make_ids_of_their_own() -> None:
    class Counting(DetachedPostgresStore):
        def generate_thread_id(self, context: object) -> str:
            return "thr_mine"

    assert Counting().generate_thread_id(ANNA) == "thr_mine"
    assert DetachedPostgresStore().generate_thread_id(ANNA).startswith("thr_")


def test_names_of_other_processes_are_other_tenants(monkeypatch: pytest.MonkeyPatch) -> None:
    here = DetachedPostgresStore("name").tenant_id
    assert DetachedPostgresStore("name").tenant_id == here
    monkeypatch.setattr(testing, "_THIS_PROCESS", testing.uuid.uuid4())
    assert DetachedPostgresStore("name").tenant_id != here

"""The connections of the hot path: lent within bounds, given back whole, and replaced when they break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from stonechat.db.hot import HotConnections
from support.postgres import TestDatabase


@asynccontextmanager
async def connections(
    database: TestDatabase, *, size: int = 1, wait_seconds: float = 5.0
) -> AsyncIterator[HotConnections]:
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.admin_url)

    made = HotConnections(connect, size=size, wait_seconds=wait_seconds)
    try:
        yield made
    finally:
        await made.close()


async def process_of(hot: HotConnections) -> int:
    found: int = await hot.fetchval("select pg_backend_pid()")
    return found


async def test_one_connection_serves_one_after_the_other(test_database: TestDatabase) -> None:
    async with connections(test_database) as hot:
        processes = await asyncio.gather(*(process_of(hot) for _ in range(8)))
        assert len(set(processes)) == 1
        assert [row["n"] for row in await hot.fetch("select n from generate_series(1, 2) n")] == [1, 2]
        assert (await hot.fetchrow("select 1 as n"))["n"] == 1


async def test_no_more_are_opened_than_allowed(test_database: TestDatabase) -> None:
    async with connections(test_database, size=2) as hot:
        slow = "select pg_backend_pid() from pg_sleep(0.01)"
        processes = await asyncio.gather(*(hot.fetchval(slow) for _ in range(8)))
        assert len(set(processes)) == 2


async def test_who_finds_none_free_does_not_wait_for_ever(test_database: TestDatabase) -> None:
    async with connections(test_database, wait_seconds=0.02) as hot:
        async with hot.acquire():
            with pytest.raises(TimeoutError):
                await process_of(hot)
        assert await process_of(hot) > 0


async def test_a_failed_statement_costs_no_connection(test_database: TestDatabase) -> None:
    async with connections(test_database) as hot:
        before = await process_of(hot)
        with pytest.raises(asyncpg.DivisionByZeroError):
            await hot.fetchval("select 1 / 0")
        assert await process_of(hot) == before


async def test_who_is_cancelled_leaves_no_statement_to_the_next(test_database: TestDatabase) -> None:
    async with connections(test_database) as hot:
        before = await process_of(hot)
        sleeper = asyncio.create_task(hot.fetchval("select pg_sleep(30)"))
        await asyncio.sleep(0.02)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        assert await process_of(hot) != before


async def test_a_connection_that_broke_is_replaced(test_database: TestDatabase) -> None:
    async with connections(test_database) as hot, connections(test_database) as other:
        before = await process_of(hot)
        await other.fetchval("select pg_terminate_backend($1, 1000)", before)
        await asyncio.sleep(0)
        for _ in range(2):
            try:
                assert await process_of(hot) != before
            except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError, OSError):
                continue  # the one that found out
            break
        else:
            pytest.fail("a broken connection was lent twice")


async def test_one_that_nobody_used_for_long_is_not_trusted(
    test_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connections(test_database) as hot:
        before = await process_of(hot)
        monkeypatch.setattr("stonechat.db.hot.IDLE_SECONDS", -1.0)
        assert await process_of(hot) != before


async def test_who_cannot_connect_leaves_the_room_to_others() -> None:
    tries = 0

    async def connect() -> asyncpg.Connection:
        nonlocal tries
        tries += 1
        raise ConnectionRefusedError

    hot = HotConnections(connect, size=1, wait_seconds=0.02)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await process_of(hot)
    assert tries == 3


async def test_close_waits_for_who_is_at_it_and_the_next_use_opens_a_new_one(test_database: TestDatabase) -> None:
    async with connections(test_database) as hot:
        lent = asyncio.create_task(hot.fetchval("select pg_backend_pid() from pg_sleep(0.02)"))
        await asyncio.sleep(0)
        await hot.close()
        assert await process_of(hot) != await lent

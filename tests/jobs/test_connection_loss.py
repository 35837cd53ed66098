"""What the loss of a connection must not be taken for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import asyncpg
from pgqueuer.domain.models import Job, utc_now
from pgqueuer.ports.driver import Driver

from stonechat.jobs.attempts import FencedQueries
from stonechat.jobs.queue import queries_over
from stonechat.jobs.runner import _Driver
from support.postgres import TestDatabase


async def test_a_probe_is_not_sent_before_anybody_listens(test_database: TestDatabase) -> None:
    """Sent earlier it would be lost, and the silence taken for a dead connection: every ten seconds, for ever."""
    pool = await asyncpg.create_pool(test_database.web_url, min_size=2, max_size=2)
    try:
        driver, channel = _Driver(pool), f"probe_{uuid4().hex[:8]}"
        heard: asyncio.Queue[Any] = asyncio.Queue()
        async with driver:
            probe = asyncio.create_task(driver.notify(channel, "are you there?"))
            await driver.fetch("select pg_sleep(0.05)")
            assert not probe.done()
            await driver.add_listener(channel, heard.put_nowait)
            assert await asyncio.wait_for(heard.get(), 30) == "are you there?"
            await probe
    finally:
        await pool.close()


async def test_the_end_of_the_listening_connection_is_noticed_at_once(test_database: TestDatabase) -> None:
    pool = await asyncpg.create_pool(test_database.admin_url, min_size=2, max_size=2)
    try:
        driver = _Driver(pool)
        async with driver:
            await driver.add_listener(f"probe_{uuid4().hex[:8]}", print)
            assert driver._listener_connection is not None
            pid = driver._listener_connection.get_server_pid()
            await pool.execute("select pg_terminate_backend($1)", pid)
            await asyncio.wait_for(driver.broken.wait(), 30)
    finally:
        await pool.close()


async def test_a_job_that_cannot_be_put_back_is_not_held_as_failed(test_database: TestDatabase) -> None:
    """Whatever the driver raises: pgqueuer takes an error here for the job's own, and final."""
    pool = await asyncpg.create_pool(test_database.web_url, min_size=1, max_size=1)
    try:
        broken = _BreaksDown(pool)
        plain = queries_over(broken)
        queries = FencedQueries(broken, plain.qbe, plain.qbq, plain.qbs)
        await queries.retry_job(_job(), timedelta(0), None)
        assert broken.asked == 3
    finally:
        await pool.close()


class _BreaksDown(_Driver, Driver):
    """A driver whose connection is in no state to do anything."""

    asked = 0

    async def execute(self, query: str, *args: object) -> str:
        self.asked += 1
        raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")


def _job() -> Job:
    now = utc_now()
    moments = dict.fromkeys(("created", "updated", "heartbeat", "execute_after"), now)
    return Job.model_validate(
        moments
        | {"id": 1, "priority": 0, "status": "picked", "entrypoint": "test", "payload": b"{}"}
        | {"queue_manager_id": uuid4(), "headers": {"tenant": str(uuid4())}}
    )

"""A runner that works while a test looks on, and questions to the queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

from stonechat.jobs import Handler, JobRunner
from stonechat.jobs.attempts import RetryPolicy

QUICK = RetryPolicy(attempts=3, first_delay=timedelta(milliseconds=50), longest_delay=timedelta(milliseconds=200))


@asynccontextmanager
async def running(url: str, handlers: Mapping[str, Handler], **options: Any) -> AsyncIterator[JobRunner]:
    """A started runner, stopped at the end."""
    options = {"policy": QUICK, "heartbeat": timedelta(seconds=2), "poll": timedelta(seconds=0.2)} | options
    runner = JobRunner(url, handlers, **options)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        await runner.stop(timedelta(seconds=1))
        await task


async def until(condition: Callable[[], Awaitable[Any]] | Callable[[], Any], *, seconds: float = 30) -> Any:
    """Wait for a condition to hold, and return what it returned; TimeoutError when it never does."""
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.02)


async def jobs_of(admin_url: str, kind: str) -> list[asyncpg.Record]:
    """The rows of the queue for one kind of job."""
    connection = await asyncpg.connect(admin_url)
    try:
        return await connection.fetch("select * from jobs.pgqueuer where entrypoint = $1 order by id", kind)
    finally:
        await connection.close()


async def log_of(admin_url: str, kind: str) -> list[asyncpg.Record]:
    """What the queue's log says of one kind of job, oldest first."""
    connection = await asyncpg.connect(admin_url)
    try:
        return await connection.fetch("select * from jobs.pgqueuer_log where entrypoint = $1 order by id", kind)
    finally:
        await connection.close()

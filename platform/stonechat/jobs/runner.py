"""The worker's loop over the queue: survives a restart of the database, and ends when told to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta

import asyncpg
from pgqueuer.core.applications import PgQueuer
from pgqueuer.core.executors import EntrypointExecutorParameters
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.domain.models import Job, Schedule
from pgqueuer.domain.types import Channel
from pgqueuer.ports.driver import NotifyCallback
from sqlalchemy.engine import make_url

from stonechat import metrics
from stonechat.db.session import server_settings
from stonechat.db.tenancy import APP
from stonechat.jobs import purge
from stonechat.jobs.attempts import CANCEL_SECONDS, Attempt, FencedQueries, GiveUpHook, Handler, RetryPolicy, Work
from stonechat.jobs.queue import SETTINGS, queries_over

log = logging.getLogger(__name__)

ScheduledWork = Callable[[], Awaitable[None]]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 10.0
CONNECTIONS = 4


class JobRunner:
    """Runs jobs by kind, and schedules by cron expression (UTC), until stopped.

    `url` is the direct address of the database, past any transaction pooler, because this listens. A schedule runs in
    one worker at a time, however many there are; a cron expression names it, so two may not share one. `heartbeat` is
    how long a worker may be silent before another takes its jobs over; `poll` how often such jobs, and ones whose
    notification was lost, are looked for. Jobs of the kinds in `paused` wait while their tenant is suspended.
    """

    def __init__(
        self,
        url: str,
        handlers: Mapping[str, Handler],
        schedules: Mapping[str, ScheduledWork] | None = None,
        *,
        concurrency: int = 8,
        most_of_one: int | None = None,
        on_give_up: Mapping[str, GiveUpHook] | None = None,
        paused: Collection[str] = (),
        policy: RetryPolicy | None = None,
        job_limit: timedelta = timedelta(minutes=30),
        heartbeat: timedelta = timedelta(seconds=10),
        poll: timedelta = timedelta(seconds=5),
    ) -> None:
        parsed = make_url(url)
        self._login = parsed.username
        self._dsn = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        self._handlers = dict(handlers)
        self._schedules = dict(schedules or {})
        self._on_give_up = dict(on_give_up or {})
        self._paused = frozenset(paused)
        self._policy = policy or RetryPolicy()
        self._concurrency = max(2, concurrency)
        self._most_of_one = most_of_one or max(1, self._concurrency // 2)
        self._job_limit = job_limit
        self._heartbeat = heartbeat
        self._poll = poll
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self._started = False
        self._grace = 10.0
        for kind in self._handlers:  # there from the start, so that the first failure of a kind is seen as an increase
            for outcome in metrics.JOB_OUTCOMES:
                metrics.JOBS.of(kind, outcome)

    async def run(self) -> None:
        """Work until `stop`. Errors of the database are logged and answered with a new connection."""
        self._started = True
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._stopping.is_set():
                began = asyncio.get_running_loop().time()
                try:
                    await self._connected()
                except Exception as error:
                    log.warning("the job queue lost its database: %s: %s", type(error).__name__, error)
                if asyncio.get_running_loop().time() - began > 2 * LONGEST_PAUSE_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                await _wait(self._stopping, pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        finally:
            self._stopped.set()

    async def stop(self, grace: timedelta = timedelta(seconds=10)) -> None:
        """Take no more jobs; wait `grace` for those that run, then put them back into the queue. Returns when done."""
        self._grace = grace.total_seconds()
        self._stopping.set()
        if self._started:
            await self._stopped.wait()

    async def _connected(self) -> None:
        """One life of a connection pool: ends with `stop`, or when the database went away."""
        pool = await asyncpg.create_pool(
            self._dsn,
            min_size=2,
            max_size=CONNECTIONS,
            timeout=10,
            command_timeout=30,
            server_settings=server_settings(APP, login=self._login) | {"application_name": "stonechat-jobs"},
        )
        work = Work(self._job_limit)
        try:
            driver = _Driver(pool)
            queuer = self._queuer(pool, driver, work)
            running = asyncio.create_task(
                queuer.run(
                    dequeue_timeout=self._poll,
                    batch_size=self._concurrency // 2,
                    max_concurrent_tasks=self._concurrency,
                    shutdown_on_listener_failure=True,
                    heartbeat_timeout=self._heartbeat,
                )
            )
            try:
                await _first(running, self._stopping, driver.broken)
            finally:
                grace = self._grace if self._stopping.is_set() else 0.0
                queuer.shutdown.set()
                await _end(running, work, grace=grace)
            if running.done() and not running.cancelled():
                running.result()
            if not self._stopping.is_set():
                log.warning("the job queue lost its connection, and opens another")
        finally:
            await _close(pool)

    def _queuer(self, pool: asyncpg.Pool, driver: _Driver, work: Work) -> PgQueuer:
        plain = queries_over(driver)
        queries = FencedQueries(plain.driver, plain.qbe, plain.qbq, plain.qbs)
        queries.share(work, most_of_one=self._most_of_one, paused=self._paused)
        queuer = PgQueuer(connection=driver, channel=Channel(SETTINGS.channel), queries=queries)
        for kind, handler in self._handlers.items():
            parameters = EntrypointExecutorParameters(concurrency_limit=0, func=_unused, on_failure="hold")
            attempt = Attempt(parameters, pool, work, self._policy, handler, self._on_give_up.get(kind))
            queuer.qm.register_executor(kind, attempt)

        async def purge_queue() -> None:
            await purge.purge(pool)

        schedules = self._schedules | {purge.CRON: purge_queue}
        for cron, scheduled in schedules.items():
            queuer.schedule(f"schedule {cron}", cron)(_scheduled(work, scheduled))
        return queuer


class _Driver(AsyncpgPoolDriver):
    """Says at once when the database went away; pgqueuer would first wait for all of its handlers to end."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool)
        self.broken = asyncio.Event()
        self._listening = asyncio.Event()

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        try:
            return await super().fetch(query, *args)
        except Exception:
            self.broken.set()
            raise

    async def notify(self, channel: str, payload: str) -> None:
        # pgqueuer's first probe of the listener races with its LISTEN: sent earlier, it is never heard, and taken for
        # a failure ten seconds later.
        await self._listening.wait()
        await super().notify(channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        await super().add_listener(channel, callback)
        if self._listener_connection is not None:
            self._listener_connection.add_termination_listener(self._listener_ended)
        self._listening.set()

    async def __aexit__(self, *details: object) -> None:
        try:
            if self._listener_connection is not None and self._entered == 1:
                self._listener_connection.remove_termination_listener(self._listener_ended)
            await super().__aexit__(*details)
        except (asyncpg.InterfaceError, asyncpg.PostgresError, OSError) as error:
            # A connection that is gone cannot be handed back; the pool is closed next, and with it everything.
            log.debug("the listening connection was gone: %s", error)

    def _listener_ended(self, _connection: object) -> None:
        self.broken.set()


def _scheduled(work: Work, scheduled: ScheduledWork) -> Callable[[Schedule], Awaitable[None]]:
    async def call() -> None:
        await scheduled()

    async def run(_schedule: Schedule) -> None:
        outcome = "failed"
        try:
            await work.run(call())
            outcome = "done"
        finally:
            metrics.SCHEDULED.of(outcome).add()

    return run


async def _unused(job: Job) -> None:
    """pgqueuer wants a function; `Attempt` calls the handler itself."""


async def _first(running: asyncio.Task[None], *events: asyncio.Event) -> None:
    """Until the task ends or one of the events happens."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait([running, *waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


async def _end(running: asyncio.Task[None], work: Work, *, grace: float) -> None:
    """Let it finish by itself, then cancel the handlers (which puts their jobs back), then cancel everything."""
    if not running.done():
        await asyncio.wait({running}, timeout=grace)
    if not running.done():
        work.cancel()
        await asyncio.wait({running}, timeout=2 * CANCEL_SECONDS)
    if not running.done():
        log.warning(
            "%d jobs would not be cancelled; they will be picked up when their heartbeats are stale", len(work.tasks)
        )
        running.cancel()
        await asyncio.wait({running}, timeout=CANCEL_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


async def _close(pool: asyncpg.Pool) -> None:
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await pool.close()
    except Exception:
        pool.terminate()

"""One attempt at one job: what counts, what is tried again and when, and when it ends.

pgqueuer alone counts only orderly failures: a job that kills its process would be picked up for ever, and a cancelled
task would delete its job. Here a start is written down before the handler runs, so that a crash counts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from pgqueuer.core.executors import AbstractEntrypointExecutor
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Context, Job, TracebackRecord
from pgqueuer.domain.types import JOB_STATUS, JobId, QueueEntrypoint, QueueManagerId
from pgqueuer.ports.repository import EntrypointExecutionParameter
from pgqueuer.queries import Queries

from stonechat import metrics

log = logging.getLogger(__name__)

Handler = Callable[[UUID, dict[str, Any]], Awaitable[None]]
"""Given the tenant and the payload. Must be idempotent, and must let itself be cancelled."""
GiveUpHook = Callable[[UUID, dict[str, Any], str], Awaitable[None]]
"""Given the tenant, the payload and the reason, once no further attempt will be made."""

MAX_CRASHES = 3
CANCEL_SECONDS = 5.0


class GiveUp(Exception):
    """Raised by a handler when trying again cannot help. The message is the reason."""


class WorkerStopping(RetryRequested):
    """The attempt was cut short by the worker, not by the job: it goes back into the queue and counts for nothing."""


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long, a failed job is tried again."""

    attempts: int = 8
    first_delay: timedelta = timedelta(seconds=2)
    factor: float = 3.0
    longest_delay: timedelta = timedelta(minutes=15)

    def delay(self, failures: int) -> timedelta:
        """The pause after the `failures`th failure (from 1): exponential, bounded, with a fifth of it left to chance."""
        seconds = self.first_delay.total_seconds() * self.factor ** min(failures - 1, 30)
        return timedelta(seconds=min(seconds, self.longest_delay.total_seconds()) * random.uniform(0.8, 1.0))  # noqa: S311


@dataclass
class Work:
    """The handlers that run in this process right now, so that they can be ended."""

    limit: timedelta
    """The longest that one handler may run."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    suspects: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a job during whose last attempt the process died: suspects run one at a time, so that the guilty one
    cannot take the others' attempts with it."""
    held: dict[JobId, str] = field(default_factory=dict)
    """The tenant of each job that this process took."""
    ending: bool = False

    def tenants_with(self, number: int) -> list[str]:
        """Those with at least so many of the jobs that this process took."""
        return [tenant for tenant, jobs in Counter(self.held.values()).items() if jobs >= number]

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in a task of its own, for at most `limit`. Raises TimeoutError, what `work` raised, or CancelledError."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        try:
            done, _ = await asyncio.wait({task}, timeout=self.limit.total_seconds())
            if not done:
                await self._end(task)
                raise TimeoutError(f"It took longer than {self.limit}.")
            task.result()
        except asyncio.CancelledError:
            await self._end(task)
            raise
        finally:
            self.tasks.discard(task)

    def cancel(self) -> None:
        """End every handler, and say so: their jobs go back into the queue."""
        self.ending = True
        for task in self.tasks:
            task.cancel()

    @staticmethod
    async def _end(task: asyncio.Task[None]) -> None:
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_SECONDS)


_START = """
    update jobs.pgqueuer set dedupe_key = null, headers = jsonb_set(headers, '{starts}', to_jsonb($3::int))
    where id = $1 and queue_manager_id = $2 and status = 'picked' returning id"""


@dataclass
class Attempt(AbstractEntrypointExecutor):
    """Runs the handler of one kind of job."""

    pool: asyncpg.Pool
    work: Work
    policy: RetryPolicy
    handler: Handler
    on_give_up: GiveUpHook | None

    async def execute(self, job: Job, context: Context) -> None:  # noqa: ARG002
        """Return when done; raise RetryRequested to try again, anything else to hold the job as failed."""
        began, outcome = time.perf_counter(), "given_up"
        try:
            await self._execute(job)
            outcome = "done"
        except (WorkerStopping, asyncio.CancelledError):
            outcome = "interrupted"
            raise
        except RetryRequested:
            outcome = "retried"
            raise
        finally:
            self.work.held.pop(job.id, None)
            metrics.JOBS.of(job.entrypoint, outcome).add()
            metrics.JOB_SECONDS.of(job.entrypoint).note(time.perf_counter() - began)

    async def _execute(self, job: Job) -> None:
        headers = job.headers or {}
        tenant_id, payload = UUID(str(headers["tenant"])), json.loads(job.payload or b"{}")
        starts = headers.get("starts")
        crashes = starts if isinstance(starts, int) else 0
        if crashes >= MAX_CRASHES:
            await self._give_up(tenant_id, payload, f"The worker died {crashes} times while it worked on this.")
        try:
            async with AsyncExitStack() as stack:
                if crashes:
                    await stack.enter_async_context(self.work.suspects)
                if await self.pool.fetchval(_START, job.id, job.queue_manager_id, crashes + 1) is None:
                    raise WorkerStopping(reason="Another worker has taken the job over.")
                await self.work.run(self._handle(tenant_id, payload))
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None:
                task.uncancel()
            if self.work.ending:
                raise WorkerStopping(reason="The worker stopped.") from None
            await self._failed(job, tenant_id, payload, "It was cancelled from within.")
        except RetryRequested:
            raise
        except GiveUp as error:
            await self._give_up(tenant_id, payload, str(error))
        except Exception as error:
            # Once in full for whoever looks at three in the morning, then in a line: the queue keeps the reasons.
            log.warning(
                "job %s (%s) of tenant %s failed, attempt %d: %s",
                job.id,
                job.entrypoint,
                tenant_id,
                job.attempts + 1,
                type(error).__name__,
                exc_info=error if job.attempts == 0 else None,
            )
            await self._failed(job, tenant_id, payload, f"{type(error).__name__}: {error}")

    async def _failed(self, job: Job, tenant_id: UUID, payload: dict[str, Any], reason: str) -> None:
        if job.attempts + 1 >= self.policy.attempts:
            await self._give_up(tenant_id, payload, reason)
        raise RetryRequested(self.policy.delay(job.attempts + 1), reason)

    async def _handle(self, tenant_id: UUID, payload: dict[str, Any]) -> None:
        await self.handler(tenant_id, payload)

    async def _give_up(self, tenant_id: UUID, payload: dict[str, Any], reason: str) -> None:
        if self.on_give_up is not None:
            try:
                await self.on_give_up(tenant_id, payload, reason)
            except Exception:
                log.exception("telling of a job that was given up failed")
        raise GiveUp(reason)


_RETRY = """
    with retried as (
        update jobs.pgqueuer
        set status = 'queued', execute_after = now() + $3::interval, attempts = attempts + $4, updated = now(),
            queue_manager_id = null, headers = headers - 'starts'
        where id = $1 and queue_manager_id = $2 and status = 'picked'
        returning id, entrypoint, priority
    )
    insert into jobs.pgqueuer_log (job_id, status, entrypoint, priority, traceback)
    select id, 'queued', entrypoint, priority, $5::jsonb from retried"""


_RETRY_PAUSES = (0.1, 0.5, 0.0)


_DUE = "candidate.execute_after < NOW()"
_NOT_HELD_BACK = """ AND NOT candidate.headers->>'tenant' = ANY(${busy}::text[])
    AND NOT (candidate.entrypoint = ANY(${paused}::text[])
             AND candidate.headers->>'tenant' IN (SELECT tenant_id::text FROM public.suspended_tenants))"""


class FencedQueries(Queries):
    """pgqueuer's queries, where a retry touches only a job that is still this worker's, and where no tenant takes all
    of a worker's places: one that has `most_of_one` jobs running is passed over until one of them ends. Jobs that a
    suspended tenant has to wait for stay in the queue, and count no attempt."""

    work: Work
    most_of_one: int
    paused: list[str]

    def share(self, work: Work, *, most_of_one: int, paused: Collection[str] = ()) -> None:
        """Say what runs here, how much of it may be one tenant's before others go first, and which kinds of jobs wait
        while their tenant is suspended."""
        self.work, self.most_of_one, self.paused = work, most_of_one, sorted(paused)

    async def dequeue(
        self,
        batch_size: int,
        entrypoints: dict[QueueEntrypoint, EntrypointExecutionParameter],
        queue_manager_id: QueueManagerId,
        global_concurrency_limit: int | None,
        heartbeat_timeout: timedelta,
    ) -> list[Job]:
        """The next jobs, by priority. Jobs whose worker died are taken over whoever's they are."""
        query = self.qbq.build_dequeue_query(
            batch_size=batch_size,
            entrypoints=list(entrypoints),
            concurrency_limits=[0] * len(entrypoints),
            queue_manager_id=queue_manager_id,
            global_concurrency_limit=global_concurrency_limit,
            heartbeat_timeout=heartbeat_timeout,
        )
        if query.sql.count(_DUE) != 1:
            raise RuntimeError("This version of pgqueuer looks for jobs in another way.")
        busy, number = self.work.tenants_with(self.most_of_one), len(query.args)
        passed_over = _DUE + _NOT_HELD_BACK.format(busy=number + 1, paused=number + 2)
        rows = await self.driver.fetch(query.sql.replace(_DUE, passed_over), *query.args, busy, self.paused)
        jobs = [Job.model_validate(row) for row in rows]
        self.work.held.update((job.id, str((job.headers or {}).get("tenant"))) for job in jobs)
        return jobs

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: TracebackRecord | None) -> None:
        """Put the job back. If the database cannot be reached, its heartbeat goes stale and someone picks it up."""
        record = _of_tenant(job, traceback_record).model_dump_json() if traceback_record else None
        counts = 0 if traceback_record and traceback_record.exception_type == WorkerStopping.__name__ else 1
        for pause in _RETRY_PAUSES:
            try:
                await self.driver.execute(_RETRY, job.id, job.queue_manager_id, delay, counts, record)
            except Exception as error:
                # Whatever it is, raised further it would be taken for the job's own, final failure.
                log.warning("job %s could not be put back: %s: %s", job.id, type(error).__name__, error)
                await asyncio.sleep(pause)
            else:
                return

    async def log_jobs(self, job_status: list[tuple[Job, JOB_STATUS, TracebackRecord | None]]) -> None:
        """As pgqueuer does, but a failure names its tenant: the log outlives the job, not the tenant."""
        named = [(job, status, _of_tenant(job, record) if record else None) for job, status, record in job_status]
        await super().log_jobs(named)


def _of_tenant(job: Job, record: TracebackRecord) -> TracebackRecord:
    context = {**(record.additional_context or {}), "tenant": str((job.headers or {}).get("tenant"))}
    return record.model_copy(update={"additional_context": context})

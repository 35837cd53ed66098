"""Putting jobs into the queue, in the transaction of the change that needs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from pgqueuer.adapters.persistence.qb import (
    DBSettings,
    QueryBuilderEnvironment,
    QueryQueueBuilder,
    QuerySchedulerBuilder,
)
from pgqueuer.db import AsyncpgDriver
from pgqueuer.ports.driver import Driver
from pgqueuer.queries import Queries
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

MAX_PAYLOAD_BYTES = 64 * 1024
MAX_COUNTED = 1000
"""Counts stop here: beyond a thousand waiting jobs, one more makes no difference to anybody's place in the queue."""


MAX_WAITING_COUNTED = 10_000


class QueueSettings(DBSettings):
    """pgqueuer's names, from here alone: its own class would also read bare variables such as `CHANNEL`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


SETTINGS = QueueSettings(db_schema="jobs")
_ENVIRONMENT = QueryBuilderEnvironment(SETTINGS)
_QUEUE = QueryQueueBuilder(SETTINGS)
_SCHEDULER = QuerySchedulerBuilder(SETTINGS)

# Also what makes the transaction begin: SQLAlchemy sends BEGIN with the first statement, and a job inserted on the
# driver's connection before that would commit on its own.
_PENDING_OF_TENANT = text(f"""
    select count(*) from (
        select 1 from jobs.pgqueuer
        where headers->>'tenant' = :tenant and status in ('queued', 'picked') limit {MAX_COUNTED}
    ) as pending""")  # noqa: S608
_PENDING = text(f"""
    select count(*) from (
        select 1 from jobs.pgqueuer where status in ('queued', 'picked') limit {MAX_COUNTED}
    ) as pending""")  # noqa: S608


def queries_over(driver: Driver) -> Queries:
    """pgqueuer's queries in our schema."""
    return Queries(driver, _ENVIRONMENT, _QUEUE, _SCHEDULER)


async def enqueue(
    session: AsyncSession,
    tenant_id: UUID,
    kind: str,
    payload: Mapping[str, Any],
    *,
    dedupe_key: str | None = None,
    delay: timedelta = timedelta(0),
) -> None:
    """Add a job that exists if and only if the session's transaction commits.

    `payload` is JSON of at most 64 KiB. With a `dedupe_key`, a job of the same tenant and kind that still *waits* under
    that key stands for this one too (its delay included): it will start after this transaction has committed. A job
    that has started does not, so no change is missed. Jobs of tenants with fewer jobs pending go first.
    """
    content = json.dumps(payload, separators=(",", ":")).encode()
    if len(content) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"A job's payload may have {MAX_PAYLOAD_BYTES} bytes; put the rest in a table.")
    pending = await session.scalar(_PENDING_OF_TENANT, {"tenant": str(tenant_id)}) or 0
    raw = await (await session.connection()).get_raw_connection()
    connection = raw.driver_connection
    if connection is None or not connection.is_in_transaction():
        raise RuntimeError("A job was to be enqueued outside of a transaction.")
    await queries_over(AsyncpgDriver(connection)).enqueue(
        kind,
        content,
        priority=-pending,
        execute_after=delay,
        dedupe_key=f"{tenant_id}:{kind}:{dedupe_key}" if dedupe_key is not None else None,
        headers={"tenant": str(tenant_id)},
        # Not "skip": the update locks the waiting job until this transaction ends, so that it cannot start too early.
        on_conflict="update_priority",
    )


async def pending_count(session: AsyncSession) -> int:
    """Jobs that wait or run, counted up to 1000."""
    return await session.scalar(_PENDING) or 0


# Jobs of suspended tenants wait as long as it takes, which is nobody's fault; nor are those late that are to be tried again later.
_WAITING = text(f"""
    select entrypoint, count(*), extract(epoch from max(now() - execute_after))::float8 from (
        select entrypoint, execute_after from jobs.pgqueuer
        where status = 'queued' and execute_after <= now()
            and not headers->>'tenant' in (select tenant_id::text from public.suspended_tenants)
        order by execute_after limit {MAX_WAITING_COUNTED}
    ) as waiting group by 1""")  # noqa: S608


async def waiting_jobs(session: AsyncSession) -> dict[str, tuple[int, float]]:
    """By kind, how many jobs are due and wait, and for how many seconds the oldest does; the oldest 10000 are counted.

    `session` is the platform's.
    """
    return {kind: (number, seconds) for kind, number, seconds in await session.execute(_WAITING)}


_FORGET_LOG = text("""
    delete from jobs.pgqueuer_log where traceback->'additional_context'->>'tenant' = :tenant
        or job_id in (select id from jobs.pgqueuer where headers->>'tenant' = :tenant)""")
_FORGET_JOBS = text("delete from jobs.pgqueuer where headers->>'tenant' = :tenant")


async def forget_jobs(session: AsyncSession, tenant_id: UUID) -> None:
    """Delete every job of a tenant that is deleted, with its payload, whatever became of it, and what its failures said.

    Reads the whole queue and its log: for the end of a tenant, not for every day.
    """
    await session.execute(_FORGET_LOG, {"tenant": str(tenant_id)})
    await session.execute(_FORGET_JOBS, {"tenant": str(tenant_id)})

"""The queue as operators see it: what waits, runs and was given up; and giving a job another chance.

A job's payload and the words of its failure may hold what a tenant wrote: they are told only under an open grant.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import Conflict, NotFound
from stonechat.operator.operators import Operator, record

ROWS = 50
MAX_EXPORTED = 20_000
Status = Literal["failed", "queued", "picked"]
STATUSES: tuple[Status, ...] = get_args(Status)
STATUS_WORDS = {"failed": "given up", "queued": "waits", "picked": "runs"}
_TYPE = re.compile(r"\A[A-Z][A-Za-z]{0,80}(?=: )")
_DIED = re.compile(r"\AThe worker died \d+ times while it worked on this\.\Z")


@dataclass(frozen=True, slots=True)
class JobView:
    """A job. `problem` says in sentences what happened and what to do: without words of the tenant's, but under a grant."""

    id: int
    kind: str
    tenant_id: UUID | None
    status: Status
    attempts: int
    created_at: datetime
    updated_at: datetime
    due_at: datetime
    problem: str


_LIST = """
    select q.id, q.entrypoint as kind, q.headers->>'tenant' as tenant, q.status::text as status, q.attempts,
        q.created as created_at, q.updated as updated_at, q.execute_after as due_at,
        l.traceback->>'exception_type' as failure, l.traceback->>'exception_message' as message,
        q.status = 'queued' and q.headers->>'tenant' in (select tenant_id::text from suspended_tenants) as suspended
    from (select * from jobs.pgqueuer where status::text = :status and (:kind = '' or entrypoint = :kind)
              and id < :before order by id desc limit :most) q
    left join lateral (select traceback from jobs.pgqueuer_log where job_id = q.id and traceback is not null
        order by created desc limit 1) l on true
    order by q.id desc"""
_COUNTS = text("""
    select entrypoint, status::text, count(*) from jobs.pgqueuer where status in ('failed', 'queued', 'picked')
    group by 1, 2 order by 1, 2""")
_AGAIN = text("""
    update jobs.pgqueuer set status = 'queued', attempts = 0, execute_after = now(), updated = now(),
        queue_manager_id = null, dedupe_key = null, headers = headers - 'starts'
    where id = :id and status = 'failed' and headers->>'tenant' = :tenant returning entrypoint""")


async def list_jobs(
    session: AsyncSession,
    *,
    status: Status = "failed",
    kind: str = "",
    before: int | None = None,
    limit: int = ROWS,
    granted: Collection[UUID] = (),
) -> tuple[list[JobView], int | None]:
    """Newest first, and the `before` of the next page. `granted` are tenants that the operator may look into just now."""
    values = {
        "status": status,
        "kind": kind.replace("\x00", "")[:100],
        "before": before or 2**62,
        "most": min(limit, MAX_EXPORTED) + 1,
    }
    found = [_view(row, granted) for row in (await session.execute(text(_LIST), values)).mappings()]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


async def count_jobs(session: AsyncSession) -> dict[str, dict[str, int]]:
    """How many there are, by kind and status."""
    counted: dict[str, dict[str, int]] = {}
    for kind, status, number in await session.execute(_COUNTS):
        counted.setdefault(kind, {})[status] = number
    return counted


async def replay_job(platform: AsyncSession, operator: Operator, *, database: Database, job_id: int) -> None:
    """Have a job that was given up tried again, from its first attempt. Raises `NotFound`, `Conflict`."""
    row = (
        await platform.execute(
            text("select headers->>'tenant' as tenant, status::text as status from jobs.pgqueuer where id = :id"),
            {"id": job_id},
        )
    ).one_or_none()
    tenant_id = _tenant(row.tenant) if row is not None else None
    if row is None or tenant_id is None:
        raise NotFound("There is no such job any more.")
    if row.status != "failed":
        raise Conflict("This job was not given up: it waits, or runs.")
    async with database.tenant(tenant_id) as session:  # the queue is written by the application alone
        kind = await session.scalar(_AGAIN, {"id": job_id, "tenant": str(tenant_id)})
    if kind is None:
        raise Conflict("Somebody else was quicker.")
    await record(platform, operator, "job.replay", tenant_id=tenant_id, subject_id=str(job_id), detail={"kind": kind})


async def granted_tenants(session: AsyncSession, operator: Operator) -> set[UUID]:
    """The tenants that this operator may look into just now."""
    found = await session.scalars(
        text("""select tenant_id from support_grants where operator_id = :operator and ended_at is null
                and expires_at > :now limit 100"""),
        {"operator": operator.operator_id, "now": clock.now()},
    )
    return set(found)


def _view(row: Any, granted: Collection[UUID]) -> JobView:
    tenant_id = _tenant(row["tenant"])
    return JobView(
        id=row["id"],
        kind=row["kind"],
        tenant_id=tenant_id,
        status=row["status"],
        attempts=row["attempts"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        due_at=row["due_at"],
        problem=_problem(row, is_granted=tenant_id in granted),
    )


def _problem(row: Any, *, is_granted: bool) -> str:
    failure, message, given_up = row["failure"] or "", row["message"] or "", row["status"] == "failed"
    waits = "Its tenant is suspended: what spends or reaches out waits until it is opened again."
    waits = waits if row["suspended"] else ""
    if not failure:
        return waits
    if failure == "WorkerStopping":
        said = "The worker stopped meanwhile, which counts for nothing."
    elif _DIED.match(message):
        said = f"{message} Look in its log for what used up the memory."
    elif is_granted and message:
        said = f"{failure}: {message}"[:1000]
        said += "" if said.endswith((".", "!", "?")) else "."
    else:
        named = _TYPE.match(message) if failure in ("GiveUp", "RetryRequested") else None
        kind = named[0] if named else "" if failure in ("GiveUp", "RetryRequested") else failure
        read = "Look into the tenant to read all of it." if _tenant(row["tenant"]) else "The worker’s log says more."
        said = f"It failed with {kind}. {read}" if kind else f"It was found that it cannot succeed. {read}"
    after = "Mend the cause, then try it again." if given_up else "" if waits else "It is tried again by itself."
    return " ".join(part for part in (said, after, waits) if part)


def _tenant(text_: str | None) -> UUID | None:
    try:
        return UUID(text_ or "")
    except ValueError:
        return None

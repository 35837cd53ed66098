"""Documents that wait to be read, or are being read, though no job is left that would do it."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.suspension import SuspendedTenantRow
from stonechat.db.session import Database
from stonechat.jobs import enqueue
from stonechat.knowledge.models import Document
from stonechat.knowledge.progress import give_up
from stonechat.knowledge.service import INGEST

QUIET = timedelta(minutes=5)
"""A document that changed more recently is left alone."""
MOST = 500
"""Documents looked at in one round, longest unchanged first."""
_JOBS = text("""
    select convert_from(payload, 'UTF8')::jsonb->>'document_id' as document_id, status::text
    from jobs.pgqueuer where headers->>'tenant' = :tenant and entrypoint = :kind
      and convert_from(payload, 'UTF8')::jsonb->>'document_id' = any(:documents)""")
_log = logging.getLogger(__name__)


async def revive_stuck(database: Database, *, quiet: timedelta = QUIET) -> int:
    """Give a new job to each such document; one whose job was given up is told so. How many were stuck."""
    async with database.platform() as session:
        rows = await session.execute(
            select(Document.tenant_id, Document.document_id)
            .where(
                Document.status.in_(("pending", "processing")),
                Document.deleted_at.is_(None),
                Document.updated_at < clock.now() - quiet,
                Document.tenant_id.not_in(select(SuspendedTenantRow.tenant_id)),  # their jobs wait
            )
            .order_by(Document.updated_at)
            .limit(MOST)
        )
        waiting: defaultdict[UUID, list[str]] = defaultdict(list)
        for tenant_id, document_id in rows:
            waiting[tenant_id].append(document_id)
    stuck = 0
    for tenant_id, document_ids in waiting.items():
        try:
            stuck += await _revive(database, tenant_id, document_ids)
        except Exception:
            _log.exception("could not look after a tenant's documents", extra={"tenant_id": str(tenant_id)})
    return stuck


async def _revive(database: Database, tenant_id: UUID, document_ids: list[str]) -> int:
    async with database.tenant(tenant_id) as session:
        states = await _states(session, tenant_id, document_ids)
        jobless = [each for each in document_ids if not states[each] & {"queued", "picked"}]
        given_up = [each for each in jobless if "failed" in states[each]]
        for document_id in jobless:
            if document_id not in given_up:
                await enqueue(session, tenant_id, INGEST, {"document_id": document_id}, dedupe_key=document_id)
    for document_id in given_up:
        await give_up(database, tenant_id, document_id=document_id)
    if jobless:
        _log.warning("%d documents of tenant %s waited without a job.", len(jobless), tenant_id)
    return len(jobless)


async def _states(session: AsyncSession, tenant_id: UUID, document_ids: list[str]) -> defaultdict[str, set[str]]:
    """The states of each document's jobs; those that were given up included, for as long as the queue keeps them."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for document_id, status in await session.execute(
        _JOBS, {"tenant": str(tenant_id), "kind": INGEST, "documents": document_ids}
    ):
        found[document_id].add(status)
    return found

"""The knowledge room on a scratch folder, and a way to run the jobs that its verbs enqueue."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from stonechat.accounts.actor import Actor, system
from stonechat.db.session import Database
from stonechat.files import FolderStore
from stonechat.knowledge import service
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.knowledge.models import Document
from stonechat.knowledge.tasks import job_handlers


@asynccontextmanager
async def scratch_knowledge(database: Database, folder: Path) -> AsyncIterator[Knowledge]:
    """A room of its own over the shared test database."""
    knowledge = Knowledge(database, EdgeIndex(folder / "index"), FolderStore(folder / "files"))
    try:
        yield knowledge
    finally:
        await knowledge.close()


async def run_jobs(knowledge: Knowledge, tenant_id: UUID) -> list[str]:
    """Take the tenant's knowledge jobs from the queue, as a worker would, and run them; the kinds that ran."""
    async with knowledge.database.directory() as session:
        rows = await session.execute(
            text(
                "delete from jobs.pgqueuer where headers->>'tenant' = :tenant and entrypoint like 'knowledge.%' "
                "returning id, entrypoint, payload"
            ),
            {"tenant": str(tenant_id)},
        )
        jobs = sorted(tuple(row) for row in rows)
    handlers = job_handlers(knowledge)
    for _, kind, payload in jobs:
        await handlers[kind](tenant_id, json.loads(payload))
    return [kind for _, kind, _ in jobs]


async def upload(
    knowledge: Knowledge,
    tenant_id: UUID,
    data: bytes | str,
    *,
    filename: str | None = None,
    title: str | None = None,
    url: str | None = None,
) -> Document:
    """Upload as the platform itself, and read at once; the document afterwards."""
    actor = system(tenant_id)
    async with knowledge.database.tenant(tenant_id) as session:
        made = await service.create_document(
            session,
            actor,
            files=knowledge.files,
            data=data.encode() if isinstance(data, str) else data,
            filename=filename,
            title=title,
            url=url,
        )
    await run_jobs(knowledge, tenant_id)
    return await fetch(knowledge, actor, made.document_id)


async def fetch(knowledge: Knowledge, actor: Actor, document_id: str) -> Document:
    """A document as it stands."""
    async with knowledge.database.tenant(actor.tenant_id) as session:
        return await service.get_document(session, actor, document_id=document_id)

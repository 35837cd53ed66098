"""Writing a tenant's index anew from what Postgres holds, without reading an original again, while searches go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.jobs import enqueue
from stonechat.knowledge.consistency import check_consistency, write_points
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.generations import point_of, vouched
from stonechat.knowledge.index import BATCH
from stonechat.knowledge.models import Chunk, Document, IndexState, KnowledgeCheck

REINDEX = "knowledge.reindex"
_MAX_ROUNDS = 1000
Told = Callable[[int, int], Awaitable[None]]
"""Told how many passages were written, and of how many."""


async def ask_reindex(session: AsyncSession, tenant_id: UUID) -> datetime:
    """Have a tenant's index written anew by a job; when it was asked for. Asking again begins again."""
    now = clock.now()
    values = {"reindex_after": None, "reindex_done": 0, "reindex_total": 0, "reindex_asked_at": now}
    asked = insert(KnowledgeCheck).values(tenant_id=tenant_id, **values)
    await session.execute(asked.on_conflict_do_update(index_elements=["tenant_id"], set_=values))
    await enqueue(session, tenant_id, REINDEX, {}, dedupe_key="all")
    return now


async def reindex_tenant(knowledge: Knowledge, tenant_id: UUID, *, told: Told | None = None) -> int:
    """Write every passage again, remove what should not be there; how many passages there are.

    Goes on where an earlier attempt stopped. What is written is what is there already, so searches find the same
    meanwhile, and more and more where the index had lost something.
    """
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(insert(KnowledgeCheck).values(tenant_id=tenant_id).on_conflict_do_nothing())
        row = await session.get_one(KnowledgeCheck, tenant_id)
        after, done = row.reindex_after, row.reindex_done
        total = await session.scalar(select(func.count()).select_from(vouched(tenant_id).subquery())) or 0
    while True:
        async with knowledge.database.tenant(tenant_id) as session:
            page = vouched(tenant_id).order_by(Chunk.chunk_id).limit(BATCH)
            if after is not None:
                page = page.where(Chunk.chunk_id > after)
            points = [point_of(chunk, document) for chunk, document in await session.execute(page)]
        if not points:
            break
        await write_points(knowledge, tenant_id, points)
        after, done = points[-1].chunk_id, done + len(points)
        await _note(knowledge, tenant_id, reindex_after=after, reindex_done=done, reindex_total=max(total, done))
        if told is not None:
            await told(done, max(total, done))
    await _note(knowledge, tenant_id, passages_after=None, files_after=None)
    for _ in range(_MAX_ROUNDS):
        if (await check_consistency(knowledge, tenant_id)).complete:
            break
    await _note(knowledge, tenant_id, reindex_after=None, reindexed_at=clock.now())
    return done


async def begin_anew(session: AsyncSession, tenant_id: UUID) -> None:
    """Forget how far an earlier attempt, or a comparison, came: the index it wrote to is not the one there is."""
    nowhere = {"reindex_after": None, "reindex_done": 0, "passages_after": None, "files_after": None}
    await session.execute(update(KnowledgeCheck).where(KnowledgeCheck.tenant_id == tenant_id).values(nowhere))


async def tenants_with_knowledge(knowledge: Knowledge) -> list[UUID]:
    """Every tenant that has documents or ever had an index."""
    async with knowledge.database.platform() as session:
        tenants = select(Document.tenant_id).union(select(IndexState.tenant_id)).order_by("tenant_id")
        return list(await session.scalars(tenants))


async def reindex_state(session: AsyncSession, tenant_id: UUID) -> KnowledgeCheck | None:
    """How far it has come."""
    return await session.scalar(select(KnowledgeCheck).where(KnowledgeCheck.tenant_id == tenant_id))


async def _note(knowledge: Knowledge, tenant_id: UUID, **values: object) -> None:
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(update(KnowledgeCheck).where(KnowledgeCheck.tenant_id == tenant_id).values(values))

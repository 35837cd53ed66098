"""Letting go of many documents at once: they answer no more when the transaction commits; the rest goes in jobs."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from sqlalchemy import delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.jobs import enqueue
from stonechat.knowledge.models import Chunk, Document

PURGE_MANY = "knowledge.purge_many"
_AT_ONCE = 100


async def bury_documents(session: AsyncSession, tenant_id: UUID, *, document_ids: Collection[str]) -> int:
    """As `service.bury`, for any number, and what came out of those that are archives. Returns how many there were."""
    wanted = sorted(document_ids)
    for start in range(0, len(wanted), _AT_ONCE):
        named = wanted[start : start + _AT_ONCE]
        rows = await session.execute(
            update(Document)
            .where(
                Document.tenant_id == tenant_id,
                or_(Document.document_id.in_(named), Document.parent_id.in_(named)),
                Document.deleted_at.is_(None),
            )
            .values(deleted_at=clock.now(), updated_at=clock.now(), source_id=None)
            .returning(Document.document_id)
            .execution_options(synchronize_session=False)
        )
        buried = [row.document_id for row in rows]
        for first in range(0, len(buried), _AT_ONCE):
            some = buried[first : first + _AT_ONCE]
            await session.execute(
                delete(Chunk)
                .where(Chunk.tenant_id == tenant_id, Chunk.document_id.in_(some))
                .execution_options(synchronize_session=False)
            )
            await enqueue(session, tenant_id, PURGE_MANY, {"document_ids": some})
    return len(wanted)


async def documents_of_source(session: AsyncSession, tenant_id: UUID, source_id: str) -> list[str]:
    """The ids of the living documents of a source."""
    chosen = select(Document.document_id).where(
        Document.tenant_id == tenant_id, Document.source_id == source_id, Document.deleted_at.is_(None)
    )
    return list(await session.scalars(chosen))

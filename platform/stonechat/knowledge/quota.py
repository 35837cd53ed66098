"""How much a tenant may keep: bounds that hold for everyone."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.errors import StorageFull
from stonechat.knowledge.models import Document, Source
from stonechat.plans import entitlements as plans

MAX_DOCUMENTS = 20_000
MAX_BYTES = 20 * 1024**3
MAX_CHUNKS = 500_000


async def require_source(session: AsyncSession, tenant_id: UUID) -> None:
    """Raise `PlanLimitReached` unless the plan has room for another source, or for another file uploaded by itself."""
    await plans.require_room(session, tenant_id, "sources", used=sources_held(tenant_id))


def sources_held(tenant_id: UUID) -> Select[int]:
    """The query that counts sources, and files that were uploaded by themselves."""
    alone = (Document.source_id.is_(None), Document.parent_id.is_(None), Document.deleted_at.is_(None))
    files = select(func.count()).select_from(Document).where(Document.tenant_id == tenant_id, *alone).scalar_subquery()
    sources = select(func.count()).select_from(Source).where(Source.tenant_id == tenant_id).scalar_subquery()
    return select(files + sources)


async def require_room(
    session: AsyncSession, tenant_id: UUID, *, documents: int = 0, size: int = 0, chunks: int = 0, besides: str = ""
) -> None:
    """Raise `StorageFull` unless so much more has room. `besides`: a document that makes way for it.

    Two that ask at once are both told of the same room, so a tenant may end up over a bound by what came in at once.
    """
    held = (
        await session.execute(
            select(
                func.count(),
                func.coalesce(func.sum(Document.bytes), 0),
                func.coalesce(func.sum(Document.chunks).filter(Document.document_id != besides), 0),
            ).where(Document.tenant_id == tenant_id, Document.deleted_at.is_(None))
        )
    ).one()
    for more, have, most, what in (
        (documents, int(held[0]), MAX_DOCUMENTS, f"{MAX_DOCUMENTS:,} documents"),
        (size, int(held[1]), MAX_BYTES, f"{MAX_BYTES // 1024**3} GB of documents"),
        (chunks, int(held[2]), MAX_CHUNKS, f"{MAX_CHUNKS:,} passages"),
    ):
        if more and have + more > most:
            raise StorageFull(f"There is room for {what}, and this would be more. Delete some that you do not need.")

"""Passages to be read where they stand: with a little of what comes before and after them in their document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.models import Chunk, Document
from stonechat.knowledge.search import Passage

MAX_CHUNKS = 200
AROUND = 500
"""Characters of each neighbour."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What stands around a passage."""

    before: str
    after: str


async def living_passages(session: AsyncSession, tenant_id: UUID, chunk_ids: Sequence[str]) -> list[Passage]:
    """The passages with these ids that still answer, in this order."""
    wanted = list(chunk_ids)[:MAX_CHUNKS]
    if not wanted:
        return []
    chosen = (
        select(Chunk, Document.title, Document.url, Document.language)
        .join(
            Document,
            and_(
                Document.tenant_id == Chunk.tenant_id,
                Document.document_id == Chunk.document_id,
                Document.version == Chunk.version,
            ),
        )
        .where(
            Chunk.tenant_id == tenant_id,
            Chunk.chunk_id.in_(wanted),
            Document.deleted_at.is_(None),
            Document.status != "failed",
        )
    )
    rows = {row.Chunk.chunk_id: row for row in await session.execute(chosen)}
    return [
        Passage(
            document_id=row.Chunk.document_id,
            chunk_id=row.Chunk.chunk_id,
            title=row.title,
            url=row.url,
            text=row.Chunk.text,
            score=0.0,
            headings=tuple(row.Chunk.headings),
            page=row.Chunk.page,
            anchor=row.Chunk.anchor,
            start_offset=row.Chunk.start_offset,
            end_offset=row.Chunk.end_offset,
            language=row.language or DEFAULT_LANGUAGE,
        )
        for chunk_id in wanted
        if (row := rows.get(chunk_id))
    ]


async def read_surroundings(session: AsyncSession, tenant_id: UUID, *, passage: Passage) -> Surroundings:
    """The end of the passage before it, and the beginning of the one after, where they are of the same document."""
    own = (
        select(Chunk.version, Chunk.ordinal)
        .where(Chunk.tenant_id == tenant_id, Chunk.chunk_id == passage.chunk_id)
        .subquery()
    )
    near = select(Chunk.start_offset, Chunk.text).where(
        Chunk.tenant_id == tenant_id,
        Chunk.document_id == passage.document_id,
        Chunk.version == own.c.version,
        Chunk.ordinal.in_([own.c.ordinal - 1, own.c.ordinal + 1]),
    )
    before = after = ""
    for start, text in await session.execute(near):
        if start < passage.start_offset:
            before = text
        else:
            after = text
    return Surroundings(_end(before), _beginning(after))


def _end(text: str) -> str:
    if len(text) <= AROUND:
        return text
    cut = text[-AROUND:]
    return "…" + cut[cut.find(" ") :] if " " in cut[:80] else "…" + cut


def _beginning(text: str) -> str:
    if len(text) <= AROUND:
        return text
    cut = text[:AROUND]
    return (cut.rsplit(" ", 1)[0] if " " in cut[-80:] else cut) + "…"

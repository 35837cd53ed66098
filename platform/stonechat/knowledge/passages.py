"""From what the index found to passages: only what Postgres vouches for, with its text, and with its neighbours' if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy import and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.knowledge.index import EVERYTHING, Hit, Narrowing
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.models import Chunk, Document


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that may be quoted: `text` is exactly `extracted[start_offset:end_offset]` of its document."""

    document_id: str
    chunk_id: str
    title: str
    url: str | None
    text: str
    score: float
    """BM25, or what fusing or reranking made of it; comparable within one search only."""
    headings: tuple[str, ...] = ()
    page: int | None = None
    anchor: str | None = None
    """What comes after `#` in an address that leads to the heading above."""
    start_offset: int = 0
    end_offset: int = 0
    language: str = field(default=DEFAULT_LANGUAGE)
    word_rank: int | None = None
    """Its place by words alone, from 1; None if it was not among them."""
    meaning_rank: int | None = None
    """Its place by meaning alone."""
    fused_rank: int | None = None
    """Its place before a reranker looked."""


async def living(
    session: AsyncSession, tenant_id: UUID, hits: Sequence[Hit], *, only: Narrowing = EVERYTHING
) -> list[Passage]:
    """The hits that Postgres vouches for, in their order, with their text."""
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
            Chunk.chunk_id.in_([hit.chunk_id for hit in hits]),
            Document.deleted_at.is_(None),
            Document.status != "failed",
        )
    )
    # The index was asked the same; what changed since then shows here.
    if only.source_id is not None:
        chosen = chosen.where(Document.source_id == only.source_id)
    if only.tags:
        chosen = chosen.where(Document.tags.overlap(list(only.tags)))
    if only.language is not None:
        chosen = chosen.where(Document.language == only.language)
    rows = {row.Chunk.chunk_id: row for row in await session.execute(chosen)}
    return [
        Passage(
            document_id=row.Chunk.document_id,
            chunk_id=row.Chunk.chunk_id,
            title=row.title,
            url=row.url,
            text=row.Chunk.text,
            score=hit.score,
            headings=tuple(row.Chunk.headings),
            page=row.Chunk.page,
            anchor=row.Chunk.anchor,
            start_offset=row.Chunk.start_offset,
            end_offset=row.Chunk.end_offset,
            language=row.language or DEFAULT_LANGUAGE,
        )
        for hit in hits
        if (row := rows.get(hit.chunk_id))
    ]


async def widen(
    session: AsyncSession, tenant_id: UUID, passages: Sequence[Passage], *, neighbours: int
) -> list[Passage]:
    """Each passage with its neighbours' text; offsets span the whole, and a passage inside a better one is dropped."""
    own = select(Chunk.chunk_id, Chunk.document_id, Chunk.version, Chunk.ordinal).where(
        Chunk.tenant_id == tenant_id, Chunk.chunk_id.in_([passage.chunk_id for passage in passages])
    )
    places = {row.chunk_id: (row.document_id, row.version, row.ordinal) for row in await session.execute(own)}
    wanted = {
        (document_id, version, ordinal + step)
        for document_id, version, ordinal in places.values()
        for step in range(-neighbours, neighbours + 1)
    }
    around = select(Chunk).where(
        Chunk.tenant_id == tenant_id, tuple_(Chunk.document_id, Chunk.version, Chunk.ordinal).in_(sorted(wanted))
    )
    chunks = {(c.document_id, c.version, c.ordinal): c for c in await session.scalars(around)}
    widened: list[Passage] = []
    taken: set[tuple[str, int, int]] = set()
    for passage in passages:
        place = places.get(passage.chunk_id)
        if place is None or place in taken:
            continue
        document_id, version, ordinal = place
        near = [(document_id, version, ordinal + step) for step in range(-neighbours, neighbours + 1)]
        kept = [chunks[key] for key in near if key in chunks and (key == place or key not in taken)]
        taken.update(key for key in near if key in chunks)
        widened.append(
            replace(
                passage,
                text="\n\n".join(chunk.text for chunk in kept),
                start_offset=kept[0].start_offset,
                end_offset=kept[-1].end_offset,
            )
        )
    return widened

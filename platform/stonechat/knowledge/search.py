"""Search: the index proposes, Postgres decides.

A hit counts only if Postgres, asked after the index answered, still has that passage in the current version of a living
document. So an orphan in the index can cost a place among the candidates, and never answers. No connection is held
while the index searches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from sqlalchemy import and_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.errors import InvalidInput
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index import Hit
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.models import Chunk, Document, IndexState

MAX_LIMIT = 100
MAX_NEIGHBOURS = 3
MAX_LANGUAGES = 6


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that may be quoted: `text` is exactly `extracted[start_offset:end_offset]` of its document."""

    document_id: str
    chunk_id: str
    title: str
    url: str | None
    text: str
    score: float
    """BM25; comparable within one search only."""
    headings: tuple[str, ...] = ()
    page: int | None = None
    anchor: str | None = None
    """What comes after `#` in an address that leads to the heading above."""
    start_offset: int = 0
    end_offset: int = 0
    language: str = field(default=DEFAULT_LANGUAGE)


async def search(
    knowledge: Knowledge, tenant_id: UUID, query: str, *, limit: int = 8, neighbours: int = 0
) -> list[Passage]:
    """The tenant's best passages for a question, best first; empty if none shares a word with it.

    `neighbours` widens each passage's text by so many passages before and after it in the same document.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_LIMIT}.")
    if not query.strip():
        return []
    async with knowledge.database.tenant(tenant_id) as session:
        state = select(IndexState.languages).where(IndexState.tenant_id == tenant_id)
        languages = await session.scalar(state)
    if languages is None:
        return []  # nothing was ever indexed
    candidates = await knowledge.index.search(tenant_id, query, limit=2 * limit + 10, languages=languages)
    if not candidates:
        return []
    async with knowledge.database.tenant(tenant_id) as session:
        passages = (await _living(session, tenant_id, candidates))[:limit]
        if neighbours > 0:
            passages = await _widened(session, tenant_id, passages, neighbours=min(neighbours, MAX_NEIGHBOURS))
    return passages


async def search_within(
    session: AsyncSession, knowledge: Knowledge, tenant_id: UUID, query: str, *, limit: int = 8
) -> list[Passage]:
    """`search` in a transaction that is open already, which is held while the index searches: for people who test.

    To open another while holding one could leave every connection waiting for the next.
    """
    if not query.strip():
        return []
    languages = await session.scalar(select(IndexState.languages).where(IndexState.tenant_id == tenant_id))
    if languages is None:
        return []
    candidates = await knowledge.index.search(tenant_id, query, limit=2 * limit + 10, languages=languages)
    return (await _living(session, tenant_id, candidates))[:limit] if candidates else []


async def recall(knowledge: Knowledge, tenant_id: UUID, chunk_ids: Sequence[str]) -> list[Passage]:
    """The passages with these ids, in this order, as far as their documents still hold them. Their score is 0."""
    hits = [Hit(document_id="", chunk_id=chunk_id, version=0, score=0.0) for chunk_id in chunk_ids[:MAX_LIMIT]]
    async with knowledge.database.tenant(tenant_id) as session:
        return await _living(session, tenant_id, hits)


async def _living(session: AsyncSession, tenant_id: UUID, hits: Sequence[Hit]) -> list[Passage]:
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


async def _widened(
    session: AsyncSession, tenant_id: UUID, passages: list[Passage], *, neighbours: int
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

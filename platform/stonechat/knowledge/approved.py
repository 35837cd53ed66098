"""Approved answers: question-answer pairs that people of the tenant wrote, searched by words alone, which costs nothing."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index import Narrowing
from stonechat.knowledge.layouts import places_of
from stonechat.knowledge.models import Source
from stonechat.knowledge.search import Passage, rank, recall

MAX_SOURCES = 200
"""The newest."""


async def search_approved(knowledge: Knowledge, tenant_id: UUID, query: str, *, limit: int) -> list[Passage]:
    """The best passages of question-answer pairs, best first; empty if nothing comes near. No model is asked."""
    if not query.strip():
        return []
    written = select(Source.source_id).where(Source.tenant_id == tenant_id, Source.kind == "faq")
    async with knowledge.database.tenant(tenant_id) as session:
        places = await places_of(session, tenant_id)
        sources = list(await session.scalars(written.order_by(Source.source_id.desc()).limit(MAX_SOURCES)))
    if not places.languages or not sources:
        return []
    only = Narrowing(sources=tuple(sources))
    ranked = await rank(
        knowledge.index, places.live.place, query, limit=2 * limit, languages=places.languages, only=only
    )
    passages = await recall(knowledge, tenant_id, [hit.chunk_id for hit in ranked.hits])
    return passages[:limit]

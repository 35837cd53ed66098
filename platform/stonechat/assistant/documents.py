"""The knowledge room as an answer needs it: search, recall, quotes."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from stonechat.assistant.tools.context import Quote
from stonechat.knowledge import search
from stonechat.knowledge.approved import search_approved
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.excerpt import best_excerpt
from stonechat.knowledge.search import Passage


class TenantDocuments:
    """`SearchesKnowledge` over the tenants' documents."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def search(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        return await search.search(self._knowledge, tenant_id, query, limit=limit)

    async def approved(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        return await search_approved(self._knowledge, tenant_id, query, limit=limit)

    async def recall(self, tenant_id: UUID, chunk_ids: Sequence[str]) -> Sequence[Passage]:
        return await search.recall(self._knowledge, tenant_id, chunk_ids)

    def quotes(self, query: str, passages: Sequence[Passage]) -> Sequence[Quote]:
        excerpt = best_excerpt(query, passages)
        return excerpt.quotes if excerpt else ()

"""Search, for whoever asks: an agent, the API, the console's test page, and `stonechat eval`.

By words always; by meaning too where the tenant chose an embedding model; the two rankings fused, looked at once more by
a reranker if there is one. What the index says is checked against Postgres before anybody sees it. A model that does not
answer in time makes a search plainer, never late: `Found.notes` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import cast
from uuid import UUID

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.secrets import open_secrets
from stonechat.errors import EmbeddingFailed, InvalidInput, StonechatError
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.fusion import Fusion, fuse
from stonechat.knowledge.index import EVERYTHING, Hit, KnowledgeIndex, Layout, Narrowing, Place
from stonechat.knowledge.index_models import Generation, KnowledgeSettings
from stonechat.knowledge.index_vectors import document_vector, query_vector
from stonechat.knowledge.layouts import Laid, laid
from stonechat.knowledge.models import IndexState
from stonechat.knowledge.passages import Passage, living, widen
from stonechat.knowledge.rerank import MAX_DOCUMENTS, Reranker, rerank

__all__ = ["Found", "Passage", "Ranked", "rank", "recall", "search", "search_within"]

MAX_LIMIT = 100
MAX_NEIGHBOURS = 3
MAX_LANGUAGES = 6
HYBRID_DEPTH = 50
"""Passages of each ranking that are fused, at least."""
_JUDGED = 3
"""Passages that a score floor looks at."""


class Found(list[Passage]):
    """The passages of a search, best first, and how they were come by."""

    notes: tuple[str, ...] = ()
    """What did not work as set up, each in a sentence; for traces and for the test page, not for visitors."""
    confidence: float | None = None
    """What the floor was held against; None where there is no floor."""
    below_floor: bool = False
    """Whether there were passages, none of them good enough."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """What the index found for a question, before Postgres was asked."""

    hits: list[Hit]
    word_ranks: dict[str, int]
    meaning_ranks: dict[str, int]
    cosine: float | None = None
    """Of the passage nearest in meaning."""


@dataclass(frozen=True, slots=True)
class _Plan:
    live: Laid
    languages: Sequence[str]
    fusion: Fusion = "rrf"
    floor: float | None = None
    reranker: Reranker | None = None
    notes: tuple[str, ...] = ()


async def search(
    knowledge: Knowledge,
    tenant_id: UUID,
    query: str,
    *,
    limit: int = 8,
    neighbours: int = 0,
    only: Narrowing = EVERYTHING,
) -> Found:
    """The tenant's best passages for a question, best first; empty if nothing comes near.

    `neighbours` widens each passage's text by so many passages before and after it in the same document. No transaction
    is held while the index or a model is asked.
    """
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_LIMIT}.")
    if not query.strip():
        return Found()
    async with knowledge.database.tenant(tenant_id) as session:
        plan = await _plan(session, knowledge, tenant_id)
    if plan is None:
        return Found()
    ranked, notes = await _ranked(knowledge, plan, query, limit=limit, only=only)
    if not ranked.hits:
        return _noted(Found(), (*plan.notes, *notes))
    async with knowledge.database.tenant(tenant_id) as session:
        passages = await living(session, tenant_id, ranked.hits, only=only)
    found = await _finished(knowledge, plan, query, passages, ranked=ranked, limit=limit, notes=notes)
    if neighbours > 0:
        async with knowledge.database.tenant(tenant_id) as session:
            found[:] = await widen(session, tenant_id, found, neighbours=min(neighbours, MAX_NEIGHBOURS))
    return found


async def search_within(
    session: AsyncSession,
    knowledge: Knowledge,
    tenant_id: UUID,
    query: str,
    *,
    limit: int = 8,
    only: Narrowing = EVERYTHING,
) -> Found:
    """`search` in a transaction that is open already, which is held meanwhile: for people who test."""
    if not query.strip():
        return Found()
    plan = await _plan(session, knowledge, tenant_id)
    if plan is None:
        return Found()
    ranked, notes = await _ranked(knowledge, plan, query, limit=limit, only=only)
    passages = await living(session, tenant_id, ranked.hits, only=only) if ranked.hits else []
    return await _finished(knowledge, plan, query, passages, ranked=ranked, limit=limit, notes=notes)


async def rank(
    index: KnowledgeIndex,
    place: Place,
    query: str,
    *,
    limit: int,
    languages: Sequence[str],
    vector: Sequence[float] | None = None,
    by: Fusion = "rrf",
    only: Narrowing = EVERYTHING,
) -> Ranked:
    """The index's answer: by words alone without a vector, else both rankings fused. Needs no database."""
    if vector is None:
        hits = await index.search(place, query, limit=limit, languages=languages, only=only)
        return Ranked(hits, _places(hits), {})
    depth = max(limit, HYBRID_DEPTH)
    words, meant = await asyncio.gather(
        index.search(place, query, limit=depth, languages=languages, only=only),
        index.nearest(place, vector, limit=depth, only=only),
    )
    fused = [replace(hit, score=score) for hit, score in fuse([words, meant], by=by)]
    return Ranked(fused[:limit], _places(words), _places(meant), meant[0].score if meant else None)


async def recall(knowledge: Knowledge, tenant_id: UUID, chunk_ids: Sequence[str]) -> list[Passage]:
    """The passages with these ids, in this order, as far as their documents still hold them. Their score is 0."""
    hits = [Hit(document_id="", chunk_id=chunk_id, score=0.0) for chunk_id in chunk_ids[:MAX_LIMIT]]
    async with knowledge.database.tenant(tenant_id) as session:
        return await living(session, tenant_id, hits)


async def _plan(session: AsyncSession, knowledge: Knowledge, tenant_id: UUID) -> _Plan | None:
    """How this tenant's searches go; None if nothing was ever indexed."""
    live = and_(Generation.tenant_id == IndexState.tenant_id, Generation.generation == IndexState.generation)
    row = (
        await session.execute(
            select(IndexState, Generation, KnowledgeSettings)
            .outerjoin(Generation, live)
            .outerjoin(KnowledgeSettings, KnowledgeSettings.tenant_id == IndexState.tenant_id)
            .where(IndexState.tenant_id == tenant_id)
        )
    ).one_or_none()
    if row is None or not row[0].languages:
        return None
    state = row[0]
    generation: Generation | None = row[1]
    settings: KnowledgeSettings | None = row[2]
    first = Laid(Place(tenant_id, state.generation, cast("Layout", state.layout)))
    place = laid(generation) if generation is not None else first
    if settings is None:
        return _Plan(place, state.languages)
    reranker, notes = await _reranker(session, knowledge, settings)
    return _Plan(place, state.languages, cast("Fusion", settings.fusion), settings.score_floor, reranker, notes)


async def _reranker(
    session: AsyncSession, knowledge: Knowledge, settings: KnowledgeSettings
) -> tuple[Reranker | None, tuple[str, ...]]:
    if settings.reranker_url is None or knowledge.remote is None:
        return None, ()
    name, key = settings.reranker_secret, None
    if name is not None:
        try:
            opened = await open_secrets(session, settings.tenant_id, keyring=knowledge.remote.keyring, names=[name])
        except StonechatError:
            opened = {}
        if name not in opened:
            return None, (f"The reranker was not asked: there is no readable secret called “{name}”.",)
        key = opened[name].value
    return Reranker(settings.reranker_url, settings.reranker_model, key), ()


async def _ranked(
    knowledge: Knowledge, plan: _Plan, query: str, *, limit: int, only: Narrowing
) -> tuple[Ranked, list[str]]:
    notes: list[str] = []
    vector = None
    place, model = plan.live.place, plan.live.model
    if model is not None and place.dimensions is not None and knowledge.remote is not None:
        try:
            vector = await knowledge.remote.embedder.embed_query(place.tenant_id, model, query)
            if len(vector) != place.dimensions:
                vector = None
                notes.append("Searched by words alone: the embedding model now makes vectors of another length.")
        except EmbeddingFailed as error:
            notes.append(f"Searched by words alone: {error}")
    depth = max(2 * limit + 10, MAX_DOCUMENTS if plan.reranker is not None else 0)
    ranked = await rank(
        knowledge.index,
        place,
        query,
        limit=depth,
        languages=plan.languages,
        vector=vector,
        by=plan.fusion,
        only=only,
    )
    return ranked, notes


async def _finished(
    knowledge: Knowledge,
    plan: _Plan,
    query: str,
    passages: list[Passage],
    *,
    ranked: Ranked,
    limit: int,
    notes: list[str],
) -> Found:
    """Rerank, hold against the floor, cut."""
    passages = [
        replace(
            passage,
            word_rank=ranked.word_ranks.get(passage.chunk_id),
            meaning_rank=ranked.meaning_ranks.get(passage.chunk_id),
            fused_rank=place,
        )
        for place, passage in enumerate(passages, start=1)
    ]
    relevance = None
    if plan.reranker is not None and knowledge.remote is not None and passages:
        remote = knowledge.remote
        try:
            order = await rerank(
                remote.outbound,
                plan.reranker,
                query=query,
                documents=[f"{passage.title}\n{passage.text}" for passage in passages],
                allow_http=remote.allow_http,
            )
            passages = [replace(passages[index], score=score) for index, score in order]
            relevance = order[0][1]
        except StonechatError as error:
            notes.append(f"Not reranked: {error.detail or error.title}")
    found = Found(passages[:limit])
    if plan.floor is not None and found:
        found.confidence = relevance if relevance is not None else _confidence(query, found, ranked.cosine)
        if found.confidence < plan.floor:
            found.clear()
            found.below_floor = True
    return _noted(found, (*plan.notes, *notes))


def _noted(found: Found, notes: tuple[str, ...]) -> Found:
    found.notes = notes
    return found


def _confidence(query: str, passages: Sequence[Passage], cosine: float | None) -> float:
    """How near the best passages come, from 0 to 1: the share of the question's terms that one of them holds, or its
    nearness in meaning, whichever is more."""
    covered = 0.0
    for passage in passages[:_JUDGED]:
        asked = set(query_vector(query, [passage.language])[0])
        text = "\n".join((passage.title, *passage.headings, passage.text))
        if asked:
            covered = max(covered, len(asked & set(document_vector(text, passage.language).indices)) / len(asked))
    return max(covered, cosine or 0.0)


def _places(hits: Iterable[Hit]) -> dict[str, int]:
    return {hit.chunk_id: place for place, hit in enumerate(hits, start=1)}

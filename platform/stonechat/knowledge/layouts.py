"""Where a tenant's passages are: in which generation, which layout, with which embedding model.

`TenantIndex` is an engine that knows: given a tenant, it asks Postgres, writes to the live generation and to the one being
built beside it, and reads from the live one. Given a `Place`, it goes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast
from uuid import UUID

from sqlalchemy import Row, and_, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.db.session import Database
from stonechat.errors import EmbeddingFailed
from stonechat.knowledge.embeddings import Embedder, EmbeddingModel
from stonechat.knowledge.index import (
    BATCH,
    EVERYTHING,
    MAX_HELD,
    At,
    Held,
    Hit,
    IndexPoint,
    KnowledgeIndex,
    Layout,
    Narrowing,
    Place,
)
from stonechat.knowledge.index_models import Generation
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.models import IndexState


@dataclass(frozen=True, slots=True)
class Laid:
    """A place, and the model whose vectors it holds."""

    place: Place
    model: EmbeddingModel | None = None


@dataclass(frozen=True, slots=True)
class Places:
    """A tenant's live generation, and the one being built beside it, if any."""

    live: Laid
    building: Laid | None = None
    languages: tuple[str, ...] = ()
    """That the tenant's documents use; empty: nothing was ever indexed."""

    @property
    def written(self) -> list[Laid]:
        """Where new passages go."""
        return [self.live] if self.building is None else [self.live, self.building]


async def places_of(session: AsyncSession, tenant_id: UUID, *, layout: Layout = "per_tenant") -> Places:
    """Where the tenant's passages are; before the first, where they will be: in `layout`. One query."""
    beside = and_(
        Generation.tenant_id == IndexState.tenant_id,
        or_(Generation.generation == IndexState.generation, Generation.state == "building"),
    )
    rows = list(
        await session.execute(
            select(IndexState.generation, IndexState.layout, IndexState.languages, Generation)
            .outerjoin(Generation, beside)
            .where(IndexState.tenant_id == tenant_id)
        )
    )
    if not rows:
        return Places(Laid(Place(tenant_id, layout=layout)))
    return _places(tenant_id, rows)


def _places(tenant_id: UUID, rows: Sequence[Row[int, str, list[str], Generation | None]]) -> Places:
    number, layout, languages, _ = rows[0]
    live = Laid(Place(tenant_id, number, cast("Layout", layout)))
    building = None
    for _, _, _, row in rows:
        if row is not None and row.generation == number:
            live = laid(row)
        elif row is not None:
            building = laid(row)
    return Places(live, building, tuple(languages))


def laid(row: Generation) -> Laid:
    """The place of a generation."""
    place = Place(row.tenant_id, row.generation, cast("Layout", row.layout))
    if row.embedding_provider is None or row.embedding_model is None:
        return Laid(place)
    model = EmbeddingModel(row.embedding_provider, row.embedding_model, row.asked_dimensions)
    return Laid(replace(place, model=f"{model.provider}/{model.name}", dimensions=row.dimensions), model)


async def ensure_state(session: AsyncSession, tenant_id: UUID, *, layout: Layout) -> None:
    """Decide a tenant's layout, if that was not done."""
    first = insert(IndexState).values(tenant_id=tenant_id, layout=layout)
    await session.execute(first.on_conflict_do_nothing())


class TenantIndex:
    """`KnowledgeIndex` that finds each tenant's places in Postgres. `layout` is that of new tenants."""

    def __init__(
        self,
        engine: KnowledgeIndex,
        database: Database,
        *,
        embedder: Embedder | None = None,
        layout: Layout = "per_tenant",
    ) -> None:
        self.engine = engine
        self.embedder = embedder
        self.layout: Layout = layout
        self.database = database

    async def upsert(self, at: At, points: Sequence[IndexPoint]) -> str | None:
        if isinstance(at, Place):
            return await self.engine.upsert(at, points)
        async with self.database.tenant(at) as session:
            await ensure_state(session, at, layout=self.layout)
            places = await places_of(session, at)
        note = None
        for target in places.written:
            note = await self.write(target, points) or note
        return note

    async def write(self, target: Laid, points: Sequence[IndexPoint]) -> str | None:
        """Write passages to one place, with vectors if it has them; a sentence if there are none for now."""
        note = None
        for start in range(0, len(points), BATCH):
            batch = list(points[start : start + BATCH])
            if target.model is not None and target.place.dimensions is not None and note is None:
                try:
                    batch = await self.with_vectors(target, batch)
                except EmbeddingFailed as error:
                    note = f"Found by its words only. {error} Then have the document read again."
            await self.engine.upsert(target.place, batch)
        return note

    async def with_vectors(self, target: Laid, points: Sequence[IndexPoint]) -> list[IndexPoint]:
        """The passages with what their meaning is to the target's model. Raises `EmbeddingFailed`."""
        if self.embedder is None or target.model is None:
            raise EmbeddingFailed("no embedding model can be reached from here.")
        vectors = await self.embedder.embed(target.place.tenant_id, target.model, [point.text for point in points])
        if vectors and len(vectors[0]) != target.place.dimensions:
            raise EmbeddingFailed(
                f"“{target.model.name}” now makes vectors of {len(vectors[0])} numbers, and made {target.place.dimensions}. "
                "Save the search settings again to build the index anew."
            )
        return [replace(point, vector=vector) for point, vector in zip(points, vectors, strict=True)]

    async def search(
        self,
        at: At,
        query: str,
        *,
        limit: int,
        languages: Sequence[str] = (DEFAULT_LANGUAGE,),
        only: Narrowing = EVERYTHING,
    ) -> list[Hit]:
        place = await self._live(at)
        return await self.engine.search(place, query, limit=limit, languages=languages, only=only)

    async def nearest(self, at: At, vector: Sequence[float], *, limit: int, only: Narrowing = EVERYTHING) -> list[Hit]:
        return await self.engine.nearest(await self._live(at), vector, limit=limit, only=only)

    async def delete_document(self, at: At, document_id: str) -> None:
        for place in await self._written(at):
            await self.engine.delete_document(place, document_id)

    async def delete_points(self, at: At, chunk_ids: Sequence[str]) -> None:
        for place in await self._written(at):
            await self.engine.delete_points(place, chunk_ids)

    async def label_document(self, at: At, document_id: str, *, source_id: str | None, tags: Sequence[str]) -> None:
        for place in await self._written(at):
            await self.engine.label_document(place, document_id, source_id=source_id, tags=tags)

    async def drop(self, at: At) -> None:
        for place in await self._written(at):
            await self.engine.drop(place)

    async def drop_tenant(self, tenant_id: UUID) -> None:
        await self.engine.drop_tenant(tenant_id)

    async def count(self, at: At, *, document_id: str | None = None) -> int:
        return await self.engine.count(await self._live(at), document_id=document_id)

    async def held(
        self, at: At, *, document_id: str | None = None, after: str | None = None, limit: int = MAX_HELD
    ) -> list[Held]:
        return await self.engine.held(await self._live(at), document_id=document_id, after=after, limit=limit)

    async def ready(self) -> None:
        await self.engine.ready()

    async def close(self) -> None:
        await self.engine.close()

    async def _places(self, tenant_id: UUID) -> Places:
        async with self.database.tenant(tenant_id) as session:
            return await places_of(session, tenant_id, layout=self.layout)

    async def _live(self, at: At) -> Place:
        return at if isinstance(at, Place) else (await self._places(at)).live.place

    async def _written(self, at: At) -> list[Place]:
        return [at] if isinstance(at, Place) else [each.place for each in (await self._places(at)).written]

"""A Qdrant server or cluster: the index shared by any number of processes.

A collection is a tenant's generation, `stonechat_<tenant id in hex>_g<n>`, or one of small tenants together,
`stonechat_shared_<name>`. Before 1.19 a server counts how rare words are over the whole collection, silently: one
tenant's words would move another's scores, so the shared layout is refused there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from stonechat.errors import Unavailable
from stonechat.knowledge.index import (
    BATCH,
    DENSE,
    EVERYTHING,
    FILTERED,
    MAX_HELD,
    MAX_HITS,
    VECTOR,
    At,
    Held,
    Hit,
    IndexPoint,
    Narrowing,
    Place,
    payload_of,
    place_of,
    point_id,
)
from stonechat.knowledge.index_measured import measured
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE, document_vector
from stonechat.knowledge.related import asked_vector

TIMEOUT_SECONDS = 10
MAX_KNOWN = 10_000
SHARED_SINCE = (1, 19)
"""The first version that counts rarity within a filter."""


class ServerIndex:
    """`KnowledgeIndex` over a Qdrant server. Opens no connection until first used."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._client = AsyncQdrantClient(url=url, api_key=api_key, timeout=TIMEOUT_SECONDS, check_compatibility=False)
        self._known: set[str] = set()
        """Collections known to exist, to spare a question before each write."""
        self._shares: bool | None = None

    @measured("upsert")
    async def upsert(self, at: At, points: Sequence[IndexPoint]) -> str | None:
        place = place_of(at)
        await self._refuse_leaking(place)
        name = _collection(place)
        async with _failures():
            await self._ensure(name, place)
            for start in range(0, len(points), BATCH):
                batch = [_point(place, point) for point in points[start : start + BATCH]]
                await self._client.upsert(name, points=batch, wait=True)
        return None

    @measured("search")
    async def search(
        self,
        at: At,
        query: str,
        *,
        limit: int,
        languages: Sequence[str] = (DEFAULT_LANGUAGE,),
        only: Narrowing = EVERYTHING,
    ) -> list[Hit]:
        place = place_of(at)
        indices, values = asked_vector(query, languages)
        if not indices:
            return []
        await self._refuse_leaking(place)
        vector = models.SparseVector(indices=indices, values=values)
        own = _own(place)
        corpus = models.IdfCorpusParams(corpus=models.Filter(must=[*own])) if own else None
        return await self._query(place, vector, VECTOR, limit=limit, only=only, idf=corpus)

    @measured("nearest")
    async def nearest(self, at: At, vector: Sequence[float], *, limit: int, only: Narrowing = EVERYTHING) -> list[Hit]:
        place = place_of(at)
        if place.dimensions is None:
            return []
        return await self._query(place, list(vector), DENSE, limit=limit, only=only)

    @measured("delete")
    async def delete_document(self, at: At, document_id: str) -> None:
        await self._delete(place_of(at), _filter(place_of(at), document_id=document_id))

    @measured("delete")
    async def delete_points(self, at: At, chunk_ids: Sequence[str]) -> None:
        async with _failures():
            for start in range(0, len(chunk_ids), BATCH):
                doomed = [str(point_id(chunk_id)) for chunk_id in chunk_ids[start : start + BATCH]]
                await self._client.delete(
                    _collection(place_of(at)), points_selector=models.PointIdsList(points=doomed), wait=True
                )

    @measured("label")
    async def label_document(self, at: At, document_id: str, *, source_id: str | None, tags: Sequence[str]) -> None:
        place = place_of(at)
        async with _failures():
            await self._client.set_payload(
                _collection(place),
                {"source_id": source_id, "tags": list(tags)},
                points=models.FilterSelector(filter=_filter(place, document_id=document_id)),
                wait=True,
            )

    @measured("held")
    async def held(
        self, at: At, *, document_id: str | None = None, after: str | None = None, limit: int = MAX_HELD
    ) -> list[Held]:
        place = place_of(at)
        async with _failures() as missing:
            records, _ = await self._client.scroll(
                _collection(place),
                scroll_filter=_filter(place, document_id=document_id),
                offset=str(UUID(int=point_id(after).int + 1)) if after is not None else None,
                limit=min(limit, MAX_HELD),
                with_payload=True,
            )
        if missing:
            return []
        return [Held(payload["chunk_id"], payload["document_id"]) for record in records if (payload := record.payload)]

    @measured("drop")
    async def drop(self, at: At) -> None:
        place = place_of(at)
        if place.layout == "shared":
            await self._delete(place, _filter(place))
            return
        name = _collection(place)
        self._known.discard(name)
        async with _failures():
            await self._client.delete_collection(name)

    @measured("drop")
    async def drop_tenant(self, tenant_id: UUID) -> None:
        async with _failures():
            names = [each.name for each in (await self._client.get_collections()).collections]
        mine = _tenant_prefix(tenant_id)
        for name in names:
            if name.startswith(mine):
                self._known.discard(name)
                async with _failures():
                    await self._client.delete_collection(name)
            elif name.startswith(_SHARED):
                doomed = models.Filter(must=[_of_tenant(tenant_id)])
                async with _failures():
                    await self._client.delete(name, points_selector=models.FilterSelector(filter=doomed), wait=True)

    @measured("count")
    async def count(self, at: At, *, document_id: str | None = None) -> int:
        place = place_of(at)
        wanted = _filter(place, document_id=document_id)
        async with _failures() as missing:
            answer = await self._client.count(_collection(place), count_filter=wanted, exact=True)
        return 0 if missing else answer.count

    async def shares(self) -> bool:
        """Whether the server is new enough for the shared layout. Raises `Unavailable`."""
        if self._shares is None:
            async with _failures():
                version = (await self._client.info()).version
            numbers = re.match(r"(\d+)\.(\d+)", version)
            self._shares = numbers is not None and (int(numbers[1]), int(numbers[2])) >= SHARED_SINCE
        return self._shares

    async def ready(self) -> None:
        async with _failures():
            await self._client.get_collections()

    async def close(self) -> None:
        await self._client.close()

    async def _refuse_leaking(self, place: Place) -> None:
        if place.layout == "shared" and not await self.shares():
            raise Unavailable(
                "The shared layout needs a Qdrant server of version 1.19 or newer; older ones mix the word statistics "
                "of tenants. Update the server, or set STONECHAT_INDEX_LAYOUT=per_tenant."
            )

    async def _query(
        self,
        place: Place,
        vector: models.SparseVector | list[float],
        using: str,
        *,
        limit: int,
        only: Narrowing,
        idf: models.IdfCorpusParams | None = None,
    ) -> list[Hit]:
        async with _failures() as missing:
            found = await self._client.query_points(
                _collection(place),
                query=vector,
                using=using,
                limit=min(limit, MAX_HITS),
                with_payload=True,
                query_filter=_filter(place, only=only),
                search_params=models.SearchParams(idf=idf) if idf is not None else None,
            )
        if missing:
            return []
        hits = [
            Hit(payload["document_id"], payload["chunk_id"], point.score)
            for point in found.points
            if (payload := point.payload)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    async def _delete(self, place: Place, doomed: models.Filter | None) -> None:
        if doomed is None:
            return
        async with _failures():
            await self._client.delete(
                _collection(place), points_selector=models.FilterSelector(filter=doomed), wait=True
            )

    async def _ensure(self, name: str, place: Place) -> None:
        if name in self._known:
            return
        if not await self._client.collection_exists(name):
            shared = place.layout == "shared"
            dense = (
                models.VectorParams(
                    size=place.dimensions,
                    distance=models.Distance.COSINE,
                    datatype=models.Datatype.FLOAT16,
                    on_disk=True,
                )
                if (place.dimensions is not None)
                else None
            )
            try:
                await self._client.create_collection(
                    name,
                    vectors_config={DENSE: dense} if dense is not None else {},
                    sparse_vectors_config={VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    # A graph for each tenant instead of one for all, because no search crosses tenants.
                    hnsw_config=models.HnswConfigDiff(m=0, payload_m=16) if shared else None,
                    on_disk_payload=True,
                )
            except UnexpectedResponse as error:
                if error.status_code != 409:  # another process was quicker
                    raise
        for field in FILTERED:
            await self._client.create_payload_index(name, field, models.PayloadSchemaType.KEYWORD, wait=True)
        if place.layout == "shared":
            tenant = models.KeywordIndexParams(type=models.KeywordIndexType.KEYWORD, is_tenant=True)
            await self._client.create_payload_index(name, "tenant_id", tenant, wait=True)
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known.add(name)


@asynccontextmanager
async def _failures() -> AsyncIterator[list[bool]]:
    """Turn the client's errors into ours. A missing collection is an empty one: the yielded list becomes true."""
    missing: list[bool] = []
    try:
        yield missing
    except UnexpectedResponse as error:
        if error.status_code != 404:
            raise Unavailable("The search index refused the request.") from error
        missing.append(True)
    except (ApiException, OSError) as error:
        raise Unavailable("The search index cannot be reached.") from error


_SHARED = "stonechat_shared_"


def _tenant_prefix(tenant_id: UUID) -> str:
    return f"stonechat_{tenant_id.hex}_g"


def _collection(place: Place) -> str:
    if place.layout == "shared":
        return f"{_SHARED}{place.shared_name}"
    return f"{_tenant_prefix(place.tenant_id)}{place.generation}"


def _point(place: Place, point: IndexPoint) -> models.PointStruct:
    sparse = document_vector(point.text, point.language)
    vectors: dict[str, models.SparseVector | list[float]] = {
        VECTOR: models.SparseVector(indices=sparse.indices, values=sparse.values)
    }
    if place.dimensions is not None and point.vector is not None:
        vectors[DENSE] = list(point.vector)
    return models.PointStruct(
        id=str(point_id(point.chunk_id)),
        vector={**vectors},
        payload=payload_of(place, point),
    )


def _is(field: str, value: str) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _of_tenant(tenant_id: UUID) -> models.FieldCondition:
    return _is("tenant_id", tenant_id.hex)


def _own(place: Place) -> list[models.FieldCondition]:
    """What keeps a tenant to its own in a shared collection; nothing where the collection is its own."""
    return [_of_tenant(place.tenant_id)] if place.layout == "shared" else []


def _filter(place: Place, *, document_id: str | None = None, only: Narrowing = EVERYTHING) -> models.Filter | None:
    """Every filter is made here, so that none forgets whose passages these are."""
    must = _own(place)
    for field, value in (("document_id", document_id), ("source_id", only.source_id), ("language", only.language)):
        if value is not None:
            must.append(_is(field, value))
    if only.tags:
        must.append(models.FieldCondition(key="tags", match=models.MatchAny(any=list(only.tags))))
    if only.sources:
        must.append(models.FieldCondition(key="source_id", match=models.MatchAny(any=list(only.sources))))
    return models.Filter(must=[*must]) if must else None

"""A Qdrant server or cluster: the index shared by any number of processes, a collection per tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ApiException, UnexpectedResponse

from stonechat.errors import Unavailable
from stonechat.knowledge.index import BATCH, MAX_HITS, VECTOR, Hit, IndexPoint, chunk_id, point_id
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE, document_vector
from stonechat.knowledge.related import asked_vector

TIMEOUT_SECONDS = 10
MAX_KNOWN = 10_000
_GENERATION = 1


class ServerIndex:
    """`KnowledgeIndex` over a Qdrant server. Opens no connection until first used."""

    def __init__(self, url: str, *, api_key: str | None = None) -> None:
        self._client = AsyncQdrantClient(url=url, api_key=api_key, timeout=TIMEOUT_SECONDS, check_compatibility=False)
        self._known: set[str] = set()
        """Collections known to exist, to spare a question before each write."""

    async def upsert(self, tenant_id: UUID, points: Sequence[IndexPoint]) -> None:
        name = _collection(tenant_id)
        async with _failures():
            await self._ensure(name)
            for start in range(0, len(points), BATCH):
                batch = [_point(tenant_id, point) for point in points[start : start + BATCH]]
                await self._client.upsert(name, points=batch, wait=True)

    async def search(
        self, tenant_id: UUID, query: str, *, limit: int, languages: Sequence[str] = (DEFAULT_LANGUAGE,)
    ) -> list[Hit]:
        indices, values = asked_vector(query, languages)
        if not indices:
            return []
        async with _failures() as missing:
            found = await self._client.query_points(
                _collection(tenant_id),
                query=models.SparseVector(indices=indices, values=values),
                using=VECTOR,
                limit=min(limit, MAX_HITS),
                with_payload=True,
            )
        if missing:
            return []
        hits = [
            Hit(payload["document_id"], payload["chunk_id"], payload["version"], point.score)
            for point in found.points
            if (payload := point.payload)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    async def delete_document(self, tenant_id: UUID, document_id: str, *, keep_version: int | None = None) -> None:
        doomed = _of_document(document_id, keep_version=keep_version)
        async with _failures():
            await self._client.delete(
                _collection(tenant_id), points_selector=models.FilterSelector(filter=doomed), wait=True
            )

    async def drop_tenant(self, tenant_id: UUID) -> None:
        name = _collection(tenant_id)
        self._known.discard(name)
        async with _failures():
            await self._client.delete_collection(name)

    async def count(self, tenant_id: UUID, *, document_id: str | None = None) -> int:
        wanted = _of_document(document_id) if document_id is not None else None
        async with _failures() as missing:
            answer = await self._client.count(_collection(tenant_id), count_filter=wanted, exact=True)
        return 0 if missing else answer.count

    async def ready(self) -> None:
        async with _failures():
            await self._client.get_collections()

    async def close(self) -> None:
        await self._client.close()

    async def _ensure(self, name: str) -> None:
        if name in self._known:
            return
        if not await self._client.collection_exists(name):
            try:
                await self._client.create_collection(
                    name,
                    vectors_config={},
                    sparse_vectors_config={VECTOR: models.SparseVectorParams(modifier=models.Modifier.IDF)},
                    on_disk_payload=True,
                )
            except UnexpectedResponse as error:
                if error.status_code != 409:  # another process was quicker
                    raise
        await self._client.create_payload_index(name, "document_id", models.PayloadSchemaType.KEYWORD, wait=True)
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


def _collection(tenant_id: UUID) -> str:
    return f"stonechat_{tenant_id.hex}_g{_GENERATION}"


def _point(tenant_id: UUID, point: IndexPoint) -> models.PointStruct:
    where = {"version": point.version, "ordinal": point.ordinal}
    vector = document_vector(point.text, point.language)
    return models.PointStruct(
        id=str(point_id(tenant_id, point.document_id, **where)),
        vector={VECTOR: models.SparseVector(indices=vector.indices, values=vector.values)},
        payload={
            "document_id": point.document_id,
            "chunk_id": chunk_id(tenant_id, point.document_id, **where),
            "version": point.version,
        },
    )


def _of_document(document_id: str, *, keep_version: int | None = None) -> models.Filter:
    kept = (
        [models.FieldCondition(key="version", match=models.MatchValue(value=keep_version))]
        if keep_version is not None
        else None
    )
    return models.Filter(
        must=[models.FieldCondition(key="document_id", match=models.MatchValue(value=document_id))], must_not=kept
    )

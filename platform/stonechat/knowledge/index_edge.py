"""Qdrant Edge: the index inside this process, a shard (a folder) per collection.

`<root>/<tenant id in hex>/g<generation>` is a tenant's own, `<root>/shared/<name>` one of small tenants together. A call
into Edge holds the interpreter lock, so all of them run on one thread of their own, in short batches. At most `MAX_OPEN`
shards are open; the one longest unused is flushed and closed for the next. The write-ahead log stays on: it is what
survives a kill, and what keeps a second process out of the folder. Segments are never optimised in place: that would hold
the thread for a second at 30,000 passages, and searches do not need it. What deleted passages take up on disk comes back
with the next generation.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from qdrant_edge import (
    CountRequest,
    Distance,
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    EdgeVectorParams,
    FieldCondition,
    Filter,
    IdfParams,
    KeywordIndexParams,
    MatchAny,
    MatchValue,
    Modifier,
    PayloadSchemaType,
    Point,
    Query,
    QueryRequest,
    ScrollRequest,
    SearchParams,
    SparseVector,
    UpdateOperation,
    VectorStorageDatatype,
)

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

MAX_OPEN = 20
MAX_WAITING = 1000
"""Calls that may wait for the one thread; more are refused rather than queued."""
_CONFIG_FILE = "edge_config.json"

T = TypeVar("T")


class EdgeIndex:
    """`KnowledgeIndex` over Qdrant Edge. One process owns the folder."""

    def __init__(self, root: Path, *, max_open: int = MAX_OPEN) -> None:
        self._root = root
        self._max_open = max_open
        self._shards: OrderedDict[Path, EdgeShard] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._waiting = 0
        self._closed = False

    @measured("upsert")
    async def upsert(self, at: At, points: Sequence[IndexPoint]) -> str | None:
        place = place_of(at)
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            await self._run(lambda batch=batch: self._upsert(place, batch))  # type: ignore[misc]
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
        indices, values = asked_vector(query, languages)
        if not indices:
            return []
        vector = SparseVector(indices, values)
        return await self._run(lambda: self._query(place_of(at), vector, VECTOR, min(limit, MAX_HITS), only))

    @measured("nearest")
    async def nearest(self, at: At, vector: Sequence[float], *, limit: int, only: Narrowing = EVERYTHING) -> list[Hit]:
        place = place_of(at)
        if place.dimensions is None:
            return []
        return await self._run(lambda: self._query(place, list(vector), DENSE, min(limit, MAX_HITS), only))

    @measured("delete")
    async def delete_document(self, at: At, document_id: str) -> None:
        await self._run(lambda: self._delete(place_of(at), document_id))

    @measured("delete")
    async def delete_points(self, at: At, chunk_ids: Sequence[str]) -> None:
        place = place_of(at)
        for start in range(0, len(chunk_ids), BATCH):
            batch = chunk_ids[start : start + BATCH]
            await self._run(lambda batch=batch: self._delete_points(place, batch))  # type: ignore[misc]

    @measured("label")
    async def label_document(self, at: At, document_id: str, *, source_id: str | None, tags: Sequence[str]) -> None:
        await self._run(lambda: self._label(place_of(at), document_id, {"source_id": source_id, "tags": list(tags)}))

    @measured("drop")
    async def drop(self, at: At) -> None:
        await self._run(lambda: self._drop(place_of(at)))

    @measured("drop")
    async def drop_tenant(self, tenant_id: UUID) -> None:
        await self._run(lambda: self._drop_tenant(tenant_id))

    @measured("count")
    async def count(self, at: At, *, document_id: str | None = None) -> int:
        return await self._run(lambda: self._count(place_of(at), document_id))

    @measured("held")
    async def held(
        self, at: At, *, document_id: str | None = None, after: str | None = None, limit: int = MAX_HELD
    ) -> list[Held]:
        return await self._run(lambda: self._held(place_of(at), document_id, after, min(limit, MAX_HELD)))

    async def ready(self) -> None:
        await self._run(lambda: self._root.mkdir(parents=True, exist_ok=True))

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close_all)
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._closed:
            raise Unavailable("The search index is shutting down.")
        if self._waiting >= MAX_WAITING:
            raise Unavailable("The search index has too much to do right now.", headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (Unavailable, asyncio.CancelledError):
            raise
        except Exception as error:  # Edge raises bare Exception for everything
            raise Unavailable("The search index failed to answer.") from error
        finally:
            self._waiting -= 1

    # Everything below runs on the index thread.

    def _folder(self, place: Place) -> Path:
        if place.layout == "shared":
            return self._root / "shared" / place.shared_name
        return self._root / place.tenant_id.hex / f"g{place.generation}"

    def _shard(self, place: Place, *, create: bool) -> EdgeShard | None:
        """The place's shard, opened if need be; None if it does not exist and is not to be made."""
        return self._opened(self._folder(place), make=place if create else None)

    def _opened(self, folder: Path, *, make: Place | None = None) -> EdgeShard | None:
        if (shard := self._shards.get(folder)) is not None:
            self._shards.move_to_end(folder)
            return shard
        if (folder / _CONFIG_FILE).exists():
            shard = self._load(folder)
        elif make is not None:
            shard = self._create(folder, make)
        else:
            return None
        while len(self._shards) >= self._max_open:
            _, oldest = self._shards.popitem(last=False)
            oldest.flush()
            oldest.close()
        self._shards[folder] = shard
        return shard

    @staticmethod
    def _load(folder: Path) -> EdgeShard:
        try:
            return EdgeShard.load(str(folder))
        except Exception as error:
            if "WouldBlock" in str(error):
                raise Unavailable(
                    "The search index is in use by another process. Set QDRANT_URL to share an index between processes."
                ) from error
            raise

    @staticmethod
    def _create(folder: Path, place: Place) -> EdgeShard:
        # The config file is written last: a folder without it is what a crash left of an earlier attempt.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        shard = EdgeShard.create(str(folder), _config(place.dimensions))
        for name in FILTERED:
            shard.update(UpdateOperation.create_field_index(name, PayloadSchemaType.Keyword))
        if place.layout == "shared":
            shard.update(UpdateOperation.create_field_index("tenant_id", KeywordIndexParams(is_tenant=True)))
        shard.flush()
        return shard

    def _upsert(self, place: Place, points: Sequence[IndexPoint]) -> None:
        shard = self._shard(place, create=True)
        assert shard is not None  # noqa: S101  create=True
        shard.update(UpdateOperation.upsert_points([_point(place, point) for point in points]))

    def _query(
        self, place: Place, vector: SparseVector | list[float], using: str, limit: int, only: Narrowing
    ) -> list[Hit]:
        shard = self._shard(place, create=False)
        if shard is None:
            return []
        own = _own(place)
        found = shard.query(
            QueryRequest(
                limit=limit,
                query=Query.Nearest(vector, using=using),
                with_payload=True,
                filter=_filter(place, only=only),
                # What another tenant writes must not move how rare a word is here.
                params=SearchParams(idf=IdfParams(corpus=Filter(must=[*own]))) if own and using == VECTOR else None,
            )
        )
        hits = [
            Hit(payload["document_id"], payload["chunk_id"], point.score)
            for point in found
            if (payload := point.payload)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def _delete(self, place: Place, document_id: str) -> None:
        shard = self._shard(place, create=False)
        if shard is not None and (doomed := _filter(place, document_id=document_id)) is not None:
            shard.update(UpdateOperation.delete_points_by_filter(doomed))

    def _delete_points(self, place: Place, chunk_ids: Sequence[str]) -> None:
        shard = self._shard(place, create=False)
        if shard is not None:
            shard.update(UpdateOperation.delete_points([point_id(chunk_id) for chunk_id in chunk_ids]))

    def _label(self, place: Place, document_id: str, payload: dict[str, object]) -> None:
        shard = self._shard(place, create=False)
        if shard is not None and (labelled := _filter(place, document_id=document_id)) is not None:
            shard.update(UpdateOperation.set_payload_by_filter(labelled, payload))

    def _held(self, place: Place, document_id: str | None, after: str | None, limit: int) -> list[Held]:
        shard = self._shard(place, create=False)
        if shard is None:
            return []
        offset = UUID(int=point_id(after).int + 1) if after is not None else None
        wanted = _filter(place, document_id=document_id)
        records, _ = shard.scroll(ScrollRequest(offset=offset, limit=limit, filter=wanted, with_payload=True))
        return [Held(payload["chunk_id"], payload["document_id"]) for record in records if (payload := record.payload)]

    def _count(self, place: Place, document_id: str | None) -> int:
        shard = self._shard(place, create=False)
        return 0 if shard is None else int(shard.count(CountRequest(filter=_filter(place, document_id=document_id))))

    def _drop(self, place: Place) -> None:
        if place.layout == "shared":
            if (shard := self._shard(place, create=False)) is not None:
                shard.update(UpdateOperation.delete_points_by_filter(Filter(must=[*_own(place)])))
            return
        folder = self._folder(place)
        if (shard := self._shards.pop(folder, None)) is not None:
            shard.close()
        shutil.rmtree(folder, ignore_errors=True)

    def _drop_tenant(self, tenant_id: UUID) -> None:
        home = self._root / tenant_id.hex
        for folder in [folder for folder in self._shards if folder.is_relative_to(home)]:
            self._shards.pop(folder).close()
        shutil.rmtree(home, ignore_errors=True)
        for folder in sorted((self._root / "shared").glob("*")):
            if (shard := self._opened(folder)) is not None:
                shard.update(UpdateOperation.delete_points_by_filter(Filter(must=[_of_tenant(tenant_id)])))

    def _close_all(self) -> None:
        while self._shards:
            _, shard = self._shards.popitem()
            shard.flush()
            shard.close()


def _config(dimensions: int | None) -> EdgeConfig:
    sparse = {VECTOR: EdgeSparseVectorParams(modifier=Modifier.Idf)}
    if dimensions is None:
        return EdgeConfig(sparse_vectors=sparse, max_search_threads=1)
    # Half the precision is more than a ranking needs, in half the space, and compared a quarter faster.
    dense = EdgeVectorParams(dimensions, Distance.Cosine, datatype=VectorStorageDatatype.Float16)
    return EdgeConfig(vectors={DENSE: dense}, sparse_vectors=sparse, max_search_threads=1)


def _point(place: Place, point: IndexPoint) -> Point:
    vectors: dict[str, list[float] | SparseVector | list[list[float]]] = {
        VECTOR: document_vector(point.text, point.language)
    }
    if place.dimensions is not None and point.vector is not None:
        vectors[DENSE] = list(point.vector)
    return Point(point_id(point.chunk_id), vectors, payload_of(place, point))


def _of_tenant(tenant_id: UUID) -> FieldCondition:
    return FieldCondition("tenant_id", match=MatchValue(tenant_id.hex))


def _own(place: Place) -> list[FieldCondition]:
    """What keeps a tenant to its own in a shared collection; nothing where the collection is its own."""
    return [_of_tenant(place.tenant_id)] if place.layout == "shared" else []


def _filter(place: Place, *, document_id: str | None = None, only: Narrowing = EVERYTHING) -> Filter | None:
    """Every filter is made here, so that none forgets whose passages these are."""
    must = _own(place)
    for name, value in (("document_id", document_id), ("source_id", only.source_id), ("language", only.language)):
        if value is not None:
            must.append(FieldCondition(name, match=MatchValue(value)))
    if only.tags:
        must.append(FieldCondition("tags", match=MatchAny(list(only.tags))))
    if only.sources:
        must.append(FieldCondition("source_id", match=MatchAny(list(only.sources))))
    return Filter(must=[*must]) if must else None

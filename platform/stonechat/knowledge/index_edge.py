"""Qdrant Edge: the index inside this process, a shard (a folder) per tenant, `<root>/<tenant id in hex>/g<generation>`.

A call into Edge holds the interpreter lock, so all of them run on one thread of their own, in short batches. At most
`MAX_OPEN` shards are open; the one longest unused is flushed and closed for the next. The write-ahead log stays on: it
is what survives a kill, and what keeps a second process out of the folder.
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
    EdgeConfig,
    EdgeShard,
    EdgeSparseVectorParams,
    FieldCondition,
    Filter,
    MatchValue,
    Modifier,
    PayloadSchemaType,
    Point,
    Query,
    QueryRequest,
    SparseVector,
    UpdateOperation,
)

from stonechat.errors import Unavailable
from stonechat.knowledge.index import BATCH, MAX_HITS, VECTOR, Hit, IndexPoint, chunk_id, point_id
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE, document_vector
from stonechat.knowledge.related import asked_vector

MAX_OPEN = 20
MAX_WAITING = 1000
"""Calls that may wait for the one thread; more are refused rather than queued."""
OPTIMIZE_AFTER = 20_000
"""Points written or deleted in a shard before its segments are tidied."""
_GENERATION = 1

T = TypeVar("T")


class EdgeIndex:
    """`KnowledgeIndex` over Qdrant Edge. One process owns the folder."""

    def __init__(self, root: Path, *, max_open: int = MAX_OPEN) -> None:
        self._root = root
        self._max_open = max_open
        self._shards: OrderedDict[UUID, EdgeShard] = OrderedDict()
        self._changes: dict[UUID, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="index")
        self._waiting = 0
        self._closed = False

    async def upsert(self, tenant_id: UUID, points: Sequence[IndexPoint]) -> None:
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            await self._run(lambda batch=batch: self._upsert(tenant_id, batch))  # type: ignore[misc]

    async def search(
        self, tenant_id: UUID, query: str, *, limit: int, languages: Sequence[str] = (DEFAULT_LANGUAGE,)
    ) -> list[Hit]:
        indices, values = asked_vector(query, languages)
        if not indices:
            return []
        return await self._run(lambda: self._search(tenant_id, SparseVector(indices, values), min(limit, MAX_HITS)))

    async def delete_document(self, tenant_id: UUID, document_id: str, *, keep_version: int | None = None) -> None:
        await self._run(lambda: self._delete(tenant_id, document_id, keep_version))

    async def drop_tenant(self, tenant_id: UUID) -> None:
        await self._run(lambda: self._drop(tenant_id))

    async def count(self, tenant_id: UUID, *, document_id: str | None = None) -> int:
        return await self._run(lambda: self._count(tenant_id, document_id))

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

    def _folder(self, tenant_id: UUID) -> Path:
        return self._root / tenant_id.hex / f"g{_GENERATION}"

    def _shard(self, tenant_id: UUID, *, create: bool) -> EdgeShard | None:
        """The tenant's shard, opened if need be; None if it does not exist and is not to be made."""
        if (shard := self._shards.get(tenant_id)) is not None:
            self._shards.move_to_end(tenant_id)
            return shard
        folder = self._folder(tenant_id)
        if (folder / "edge_config.json").exists():
            shard = self._load(folder)
        elif create:
            shard = self._create(folder)
        else:
            return None
        while len(self._shards) >= self._max_open:
            _, oldest = self._shards.popitem(last=False)
            oldest.flush()
            oldest.close()
        self._shards[tenant_id] = shard
        return shard

    @staticmethod
    def _load(folder: Path) -> EdgeShard:
        try:
            return EdgeShard.load(str(folder), _config())
        except Exception as error:
            if "WouldBlock" in str(error):
                raise Unavailable(
                    "The search index is in use by another process. Set QDRANT_URL to share an index between processes."
                ) from error
            raise

    @staticmethod
    def _create(folder: Path) -> EdgeShard:
        # The config file is written last: a folder without it is what a crash left of an earlier attempt.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        shard = EdgeShard.create(str(folder), _config())
        shard.update(UpdateOperation.create_field_index("document_id", PayloadSchemaType.Keyword))
        shard.flush()
        return shard

    def _upsert(self, tenant_id: UUID, points: Sequence[IndexPoint]) -> None:
        shard = self._shard(tenant_id, create=True)
        assert shard is not None  # noqa: S101  create=True
        shard.update(UpdateOperation.upsert_points([_point(tenant_id, point) for point in points]))
        self._changed(tenant_id, shard, len(points))

    def _search(self, tenant_id: UUID, vector: SparseVector, limit: int) -> list[Hit]:
        shard = self._shard(tenant_id, create=False)
        if shard is None:
            return []
        found = shard.query(QueryRequest(limit=limit, query=Query.Nearest(vector, using=VECTOR), with_payload=True))
        hits = [
            Hit(payload["document_id"], payload["chunk_id"], payload["version"], point.score)
            for point in found
            if (payload := point.payload)
        ]
        return sorted(hits, key=lambda hit: (-hit.score, hit.chunk_id))

    def _delete(self, tenant_id: UUID, document_id: str, keep_version: int | None) -> None:
        shard = self._shard(tenant_id, create=False)
        if shard is None:
            return
        doomed = _of_document(document_id, keep_version=keep_version)
        number = shard.count(CountRequest(filter=doomed))
        if number:
            shard.update(UpdateOperation.delete_points_by_filter(doomed))
            self._changed(tenant_id, shard, number)

    def _changed(self, tenant_id: UUID, shard: EdgeShard, number: int) -> None:
        changes = self._changes.get(tenant_id, 0) + number
        if changes >= OPTIMIZE_AFTER:
            shard.optimize()
            changes = 0
        self._changes[tenant_id] = changes

    def _drop(self, tenant_id: UUID) -> None:
        if (shard := self._shards.pop(tenant_id, None)) is not None:
            shard.close()
        self._changes.pop(tenant_id, None)
        shutil.rmtree(self._root / tenant_id.hex, ignore_errors=True)

    def _count(self, tenant_id: UUID, document_id: str | None) -> int:
        shard = self._shard(tenant_id, create=False)
        if shard is None:
            return 0
        return int(shard.count(CountRequest(filter=_of_document(document_id) if document_id is not None else None)))

    def _close_all(self) -> None:
        while self._shards:
            _, shard = self._shards.popitem()
            shard.flush()
            shard.close()


def _config() -> EdgeConfig:
    return EdgeConfig(sparse_vectors={VECTOR: EdgeSparseVectorParams(modifier=Modifier.Idf)}, max_search_threads=1)


def _point(tenant_id: UUID, point: IndexPoint) -> Point:
    where = {"version": point.version, "ordinal": point.ordinal}
    payload = {
        "document_id": point.document_id,
        "chunk_id": chunk_id(tenant_id, point.document_id, **where),
        "version": point.version,
    }
    vector = document_vector(point.text, point.language)
    return Point(point_id(tenant_id, point.document_id, **where), {VECTOR: vector}, payload)


def _of_document(document_id: str, *, keep_version: int | None = None) -> Filter:
    own = FieldCondition("document_id", match=MatchValue(document_id))
    if keep_version is None:
        return Filter(must=[own])
    return Filter(must=[own], must_not=[FieldCondition("version", match=MatchValue(keep_version))])

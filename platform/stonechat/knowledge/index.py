"""The one door to Qdrant: a tenant's passages as sparse and dense vectors.

Every method takes the tenant first, as a `Place` or a bare tenant id, and the tenant decides what is touched; no argument
can name another. Two engines stand behind the door: Qdrant Edge in this process (`index_edge.py`), and a server or
cluster (`index_server.py`). In the layout `per_tenant` a generation of a tenant has a collection of its own; in `shared`
the small tenants of one embedding model have one together, and each engine puts the tenant's filter on everything in one
function. BM25 vectors are made in `index_vectors.py` for both, and rankings fused in `fusion.py`, so both rank alike.
Nothing outside these files imports a Qdrant client. The index is derived: whoever searches checks each hit against
Postgres before using it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID, uuid5

from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.settings import Settings

VECTOR, DENSE = "text", "dense"
"""Names of the sparse vector, in every collection, and of the dense one, in those that have it."""
FILTERED = ("document_id", "source_id", "language", "tags")
"""What of a point's payload is indexed."""
MAX_HITS = 1000
MAX_HELD = 10_000
BATCH = 256
"""Points written in one call, so that a search never waits behind a whole book."""

Layout = Literal["per_tenant", "shared"]

_POINTS = UUID("5f0c3a52-94f1-5b0e-9d6b-3a4f1f0c8a11")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a generation of a tenant's passages is. A bare tenant id stands for its first: own collection, sparse only."""

    tenant_id: UUID
    generation: int = 1
    layout: Layout = "per_tenant"
    model: str | None = None
    """The embedding model's `<provider>/<model>`; None: sparse only."""
    dimensions: int | None = None
    """Of its vectors; given if and only if the model is."""

    @property
    def shared_name(self) -> str:
        """The shared collection: one for each embedding model, by its name and the length of its vectors."""
        if self.model is None:
            return "sparse"
        return f"{hashlib.sha256(self.model.encode()).hexdigest()[:16]}_{self.dimensions}"


At = Place | UUID


def place_of(at: At) -> Place:
    """The place that `at` stands for."""
    return at if isinstance(at, Place) else Place(at)


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """A passage to index. `text` is what is matched (title and headings included); it is not stored."""

    document_id: str
    chunk_id: str
    text: str
    language: str = DEFAULT_LANGUAGE
    source_id: str | None = None
    tags: tuple[str, ...] = ()
    vector: tuple[float, ...] | None = None
    """The text's embedding; dropped where the place has no dense vectors."""


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What a search is limited to: all that is given must hold; of the tags, any."""

    source_id: str | None = None
    tags: tuple[str, ...] = ()
    language: str | None = None
    sources: tuple[str, ...] = ()
    """Any of these."""

    def __bool__(self) -> bool:
        return bool(self.source_id or self.tags or self.language or self.sources)


EVERYTHING = Narrowing()


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found, best first; scores of different queries or tenants do not compare."""

    document_id: str
    chunk_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Held:
    """A passage that the index holds, whether or not Postgres vouches for it."""

    chunk_id: str
    document_id: str


class KnowledgeIndex(Protocol):
    """A tenant's searchable passages. Methods raise `Unavailable` when the engine cannot answer."""

    async def upsert(self, at: At, points: Sequence[IndexPoint]) -> str | None:
        """Write passages; the same passage written twice is one. A sentence if part of it must wait, such as vectors."""

    async def search(
        self,
        at: At,
        query: str,
        *,
        limit: int,
        languages: Sequence[str] = (DEFAULT_LANGUAGE,),
        only: Narrowing = EVERYTHING,
    ) -> list[Hit]:
        """The best passages by BM25, ties by chunk id. `languages` are those that the tenant's documents use.

        How rare a word is, is counted over the tenant's own passages, in the shared layout too.
        """

    async def nearest(self, at: At, vector: Sequence[float], *, limit: int, only: Narrowing = EVERYTHING) -> list[Hit]:
        """The passages nearest in meaning by cosine, ties by chunk id; empty where the place has no dense vectors."""

    async def delete_document(self, at: At, document_id: str) -> None:
        """Remove a document's passages."""

    async def delete_points(self, at: At, chunk_ids: Sequence[str]) -> None:
        """Remove single passages; those that are not there are no error."""

    async def label_document(self, at: At, document_id: str, *, source_id: str | None, tags: Sequence[str]) -> None:
        """Change what a document's passages can be filtered by."""

    async def drop(self, at: At) -> None:
        """Remove one generation of a tenant: its collection, or its passages in a shared one."""

    async def drop_tenant(self, tenant_id: UUID) -> None:
        """Remove everything of a tenant, in every generation and layout."""

    async def count(self, at: At, *, document_id: str | None = None) -> int:
        """How many passages are indexed, of the tenant or of one of its documents."""

    async def held(
        self, at: At, *, document_id: str | None = None, after: str | None = None, limit: int = MAX_HELD
    ) -> list[Held]:
        """What is stored, of the tenant or of one document, in the order of chunk ids: a page, behind the id `after`."""

    async def ready(self) -> None:
        """Return if the engine answers, else raise `Unavailable`."""

    async def close(self) -> None:
        """Write out what is pending and release files and connections."""


def open_index(settings: Settings) -> KnowledgeIndex:
    """The engine that `settings` choose: the server at `QDRANT_URL`, else Qdrant Edge in the data folder."""
    if settings.qdrant_url:
        from stonechat.knowledge.index_server import ServerIndex

        key = settings.qdrant_api_key
        return ServerIndex(settings.qdrant_url, api_key=key.get_secret_value() if key else None)
    from stonechat.knowledge.index_edge import EdgeIndex

    return EdgeIndex(settings.data_dir / "index")


def points_of(
    tenant_id: UUID,
    document_id: str,
    texts: Iterable[str],
    *,
    language: str,
    source_id: str | None = None,
    tags: Iterable[str] = (),
) -> list[IndexPoint]:
    """A document's passages as points, from what is to be matched of each.

    A passage's id comes from what is indexed of it and from nothing else, not from its place: what did not change
    keeps its id when a document is read again, wherever it moved to, and need not be written again. Of passages that
    are equal within a document, each has an id of its own.
    """
    seen: Counter[bytes] = Counter()
    points = []
    for text in texts:
        digest = hashlib.sha256(f"{language}\n{text}".encode("utf-8", "surrogatepass")).digest()
        key = uuid5(_POINTS, f"{tenant_id.hex}/{document_id}/{digest.hex()}/{seen[digest]}")
        seen[digest] += 1
        points.append(IndexPoint(document_id, f"chk_{key.hex}", text, language, source_id, tuple(tags)))
    return points


def point_id(chunk_id: str) -> UUID:
    """The id of a passage's point: the same as in Postgres, as engines want it."""
    return UUID(hex=chunk_id.removeprefix("chk_"))


def payload_of(place: Place, point: IndexPoint) -> dict[str, object]:
    """What is stored with a point: enough to vouch for it, and what searches are narrowed by. Never its text."""
    payload: dict[str, object] = {
        "document_id": point.document_id,
        "chunk_id": point.chunk_id,
        "language": point.language,
    }
    if point.source_id is not None:
        payload["source_id"] = point.source_id
    if point.tags:
        payload["tags"] = list(point.tags)
    if place.layout == "shared":
        payload["tenant_id"] = place.tenant_id.hex
    return payload

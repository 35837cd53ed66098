"""The one door to Qdrant: a tenant's passages as sparse vectors, in a collection of the tenant's own.

Every method takes the tenant first, and the tenant decides which collection is touched; no argument can name another.
Two engines stand behind the door: Qdrant Edge in this process (`index_edge.py`), and a server or cluster
(`index_server.py`). BM25 vectors are made in `index_vectors.py` for both, so both rank alike. Nothing outside these files imports a
Qdrant client. The index is derived: whoever searches checks each hit against Postgres before using it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID, uuid5

from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.settings import Settings

VECTOR = "text"
"""Name of the sparse vector in every collection."""
MAX_HITS = 1000
BATCH = 256
"""Points written in one call, so that a search never waits behind a whole book."""

_POINTS = UUID("5f0c3a52-94f1-5b0e-9d6b-3a4f1f0c8a11")


@dataclass(frozen=True, slots=True)
class IndexPoint:
    """A passage to index. `text` is what is matched (title and headings included); it is not stored."""

    document_id: str
    version: int
    ordinal: int
    text: str
    language: str = DEFAULT_LANGUAGE


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found, best first; scores of different queries or tenants do not compare."""

    document_id: str
    chunk_id: str
    version: int
    score: float


class KnowledgeIndex(Protocol):
    """A tenant's searchable passages. Methods raise `Unavailable` when the engine cannot answer."""

    async def upsert(self, tenant_id: UUID, points: Sequence[IndexPoint]) -> None:
        """Write passages; the same passage written twice is one."""

    async def search(
        self, tenant_id: UUID, query: str, *, limit: int, languages: Sequence[str] = (DEFAULT_LANGUAGE,)
    ) -> list[Hit]:
        """The best passages by BM25, ties by chunk id. `languages` are those that the tenant's documents use."""

    async def delete_document(self, tenant_id: UUID, document_id: str, *, keep_version: int | None = None) -> None:
        """Remove a document's passages, all or all but those of one version."""

    async def drop_tenant(self, tenant_id: UUID) -> None:
        """Remove everything of a tenant."""

    async def count(self, tenant_id: UUID, *, document_id: str | None = None) -> int:
        """How many passages are indexed, of the tenant or of one of its documents."""

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


def point_id(tenant_id: UUID, document_id: str, *, version: int, ordinal: int) -> UUID:
    """The same passage always has the same id, so writing it again changes nothing."""
    return uuid5(_POINTS, f"{tenant_id.hex}/{document_id}/{version}/{ordinal}")


def chunk_id(tenant_id: UUID, document_id: str, *, version: int, ordinal: int) -> str:
    """The id of a passage in Postgres and in citations, from the same facts as its point's."""
    return f"chk_{point_id(tenant_id, document_id, version=version, ordinal=ordinal).hex}"

"""The one door to Qdrant: a tenant's passages as sparse vectors, in a collection of the tenant's own.

Every method takes the tenant first, and the tenant decides which collection is touched; no argument can name another.
Two engines stand behind the door: Qdrant Edge in this process (`index_edge.py`), and a server or cluster
(`index_server.py`). BM25 vectors are made here for both, so both rank alike. Nothing outside these three files imports
a Qdrant client. The index is derived: whoever searches checks each hit against Postgres before using it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Protocol
from uuid import UUID, uuid5

from qdrant_edge import Bm25, Bm25Config, DisabledStemmer, SparseVector, TokenizerType

from stonechat.settings import Settings

VECTOR = "text"
"""Name of the sparse vector in every collection."""
MAX_HITS = 1000
MAX_QUERY_CHARACTERS = 4000
BATCH = 256
"""Points written in one call, so that a search never waits behind a whole book."""
DEFAULT_LANGUAGE = "en"

_POINTS = UUID("5f0c3a52-94f1-5b0e-9d6b-3a4f1f0c8a11")
_K1, _B, _AVERAGE_TOKENS = 1.5, 0.75, 100.0
_LANGUAGES = {
    "ar": "arabic", "az": "azerbaijani", "bn": "bengali", "ca": "catalan", "da": "danish", "de": "german",
    "el": "greek", "en": "english", "es": "spanish", "eu": "basque", "fi": "finnish", "fr": "french", "he": "hebrew",
    "hu": "hungarian", "id": "indonesian", "it": "italian", "kk": "kazakh", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sl": "slovene", "sv": "swedish",
    "tg": "tajik", "tr": "turkish",
}  # fmt: skip
_IN_PAIRS = frozenset({"zh", "ja", "ko"})
_RUN = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+")


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


@cache
def _bm25(language: str) -> Bm25:
    if language == "th":
        tokenizer, stemmer = TokenizerType.Multilingual, DisabledStemmer()
        return Bm25(Bm25Config(k=_K1, b=_B, avg_len=_AVERAGE_TOKENS * 2, tokenizer=tokenizer, stemmer=stemmer))
    if language in _IN_PAIRS:
        return Bm25(Bm25Config(k=_K1, b=_B, avg_len=_AVERAGE_TOKENS * 6, stemmer=DisabledStemmer()))
    return Bm25(
        Bm25Config(
            k=_K1, b=_B, avg_len=_AVERAGE_TOKENS, language=_LANGUAGES.get(language, "english"), ascii_folding=True
        )
    )


def in_pairs(text: str) -> str:
    """The text with its Chinese, Japanese and Korean as overlapping pairs of characters, spaces between them.

    A tokenizer with a dictionary cuts a short question otherwise than the sentence that answers it, and then finds
    nothing; pairs are cut alike everywhere, in texts of mixed languages, too.
    """
    return _RUN.sub(_pairs, text)


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    if len(characters) == 1:
        return f" {characters} "
    return f" {' '.join(map(''.join, pairwise(characters)))} "


def document_vector(text: str, language: str) -> SparseVector:
    """BM25 weights of a passage's terms."""
    return _bm25(language).embed_document(in_pairs(text))


def query_vector(text: str, languages: Iterable[str]) -> tuple[list[int], list[float]]:
    """Each term of the query once, stemmed as each of the languages would; empty for a query of stop words only."""
    text = text[:MAX_QUERY_CHARACTERS].encode("utf-8", errors="replace").decode()  # lone surrogates do not reach Rust
    text = in_pairs(text)
    terms: dict[int, float] = {}
    for language in sorted(set(languages)) or [DEFAULT_LANGUAGE]:
        terms.update((index, 1.0) for index in _bm25(language).embed_query(text).indices)
    indices = sorted(terms)
    return indices, [terms[index] for index in indices]


@lru_cache(maxsize=50_000)
def term_of(word: str, language: str = DEFAULT_LANGUAGE) -> int | None:
    """The stem of one word as a number, equal for words that the index treats as equal; None for a stop word."""
    indices = _bm25(language).embed_query(word).indices
    return indices[0] if indices else None

"""A second look at what was found, by a service that reads question and passages together.

The common shape of Cohere, Jina, Voyage, vLLM and text-embeddings hosts: `{"query", "documents", "model", "top_n"}` in,
`{"results": [{"index", "relevance_score"}]}` out. It may be slow or down: then the order stays as it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stonechat.errors import UpstreamFailed
from stonechat.outbound.client import OutboundClient

SECONDS = 2.0
MAX_DOCUMENTS = 50
MAX_CHARACTERS = 4000
MAX_ANSWER_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Reranker:
    """Where it is, and what it wants. `key` goes out as a bearer token, and nowhere else."""

    url: str
    model: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return f"Reranker({self.url!r})"


async def rerank(
    outbound: OutboundClient, reranker: Reranker, *, query: str, documents: Sequence[str], allow_http: bool = False
) -> list[tuple[int, float]]:
    """Each document's index with its relevance, best first; those that the service left out are left out.

    Raises `StonechatError` for anything that went wrong; the sentence never holds the key.
    """
    documents = [document[:MAX_CHARACTERS] for document in documents[:MAX_DOCUMENTS]]
    body: dict[str, Any] = {"query": query[:MAX_CHARACTERS], "documents": documents, "top_n": len(documents)}
    if reranker.model:
        body["model"] = reranker.model
    answer = await outbound.request(
        "POST",
        reranker.url,
        headers={"Authorization": f"Bearer {reranker.key}"} if reranker.key else {},
        json=body,
        max_bytes=MAX_ANSWER_BYTES,
        timeout=SECONDS,
        allow_http=allow_http,
    )
    if answer.status in (401, 403):
        raise UpstreamFailed("The reranker refused the key.")
    if answer.status != 200:
        raise UpstreamFailed(f"The reranker answered with error {answer.status}.")
    return _results(answer.content, count=len(documents))


def _results(content: bytes, *, count: int) -> list[tuple[int, float]]:
    try:
        told = json.loads(content)
        results = told["results"] if isinstance(told, dict) else told
        scores: dict[int, float] = {}
        for each in results:
            index, score = each["index"], each.get("relevance_score", each.get("score"))
            if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < count:
                raise ValueError("an index that nobody asked about")
            score = float(score)
            if not math.isfinite(score):
                raise ValueError("not a number")
            scores.setdefault(index, score)
        if not scores:
            raise ValueError("no results")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UpstreamFailed("The reranker answered with something that is no ranking.") from error
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))

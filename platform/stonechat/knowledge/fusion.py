"""One ranking out of several. In our own code, so that both engines rank alike, and ties always fall the same way."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, assert_never

from stonechat.knowledge.index import Hit

Fusion = Literal["rrf", "dbsf"]
RRF_K = 60


def fuse(rankings: Sequence[Sequence[Hit]], *, by: Fusion = "rrf") -> list[tuple[Hit, float]]:
    """Every hit of the rankings once, best first, with its fused score; ties by chunk id.

    `rrf` adds up reciprocal ranks; `dbsf` adds up scores that were brought between 0 and 1 by each ranking's mean and
    spread. A ranking that is empty says nothing.
    """
    match by:
        case "rrf":
            scored = [_reciprocal(ranking) for ranking in rankings]
        case "dbsf":
            scored = [_normalised(ranking) for ranking in rankings]
        case _:
            assert_never(by)
    hits: dict[str, Hit] = {}
    totals: dict[str, float] = {}
    for ranking, scores in zip(rankings, scored, strict=True):
        for hit, score in zip(ranking, scores, strict=True):
            hits.setdefault(hit.chunk_id, hit)
            totals[hit.chunk_id] = totals.get(hit.chunk_id, 0.0) + score
    order = sorted(totals, key=lambda key: (-totals[key], key))
    return [(hits[key], totals[key]) for key in order]


def _reciprocal(ranking: Sequence[Hit]) -> list[float]:
    return [1.0 / (RRF_K + place) for place in range(1, len(ranking) + 1)]


def _normalised(ranking: Sequence[Hit]) -> list[float]:
    """Scores as parts of mean ± 3 standard deviations, cut to 0 … 1; half where all are equal."""
    if not ranking:
        return []
    scores = [hit.score for hit in ranking]
    mean = sum(scores) / len(scores)
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    if spread == 0.0:
        return [0.5] * len(scores)
    return [min(1.0, max(0.0, (score - mean + 3 * spread) / (6 * spread))) for score in scores]

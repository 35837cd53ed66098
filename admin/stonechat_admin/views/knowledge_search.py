"""`/console/knowledge/search`: what a question finds, and what would be quoted of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from stonechat.knowledge.excerpt import Excerpt, best_excerpt
from stonechat.knowledge.highlight import matched_words
from stonechat.knowledge.search import Passage, search_within
from stonechat_admin.auth import Viewer

router = APIRouter(prefix="/console/knowledge/search")

MAX_QUESTION = 2000
PASSAGES = 8


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text: whether the question says this word, and whether an answer would quote it."""

    text: str
    matched: bool
    quoted: bool


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage as the page shows it. `share` is its score in hundredths of the best one's."""

    passage: Passage
    share: int
    pieces: tuple[Piece, ...]


@router.get("")
async def try_search(console: Viewer, q: Annotated[str, Query(max_length=MAX_QUESTION)] = "") -> Response:
    question = " ".join(q.replace("\x00", " ").split())
    passages = await search_within(
        console.session, console.services.knowledge, console.tenant_id, question, limit=PASSAGES
    )
    # Both look at every word of every passage: not on the loop that serves everybody.
    excerpt, found = await asyncio.to_thread(_weigh, question, passages)
    values: dict[str, Any] = {"q": question, "excerpt": excerpt, "found": found, "most": MAX_QUESTION}
    if console.is_partial:
        return console.fragment("knowledge/_search_results.html", **values)
    return console.page("knowledge/search.html", **values)


def _weigh(question: str, passages: list[Passage]) -> tuple[Excerpt | None, list[FoundPassage]]:
    excerpt = best_excerpt(question, passages) if question else None
    best = max((passage.score for passage in passages), default=0.0)
    found = [
        FoundPassage(passage, round(100 * passage.score / best) if best > 0 else 0, _pieces(question, passage, excerpt))
        for passage in passages
    ]
    return excerpt, found


def _pieces(question: str, passage: Passage, excerpt: Excerpt | None) -> tuple[Piece, ...]:
    words = matched_words(passage.text, question, language=passage.language)
    quotes = [
        (quote.start, quote.end)
        for quote in (excerpt.quotes if excerpt else ())
        if quote.passage.chunk_id == passage.chunk_id
    ]
    edges = sorted({0, len(passage.text), *(edge for span in (*words, *quotes) for edge in span)})
    return tuple(
        Piece(passage.text[start:end], _within(start, words), _within(start, quotes)) for start, end in pairwise(edges)
    )


def _within(at: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= at < end for start, end in spans)

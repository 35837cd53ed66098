"""`/console/knowledge/search`: what a question finds, and what would be quoted of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from stonechat.accounts.suspension import FOR_ITS_PEOPLE
from stonechat.errors import TenantSuspended
from stonechat.knowledge.excerpt import best_excerpt
from stonechat.knowledge.highlight import matched_words
from stonechat.knowledge.search import Passage, search_within
from stonechat_admin.auth import Viewer
from stonechat_admin.passages import Piece, above, pieces_of

router = APIRouter(prefix="/console/knowledge/search")

MAX_QUESTION = 2000
PASSAGES = 8


@dataclass(frozen=True, slots=True)
class QuotedPassage:
    """What an answer would quote, and from where."""

    passage: Passage
    headings: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class FoundPassage:
    """A passage as the page shows it. `share` is its score in hundredths of the best one's."""

    passage: Passage
    share: int
    headings: tuple[str, ...]
    pieces: tuple[Piece, ...]
    reranked: bool
    """Whether a reranker moved any of them."""


@router.get("")
async def try_search(console: Viewer, q: Annotated[str, Query(max_length=MAX_QUESTION)] = "") -> Response:
    question = " ".join(q.replace("\x00", " ").split())
    if question and console.is_suspended:
        raise TenantSuspended(FOR_ITS_PEOPLE.format(name=console.tenant_name))
    passages = await search_within(
        console.session, console.services.knowledge, console.tenant_id, question, limit=PASSAGES
    )
    # Both look at every word of every passage: not on the loop that serves everybody.
    quotes, found = await asyncio.to_thread(_weigh, question, passages)
    values: dict[str, Any] = {
        "q": question,
        "quotes": quotes,
        "found": found,
        "most": MAX_QUESTION,
        "notes": passages.notes,
        "below_floor": passages.below_floor,
        "confidence": passages.confidence or 0.0,
    }
    if console.is_partial:
        return console.fragment("knowledge/_search_results.html", **values)
    return console.page("knowledge/search.html", **values)


def _weigh(question: str, passages: list[Passage]) -> tuple[list[QuotedPassage], list[FoundPassage]]:
    excerpt = best_excerpt(question, passages) if question else None
    quotes = excerpt.quotes if excerpt else ()
    best = max((passage.score for passage in passages), default=0.0)
    reranked = [passage.fused_rank for passage in passages] != sorted(passage.fused_rank or 0 for passage in passages)
    found = [
        FoundPassage(
            passage,
            round(100 * passage.score / best) if best > 0 else 0,
            above(passage.headings, title=passage.title),
            pieces_of(
                passage.text,
                words=matched_words(passage.text, question, language=passage.language),
                quotes=[(quote.start, quote.end) for quote in quotes if quote.passage is passage],
            ),
            reranked,
        )
        for passage in passages
    ]
    quoted = [
        QuotedPassage(quote.passage, above(quote.passage.headings, title=quote.passage.title), pieces_of(quote.text))
        for quote in quotes
    ]
    return quoted, found

"""Answering by quotation: the one or two stretches of the passages that answer a question, or none.

Scores of BM25 say which passages are likeliest, not whether any is good enough. That is decided here from the question's
own words: how much of it, weighted by how telling each word is, stands in a stretch of text, its heading and its
surroundings; whether the stretch has what was asked for (a price, a time, a number); and whether a word that the
question turns on is missing everywhere, as in “Do you ship to the moon?”. Pure: no I/O, same input, same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stonechat.knowledge.excerpt_fit import Fit
from stonechat.knowledge.excerpt_units import Unit, units_of
from stonechat.knowledge.search import Passage

MAX_QUOTE = 600
"""Characters of all quotes together."""
MAX_PASSAGES = 10
MAX_UNITS = 600
MAX_QUESTION = 2000
THRESHOLD = 0.45
"""Least score of an answer; where as many answers are lost as wrong ones are kept back."""
_LONE, _SHARED = 590, 300
"""Characters of a quote that stands alone, and of each of two."""
_SECOND = 0.8
"""Share of the best score that earns a stretch of another section the second place."""


@dataclass(frozen=True, slots=True)
class Quote:
    """A stretch of a passage: `passage.text[start:end] == text`."""

    passage: Passage
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Excerpt:
    """One or two quotes, best first, and how well the best fits the question (0 to about 1)."""

    quotes: tuple[Quote, ...]
    score: float


def best_excerpt(query: str, passages: Sequence[Passage]) -> Excerpt | None:
    """The stretch, or two, that best answer the question, or None when nothing answers it well enough."""
    passages = passages[:MAX_PASSAGES]
    units = [unit for number, passage in enumerate(passages) for unit in units_of(passage, number)][:MAX_UNITS]
    if not units:
        return None
    best: tuple[float, list[Unit]] | None = None
    for question in _questions(query):
        ranked = _ranked(question, passages, units)
        if ranked and (best is None or ranked[0].score > best[0]):
            best = ranked[0].score, ranked
    if best is None or best[0] < THRESHOLD:
        return None
    return Excerpt(tuple(_quotes(passages, best[1])), best[0])


def _questions(query: str) -> list[str]:
    """The whole message, and its questions alone when they follow an account of what happened."""
    query = query.strip()[:MAX_QUESTION]
    sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", query) if part.strip()]
    asked = [sentence for sentence in sentences if sentence.endswith("?")]
    if len(sentences) > 1 and asked and len(asked) < len(sentences):
        return [query, " ".join(asked)]
    return [query]


def _ranked(question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> list[Unit]:
    """Copies of the units that can be quoted, scored, best first; none for a question without a telling word."""
    fit = Fit(question, passages=passages, units=units)
    if not fit.tells:
        return []
    named = {(unit.passage, unit.lead) for unit in units if unit.kind == "table"}
    scored = [
        replace(unit, score=fit.score(n))
        for n, unit in enumerate(units)
        if unit.kind != "heading" and not (unit.kind == "table" and (unit.passage, unit.start) in named)
    ]
    return sorted(scored, key=lambda unit: -unit.score)


def _quotes(passages: Sequence[Passage], ranked: list[Unit]) -> Iterator[Quote]:
    first = ranked[0]
    second = next(
        (
            unit
            for unit in ranked[1:40]
            if unit.score >= max(THRESHOLD, _SECOND * first.score)
            and (unit.passage, unit.section) != (first.passage, first.section)
        ),
        None,
    )
    yield _quote(passages, ranked, first, room=_SHARED if second else _LONE)
    if second is not None:
        yield _quote(passages, ranked, second, room=_SHARED)


def _quote(passages: Sequence[Passage], units: Sequence[Unit], unit: Unit, *, room: int) -> Quote:
    """The unit with as many of its neighbours in the section as fit, better ones first; cut if it alone is too long."""
    passage = passages[unit.passage]
    start, end = unit.start, unit.end
    if end - start > room:
        end = _cut(passage.text, start, start + room)
    if unit.lead is not None and end - unit.lead <= room:
        start = unit.lead
    section = [other for other in units if (other.passage, other.section) == (unit.passage, unit.section)]
    section.sort(key=lambda other: other.start)
    while True:
        before = next((other for other in reversed(section) if other.end <= start), None)
        after = next((other for other in section if other.start >= end), None)
        fitting = [
            other for other in (after, before) if other and max(end, other.end) - min(start, other.start) <= room
        ]
        if not fitting:
            return Quote(passage, passage.text[start:end], start, end)
        chosen = max(fitting, key=lambda other: other.score)
        start, end = min(start, chosen.start), max(end, chosen.end)


def _cut(text: str, start: int, limit: int) -> int:
    """An end at most at `limit`, between words if there is a space at all."""
    space = text.rfind(" ", start, limit)
    return space if space > start else limit

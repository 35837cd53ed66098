"""Answering by quotation: the one or two stretches of the passages that answer a question, or none.

Scores of BM25 say which passages are likeliest, not whether any is good enough. That is decided here from the question's
own words: how much of it, weighted by how telling each word is, stands in a stretch of text, its heading and its
surroundings; whether the stretch has what was asked for (a price, a time, a number); and whether a word that the
question turns on is missing everywhere, as in “Do you ship to the moon?”. Pure: no I/O, same input, same answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from stonechat.knowledge.excerpt_units import Unit, stems_of, units_of
from stonechat.knowledge.index import DEFAULT_LANGUAGE, term_of
from stonechat.knowledge.lexicon import ASKS, GROUPS, LIGHT, reworded, words_of
from stonechat.knowledge.search import Passage

MAX_QUOTE = 600
"""Characters of all quotes together."""
MAX_PASSAGES = 10
MAX_UNITS = 600
MAX_TERMS = 24
THRESHOLD = 0.48
"""Least score of an answer; found on the tuning half of the test questions."""
_LONE, _SHARED = 420, 300
_SECOND = 0.9

_LIGHT_WEIGHT, _NAME_WEIGHT = 0.2, 1.4
_RARE = 0.5
_SAME, _ALIKE = 0.85, 0.8
_ABOVE, _BESIDE, _TITLE, _WITHIN = 0.9, 0.75, 0.6, 0.35
_NAME_MISSING = 0.2
_INSERTED = 0.5
_ASKED_BY_HEADING = 0.1
_DEFINES = 0.12


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


@dataclass(frozen=True, slots=True)
class _Term:
    """A word of the question."""

    word: str
    stem: int
    same: frozenset[int]
    """Stems of words that mean the same."""
    weight: float
    name: bool
    """A name or a number, for which nothing else can stand."""


def best_excerpt(query: str, passages: Sequence[Passage]) -> Excerpt | None:
    """The stretch, or two, that best answer the question, or None when nothing answers it well enough."""
    passages = passages[:MAX_PASSAGES]
    units = [unit for number, passage in enumerate(passages) for unit in units_of(passage, number)][:MAX_UNITS]
    if not units:
        return None
    best: tuple[float, list[Unit]] | None = None
    for question in _questions(query):
        scored = _score(question, passages, units)
        if scored is not None and (best is None or scored[0] > best[0]):
            best = scored
    if best is None or best[0] < THRESHOLD:
        return None
    return Excerpt(tuple(_quotes(passages, units, best[1], best[0])), best[0])


def _questions(query: str) -> list[str]:
    """The whole message, and its questions alone when they follow an account of what happened."""
    query = query.strip()[:2000]
    sentences = [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", query) if part.strip()]
    asked = [sentence for sentence in sentences if sentence.endswith("?")]
    if len(sentences) > 1 and asked and len(asked) < len(sentences):
        return [query, " ".join(asked)]
    return [query]


# Reading the question


_DEFINITION = re.compile(
    r"\s*(?:what(?:'s| is| are)|what does)\s+(?:an? |the )?([\w\s-]{2,40}?)(?:\s+(?:mean|stand for|do))?\s*\??\s*$",
    re.IGNORECASE,
)


def _subject(unit: Unit) -> str:
    """What a table's row or a defining sentence is about: the words before its first bar, colon or “is”."""
    return re.split(r" \| |: | is | are | means | shall mean ", unit.text.lstrip("- "), maxsplit=1)[0]


def _terms(question: str, passages: Sequence[Passage], units: Sequence[Unit], languages: Sequence[str]) -> list[_Term]:
    held = _counts(passages, units)
    original = {word: position for position, word in reversed(list(enumerate(words_of(question))))}
    shouting = question.isupper()
    terms: dict[int, _Term] = {}
    for word in words_of(reworded(question)):
        lower = word.lower()
        stems = [term_of(lower, language) for language in languages]
        stem = stems[0]
        if stem is None or None in stems or stem in terms:
            continue  # a stop word, or said before
        light = stem in _light()
        named = (
            not shouting
            and not light
            and (
                any(character.isdigit() or character.isupper() for character in word[1:])
                or (original.get(word, 0) > 0 and word[:1].isupper())
            )
        )
        same = _same(lower)
        if not same.isdisjoint(terms):
            continue  # said before in another word
        common = max((held.get(one, 0) for one in {stem} | same), default=0) / len(units)
        rarity = log(1 + 1 / (common + 0.02)) / log(51)
        weight = (_LIGHT_WEIGHT if light else _NAME_WEIGHT if named and not common else 1.0) * (
            1 - _RARE + _RARE * rarity
        )
        if word not in original:
            weight *= _INSERTED
        terms[stem] = _Term(lower, stem, same, weight, named)
        if len(terms) >= MAX_TERMS:
            break
    return list(terms.values())


def _counts(passages: Sequence[Passage], units: Sequence[Unit]) -> dict[int, int]:
    """How many units each stem is in, or stands over as heading or title."""
    titles = [stems_of(passage.title, passage.language) for passage in passages]
    held: dict[int, int] = {}
    for unit in units:
        for stem in unit.stems | unit.above | titles[unit.passage]:
            held[stem] = held.get(stem, 0) + 1
    return held


@lru_cache(maxsize=4096)
def _same(word: str) -> frozenset[int]:
    """Stems of the words that share a group with this one."""
    stem = term_of(word)
    stems: set[int] = set()
    for group in _groups():
        if stem in group:
            stems |= group
    return frozenset(stems - {stem})


@lru_cache(maxsize=1)
def _light() -> frozenset[int]:
    return frozenset(stem for word in LIGHT if (stem := term_of(word)) is not None)


@lru_cache(maxsize=1)
def _groups() -> tuple[frozenset[int], ...]:
    return tuple(frozenset(stem for word in group if (stem := term_of(word)) is not None) for group in GROUPS)


# Judging the text


def _score(question: str, passages: Sequence[Passage], units: list[Unit]) -> tuple[float, list[Unit]] | None:
    """The best unit's score and all units, best first; None for a question without a telling word."""
    languages = tuple(dict.fromkeys(passage.language for passage in passages)) or (DEFAULT_LANGUAGE,)
    terms = _terms(question, passages, units, languages)
    if all(term.stem in _light() for term in terms):
        return None
    total = sum(term.weight for term in terms)
    wanted = [(answer, worth) for asks, answer, worth in ASKS if asks.search(question)]
    within = [
        frozenset().union(*(unit.stems for unit in units if unit.passage == number)) for number in range(len(passages))
    ]
    titles = [stems_of(passage.title, passage.language) for passage in passages]
    alike = {term.stem: _alike(term, units) for term in terms}
    lost = sum(
        term.weight
        for term in terms
        if term.name and not any(_has(term, stems | titles[n], alike) for n, stems in enumerate(within))
    )
    asked = frozenset().union(*({term.stem, *term.same, *alike[term.stem]} for term in terms))
    about = _DEFINITION.match(question)
    defined = stems_of(about.group(1), languages[0]) if about else None
    ranked: list[tuple[float, int, Unit]] = []
    for number, unit in enumerate(units):
        if unit.kind == "heading":
            continue
        beside = _beside(units, number)
        score = 0.0
        for term in terms:
            near = max(
                _has(term, unit.stems, alike),
                _ABOVE * _has(term, unit.above, alike),
                _BESIDE * _has(term, beside, alike),
                _TITLE * _has(term, titles[unit.passage], alike),
                _WITHIN * _has(term, within[unit.passage], alike),
            )
            score += term.weight * near
        score /= total
        score -= _NAME_MISSING * min(1.0, lost)
        around = " ".join(other.text for other in _window(units, number))
        for answer, worth in wanted:
            if answer.search(unit.text):
                score += worth * 0.5
            elif not answer.search(around):
                score -= worth
        score -= 0.012 * unit.passage
        if unit.heading and unit.heading <= asked:
            score += _ASKED_BY_HEADING
        if defined and defined == stems_of(_subject(unit), passages[unit.passage].language):
            score += _DEFINES
        ranked.append((score, -number, unit))
    if not ranked:
        return None
    ranked.sort(key=lambda entry: (-entry[0], -entry[1]))
    for score, _, unit in ranked:
        unit.score = score
    return ranked[0][0], [unit for _, _, unit in ranked]


def _has(term: _Term, stems: frozenset[int], alike: dict[int, frozenset[int]]) -> float:
    """1 for the word itself, less for one that means the same or is spelt almost the same, 0 for none."""
    if term.stem in stems:
        return 1.0
    if not term.same.isdisjoint(stems):
        return _SAME
    return _ALIKE if not alike[term.stem].isdisjoint(stems) else 0.0


def _alike(term: _Term, units: Sequence[Unit]) -> frozenset[int]:
    """Stems of the text's words that differ from a word it does not hold by a slip of the pen."""
    if len(term.word) < 5 or any(term.stem in unit.stems or term.stem in unit.above for unit in units):
        return frozenset()
    found: set[int] = set()
    for word in {word for unit in units for word in unit.words}:
        if word[0] == term.word[0] and (_form(word, term.word) or (len(word) >= 4 and _slip(word, term.word))):
            stem = term_of(word)
            if stem is not None:
                found.add(stem)
    return frozenset(found)


def _form(one: str, other: str) -> bool:
    """Whether one is the other with an ending that the stemmer missed: buses and bus, program and programme."""
    short, long = sorted((one, other), key=len)
    return long.startswith(short) and (
        long[len(short) :] in ("s", "es") or (len(short) >= 6 and len(long) - len(short) <= 3)
    )


def _slip(one: str, other: str) -> bool:
    """Whether one letter was added, dropped, changed or swapped (two in words of nine letters)."""
    allowed = 2 if min(len(one), len(other)) >= 9 else 1
    if abs(len(one) - len(other)) > allowed:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        older, before, row = before, row, [i]
        for j, b in enumerate(other, start=1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                best = min(best, older[j - 2] + 1)
            row.append(best)
    return row[-1] <= allowed


def _beside(units: Sequence[Unit], number: int) -> frozenset[int]:
    """Stems of the lines next to a unit in its section, and of the line that introduces it."""
    stems: set[int] = set()
    for other in _window(units, number):
        stems |= other.stems
    return frozenset(stems)


def _window(units: Sequence[Unit], number: int) -> Iterator[Unit]:
    unit = units[number]
    if unit.lead is not None:
        yield next((other for other in units if other.passage == unit.passage and other.start == unit.lead), unit)
    for step in (-1, 0, 1):
        place = number + step
        if 0 <= place < len(units):
            other = units[place]
            row = "table" in (unit.kind, other.kind)  # a row answers for itself
            if other is unit or (
                not row and other.passage == unit.passage and other.section == unit.section and other.kind != "heading"
            ):
                yield other


# Choosing what to quote


def _quotes(passages: Sequence[Passage], units: Sequence[Unit], ranked: list[Unit], score: float) -> Iterator[Quote]:
    first = ranked[0]
    second = next(
        (
            unit
            for unit in ranked[1:40]
            if unit.score >= max(THRESHOLD, _SECOND * score)
            and (unit.passage, unit.section) != (first.passage, first.section)
        ),
        None,
    )
    start, end = _grow(passages, units, first, _SHARED if second else _LONE)
    yield Quote(passages[first.passage], passages[first.passage].text[start:end], start, end)
    if second is not None:
        room = min(_SHARED, MAX_QUOTE - (end - start))
        begin, stop = _grow(passages, units, second, room)
        yield Quote(passages[second.passage], passages[second.passage].text[begin:stop], begin, stop)


def _grow(passages: Sequence[Passage], units: Sequence[Unit], unit: Unit, room: int) -> tuple[int, int]:
    """The unit with as many of its neighbours in the section as fit, better ones first; cut if it alone is too long."""
    text = passages[unit.passage].text
    start, end = unit.start, unit.end
    if end - start > room:
        return start, _cut(text, start, start + room)
    if unit.lead is not None and end - unit.lead <= room:
        start = unit.lead
    own = [other for other in units if (other.passage, other.section) == (unit.passage, unit.section)]
    while True:
        before = next((other for other in reversed(own) if other.end <= start and other.kind != "heading"), None)
        after = next((other for other in own if other.start >= end and other.kind != "heading"), None)
        fitting = [
            other
            for other in (after, before)
            if other is not None and max(end, other.end) - min(start, other.start) <= room
        ]
        if not fitting:
            return start, end
        chosen = max(fitting, key=lambda other: other.score)
        start, end = min(start, chosen.start), max(end, chosen.end)


def _cut(text: str, start: int, limit: int) -> int:
    """An end at most at `limit`, between words if there is a space at all."""
    space = text.rfind(" ", start, limit)
    return space if space > start else limit

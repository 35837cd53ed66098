"""The words of a question: how telling each is, and what in a text counts as saying it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

from stonechat.knowledge.excerpt_units import Unit, stems_of
from stonechat.knowledge.index_vectors import term_of
from stonechat.knowledge.lexicon import LIGHT, reworded
from stonechat.knowledge.related import related
from stonechat.knowledge.search import Passage
from stonechat.knowledge.words import words_of

MAX_TERMS = 24
_LIGHT_WEIGHT, _NAME_WEIGHT = 0.12, 1.4
_INSERTED = 0.5
"""For a word that only our rewording put into the question."""
_RARE = 0.5
"""The part of a word's weight that depends on how rarely the text says it."""
_TOPIC = 0.4
"""For a word of a title: it tells which document, not which sentence."""
_MEASURED = re.compile(
    r"(?:^|\b(?:of|for|am|are|i'm|is|was|have|has|weighs|with|than|under|over|about|around|after|every|only|in|at|by) )"
    r"(\d[\d.,]*)(?= ?[a-z%€$£]|\W*$)",
    re.IGNORECASE,
)
"""A number that says how much the asker has of something (“a group of 15”), not which one is meant (“code 7”)."""
_SAME, _ALIKE, _NEAR = 0.75, 0.8, 0.5


@dataclass(frozen=True, slots=True)
class Term:
    """A word of the question."""

    word: str
    stem: int
    same: frozenset[int]
    """Stems of words that mean the same."""
    near: frozenset[int]
    """Stems of words that mean something near, wider or narrower."""
    alike: frozenset[int]
    """Stems of the text's words that differ by a slip of the pen, if the text does not hold the word itself."""
    weight: float
    name: bool
    """A name or a number, for which nothing else can stand."""
    light: bool
    """Says little: do, get, time, customer."""

    def in_(self, stems: frozenset[int], *, near: bool = True) -> float:
        """1 for the word itself, less for one that means the same or is spelt almost so, or means something near."""
        if self.stem in stems:
            return 1.0
        if not self.same.isdisjoint(stems):
            return _SAME
        if not self.alike.isdisjoint(stems):
            return _ALIKE
        return 0.0 if not near or self.near.isdisjoint(stems) else _NEAR


def terms_of(
    question: str, *, passages: Sequence[Passage], units: Sequence[Unit], languages: Sequence[str]
) -> list[Term]:
    """The question's words, stop words and repetitions left out. A word is stopped if any of the languages stops it."""
    held = _counts(passages, units)
    topics = frozenset[int]().union(*(stems_of(passage.title, passage.language) for passage in passages))
    original = {word: position for position, word in reversed(list(enumerate(words_of(question))))}
    counted = {found.group(1).lower() for found in _MEASURED.finditer(question)}
    shouting = question.isupper()
    terms: dict[int, Term] = {}
    for word in words_of(reworded(question)):
        lower = word.lower()
        stems = [term_of(lower, language) for language in languages]
        stem = stems[0]
        if stem is None or None in stems or stem in terms:
            continue
        inserted = word not in original
        light = (stem in _light() and not inserted) or lower in counted
        name = not shouting and not light and _is_name(word, first=original.get(word, 0) == 0)
        same, near = (frozenset[int](), frozenset[int]()) if name else related(lower)
        if name and not same and not any(lower in unit.words for unit in units):
            stem = -len(terms) - 1  # only the name itself will do, not what happens to share its stem
        if not same.isdisjoint(terms):
            continue  # said before in another word
        common = max((held.get(one, 0) for one in {stem} | same), default=0) / len(units)
        rarity = log(1 + 1 / (common + 0.02)) / log(51)
        weight = (_LIGHT_WEIGHT if light else _NAME_WEIGHT if name and not common else 1.0) * (
            1 - _RARE + _RARE * rarity
        )
        if inserted:
            weight *= _INSERTED
        if stem in topics:
            weight *= _TOPIC
        terms[stem] = Term(lower, stem, same, near, _alike(lower, stem, units), weight, name, light)
        if len(terms) >= MAX_TERMS:
            break
    return list(terms.values())


def _is_name(word: str, *, first: bool) -> bool:
    return any(character.isdigit() for character in word) or any(
        character.isupper() for character in (word[1:] if first else word)
    )


def _counts(passages: Sequence[Passage], units: Sequence[Unit]) -> dict[int, int]:
    """How many units each stem is in, or stands over as heading or title."""
    titles = [stems_of(passage.title, passage.language) for passage in passages]
    held: dict[int, int] = {}
    for unit in units:
        for stem in unit.stems | unit.above | titles[unit.passage]:
            held[stem] = held.get(stem, 0) + 1
    return held


@lru_cache(maxsize=1)
def _light() -> frozenset[int]:
    return frozenset(stem for word in LIGHT if (stem := term_of(word)) is not None)


def _alike(word: str, stem: int, units: Sequence[Unit]) -> frozenset[int]:
    if len(word) < 5 or any(stem in unit.stems or stem in unit.above for unit in units):
        return frozenset()
    found: set[int] = set()
    for other in {other for unit in units for other in unit.words}:
        if other[0] == word[0] and (
            _form(other, word) or (len(other) >= 4 and (_slip(other, word) or _slip(other.removesuffix("s"), word)))
        ):
            known = term_of(other)
            if known is not None:
                found.add(known)
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

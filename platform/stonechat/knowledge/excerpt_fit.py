"""How well a stretch of text answers a question, as a number from 0 to about 1."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stonechat.knowledge.excerpt_terms import Term, terms_of
from stonechat.knowledge.excerpt_units import Unit, stems_of
from stonechat.knowledge.index import DEFAULT_LANGUAGE
from stonechat.knowledge.lexicon import ASKS
from stonechat.knowledge.search import Passage

_ABOVE, _BESIDE, _TITLE, _WITHIN = 0.9, 0.75, 0.6, 0.35
"""What a word counts when it stands not in the stretch but over it, next to it, in the title, or elsewhere near."""
_NAME_MISSING = 0.2
_ASKED_BY_HEADING = 0.1
_DEFINES = 0.12
_LATER = 0.012
_DEFINITION = re.compile(
    r"\s*(?:what(?:'s| is| are)|what does)\s+(?:an? |the )?([\w\s-]{2,40}?)(?:\s+(?:mean|stand for|do))?\s*\??\s*$",
    re.IGNORECASE,
)


class Fit:
    """One question against all that was found for it."""

    def __init__(self, question: str, *, passages: Sequence[Passage], units: Sequence[Unit]) -> None:
        languages = tuple(dict.fromkeys(passage.language for passage in passages)) or (DEFAULT_LANGUAGE,)
        self._terms = terms_of(question, passages=passages, units=units, languages=languages)
        self._total = sum(term.weight for term in self._terms)
        self._languages = [passage.language for passage in passages]
        self._titles = [stems_of(passage.title, passage.language) for passage in passages]
        self._within = [
            frozenset[int]().union(*(unit.stems for unit in units if unit.passage == number))
            for number in range(len(passages))
        ]
        self._units = units
        self._wanted = [(answer, worth) for asks, answer, worth in ASKS if asks.search(question)]
        self._asked = frozenset[int]().union(*({term.stem, *term.same, *term.alike} for term in self._terms))
        about = _DEFINITION.match(question)
        self._defined = stems_of(about.group(1), languages[0]) if about else frozenset[int]()
        self._lost = sum(term.weight for term in self._terms if term.name and not self._anywhere(term))

    @property
    def tells(self) -> bool:
        """Whether the question holds any word that could decide what answers it."""
        return any(not term.light for term in self._terms)

    def score(self, number: int) -> float:
        """How well the `number`th unit answers."""
        unit = self._units[number]
        near = list(near_by(self._units, number))
        beside = frozenset[int]().union(*(other.stems for other in near))
        said = sum(term.weight * self._said(term, unit, beside) for term in self._terms) / self._total
        score = said - _NAME_MISSING * min(1.0, self._lost) - _LATER * unit.passage
        around = " ".join(other.text for other in near)
        for answer, worth in self._wanted:
            if answer.search(unit.text):
                score += worth / 2
            elif not answer.search(around):
                score -= worth
        if unit.heading and unit.heading <= self._asked:
            score += _ASKED_BY_HEADING * said
        if self._defined and self._defined == stems_of(_subject(unit), self._languages[unit.passage]):
            score += _DEFINES
        return score

    def _said(self, term: Term, unit: Unit, beside: frozenset[int]) -> float:
        return max(
            term.in_(unit.stems),
            _ABOVE * term.in_(unit.above),
            _BESIDE * term.in_(beside),
            _TITLE * term.in_(self._titles[unit.passage]),
            _WITHIN * term.in_(self._within[unit.passage]),
        )

    def _anywhere(self, term: Term) -> bool:
        return any(term.in_(stems) for stems in (*self._within, *self._titles))


def near_by(units: Sequence[Unit], number: int) -> Iterator[Unit]:
    """The unit, its neighbours in its section, and the line that introduces it. A table's row has no neighbours."""
    unit = units[number]
    if unit.lead is not None:
        yield next((other for other in units if other.passage == unit.passage and other.start == unit.lead), unit)
    yield unit
    for place in (number - 1, number + 1):
        if 0 <= place < len(units):
            other = units[place]
            together = (other.passage, other.section) == (unit.passage, unit.section)
            if together and other.kind != "heading" and "table" not in (unit.kind, other.kind):
                yield other


def _subject(unit: Unit) -> str:
    """What a table's row or a defining sentence is about: the words before its first bar, colon or “is”."""
    return re.split(r" \| |: | is | are | means | shall mean ", unit.text.lstrip("- "), maxsplit=1)[0]

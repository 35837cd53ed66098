"""How well a stretch of text answers a question, as a number from 0 to about 1."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from stonechat.knowledge.excerpt_terms import Term, terms_of
from stonechat.knowledge.excerpt_units import Unit, stems_of
from stonechat.knowledge.index_vectors import DEFAULT_LANGUAGE
from stonechat.knowledge.lexicon import ASKS, NUMBERED
from stonechat.knowledge.search import Passage

_NEAREST, _ABOVE, _BESIDE, _SECTION, _TITLE, _WITHIN = 0.95, 0.6, 0.75, 0.6, 0.9, 0.4
"""What a word counts when it stands not in the stretch but right over it, farther up, next to it, in its section,
in the title, or elsewhere in the passage."""
_LOST, _LOST_ELSEWHERE = 0.3, 0.1
"""What a question loses whose telling words stand nowhere in a document in English, and in another language, of which
we know no words that mean the same."""
_NAME_MISSING = 0.2
_ASKED_BY_HEADING = 0.1
_DEFINES = 0.12
_LATER = 0.02
_NOT_COUNTED = 0.2
_NUMBER_ELSEWHERE = 0.25
_IS_SUBJECT, _SHORT_SUBJECT = 0.06, 3
_COUNTED = re.compile(r"\bhow many ((?:[^\W\d_]+ ?){1,2})", re.IGNORECASE)
_OPENING = re.compile(r"^(?:[-*] |A(?:nswer)?: |The |An? )+")
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
        self._sections: dict[tuple[int, int], frozenset[int]] = {}
        for unit in units:
            place = unit.passage, unit.section
            self._sections[place] = self._sections.get(place, frozenset()) | unit.stems
        self._units = units
        self._telling = frozenset(term.stem for term in self._terms if not term.light)
        self._numbers = [term for term in self._terms if term.name and any(map(str.isdigit, term.word))]
        counted = _COUNTED.search(question)
        self._counted = stems_of(counted.group(1), languages[0]) if counted else frozenset[int]()
        self._wanted = [(answer, worth) for asks, answer, worth in ASKS if asks.search(question)]
        self._asked = frozenset[int]().union(*({term.stem, *term.same, *term.alike} for term in self._terms))
        about = _DEFINITION.match(question)
        self._defined = stems_of(about.group(1), languages[0]) if about else frozenset[int]()
        told = [term for term in self._terms if not term.light]
        weight = sum(term.weight for term in told) or 1.0
        self._lost = []
        for passage in passages:
            missing = [(term, 1 - self._in_document(term, passage, passages)) for term in told]
            names = sum(term.weight * lack for term, lack in missing if term.name)
            share = sum(term.weight * lack for term, lack in missing) / weight
            worth = _LOST if passage.language == DEFAULT_LANGUAGE else _LOST_ELSEWHERE
            self._lost.append(_NAME_MISSING * min(1.0, names) + worth * share)

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
        score = said - self._lost[unit.passage] - _LATER * unit.passage
        score -= _NUMBER_ELSEWHERE * any(
            max(term.in_(unit.stems), term.in_(unit.heading), term.in_(beside)) == 0.0 for term in self._numbers
        )
        around = " ".join(other.text for other in near)
        for answer, worth in self._wanted:
            if answer.search(unit.text):
                score += worth / 2
            elif not answer.search(around):
                score -= worth
        if unit.heading and unit.heading <= self._asked:
            score += _ASKED_BY_HEADING * said
        if self._counted and unit.kind != "table":
            score -= 0.0 if self._counts(unit) else _NOT_COUNTED
        subject = stems_of(_subject(unit), self._languages[unit.passage])
        if len(subject) <= _SHORT_SUBJECT and not self._telling.isdisjoint(subject):
            score += _IS_SUBJECT
        if self._defined and self._defined <= subject and len(subject) <= len(self._defined) + 1:
            score += _DEFINES
        return score

    def _counts(self, unit: Unit) -> bool:
        """Whether a number stands right before what the question asks to count."""
        meant = self._counted.union(*(term.same for term in self._terms if term.stem in self._counted))
        return any(
            not meant.isdisjoint(stems_of(found.group(1), self._languages[unit.passage]))
            for found in NUMBERED.finditer(unit.text)
        )

    def _said(self, term: Term, unit: Unit, beside: frozenset[int]) -> float:
        return max(
            term.in_(unit.stems),
            _NEAREST * term.in_(unit.heading),
            _BESIDE * term.in_(beside),
            _ABOVE * term.in_(unit.above, near=False),
            _SECTION * term.in_(self._sections[unit.passage, unit.section], near=False),
            _TITLE * term.in_(self._titles[unit.passage], near=False),
            _WITHIN * term.in_(self._within[unit.passage], near=False),
        )

    def _in_document(self, term: Term, passage: Passage, passages: Sequence[Passage]) -> float:
        """How far anything found of the passage's document says the word."""
        return max(
            term.in_(stems)
            for number, other in enumerate(passages)
            if other.document_id == passage.document_id
            for stems in (self._within[number], self._titles[number])
        )


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
    return re.split(
        r" \| |: | is | are | means | shall mean | stands for | refers to ", _OPENING.sub("", unit.text), maxsplit=1
    )[0]

"""A passage as the stretches that can be quoted from it: sentences, list items and table rows, under their headings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from stonechat.knowledge.index_vectors import term_of
from stonechat.knowledge.search import Passage
from stonechat.knowledge.words import words_of

_SENTENCE = re.compile(r".+?(?:[.!?…]+[\"'”’)\]]*(?=\s+[\"'“‘(\[]?[A-Z0-9À-Ý])|[。！？]|$)", re.DOTALL)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|approx|no|nr|vs|mr|mrs|ms|dr|st|inc|ltd|min|max|bzw|ca|z\.B)\.|\b[A-Z]\.)$", re.IGNORECASE
)
_HEADING = re.compile(r"#{1,6} ")
_ITEM = re.compile(r"(?:- |\d{1,3}[.)] )")
_HYPHENATED = re.compile(r"[^\W_]+(?:-[^\W_]+)+")
_NUMBERED = re.compile(r"\d{1,3}(?:\.\d{1,3})*[.)]? [A-Z]")
_ASKED = re.compile(r"(?:Q(?:uestion)?\s*\d*\s*[:.)] ?)?.{4,180}\?$", re.IGNORECASE)
_LEADERS = re.compile(r"(?: ?\.){6,}")
"""The dots of a table of contents, which leads to answers and holds none."""
_CLAUSE = re.compile(r"[,;:)—](?= )")
MAX_SENTENCE = 280
"""Characters of a sentence beyond which it is taken clause by clause."""


@dataclass(slots=True)
class Unit:
    """A sentence, list item, table row or heading: `passage.text[start:end] == text`."""

    passage: int
    """Which of the passages it is of."""
    section: int
    """Counts the headings before it in its passage."""
    start: int
    end: int
    text: str
    kind: str
    stems: frozenset[int]
    words: frozenset[str]
    above: frozenset[int]
    """Stems of the headings over it."""
    heading: frozenset[int]
    """Stems of the nearest of them."""
    lead: int | None
    """Where the line begins that introduces it: a table's column names, or “You need:” before a list."""
    score: float = 0.0


def units_of(passage: Passage, number: int) -> Iterator[Unit]:
    """The units of the `number`th passage, in order."""
    return _Reader(passage, number).read()


@lru_cache(maxsize=4096)
def stems_of(text: str, language: str) -> frozenset[int]:
    """The stems of a text's words, stop words left out."""
    return frozenset(stem for word in _words(text) if (stem := term_of(word, language)) is not None)


def _words(text: str) -> list[str]:
    """Lower-case words; one with hyphens is its parts and the whole, so that ebook finds e-book."""
    lower = text.lower()
    return [*words_of(lower), *(found.replace("-", "") for found in _HYPHENATED.findall(lower))]


class _Reader:
    def __init__(self, passage: Passage, number: int) -> None:
        self._passage = passage
        self._number = number
        self._section = 0
        self._path: list[tuple[int, frozenset[int]]] = []
        self._base = frozenset[int]().union(*(stems_of(heading, passage.language) for heading in passage.headings))
        self._nearest = stems_of(passage.headings[-1], passage.language) if passage.headings else frozenset[int]()
        self._lead: int | None = None
        self._names: int | None = None

    def read(self) -> Iterator[Unit]:
        position = 0
        lines = self._passage.text.split("\n")
        for number, line in enumerate(lines):
            start, position = position, position + len(line) + 1
            if not line.strip() or _LEADERS.search(line):
                continue
            if found := _HEADING.match(line):
                yield self._heading(start, line, level=found.end() - 1)
            elif _stands_over(lines, number):
                yield self._heading(start, line, level=6 if _NUMBERED.match(line) else 7)
            elif " | " in line:
                if self._names is None:
                    self._names = start
                yield self._unit(start, start + len(line), "table", self._names if self._names != start else self._lead)
            elif _ITEM.match(line):
                self._names = None
                yield self._unit(start, start + len(line), "item", self._lead)
            else:
                self._names = self._lead = None
                for begin, end in _sentences(line):
                    yield self._unit(start + begin, start + end, "sentence", None)
                    self._lead = start + begin if line[begin:end].endswith(":") else None

    def _heading(self, start: int, line: str, *, level: int) -> Unit:
        self._section += 1
        self._path = [(depth, stems) for depth, stems in self._path if depth < level]
        unit = self._unit(start, start + len(line), "heading", None)
        self._path.append((level, unit.stems))
        self._lead = self._names = None
        return unit

    def _unit(self, start: int, end: int, kind: str, lead: int | None) -> Unit:
        text = self._passage.text[start:end]
        return Unit(
            passage=self._number,
            section=self._section,
            start=start,
            end=end,
            text=text,
            kind=kind,
            stems=stems_of(text, self._passage.language),
            words=frozenset(_words(text)),
            above=self._base.union(*(stems for _, stems in self._path)),
            heading=self._path[-1][1] if self._path else self._nearest,
            lead=lead,
        )


def _stands_over(lines: Sequence[str], number: int) -> bool:
    """Whether a line without a mark is a heading all the same: a question, or a few words, over a paragraph."""
    line = lines[number]
    below = lines[number + 1 : number + 3]
    under = next((other for other in below if other.strip()), "")
    if not under or len(line) > 180 or " | " in line or (number and lines[number - 1].strip()):
        return False
    if _ASKED.match(line) and not line.startswith("- "):
        return True
    words = line.split()
    return (
        len(words) <= 12
        and len(line) <= 90
        and line[-1] not in ".!?:;,…"
        and (line[0].isupper() or _NUMBERED.match(line) is not None)
        and len(under) > 30
        and " | " not in under
        and not (_NUMBERED.match(line) and _NUMBERED.match(under) and below[0].strip())
    )


def _sentences(line: str) -> Iterator[tuple[int, int]]:
    begin: int | None = None
    for found in _SENTENCE.finditer(line):
        if not found.group().strip():
            continue
        if begin is None:
            begin = found.start() + len(found.group()) - len(found.group().lstrip())
        if found.end() < len(line) and _ABBREVIATION.search(line[begin : found.end()]):
            continue
        yield from _clauses(line, begin, found.end())
        begin = None
    if begin is not None and line[begin:].strip():
        yield from _clauses(line, begin, len(line.rstrip()))


def _clauses(line: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """A sentence whole, or, if it is too long to quote, cut after marks that part its clauses."""
    while end - begin > MAX_SENTENCE:
        marks = [found.start() + 1 for found in _CLAUSE.finditer(line, begin + MAX_SENTENCE // 3, begin + MAX_SENTENCE)]
        stop = marks[-1] if marks else line.rfind(" ", begin + 1, begin + MAX_SENTENCE)
        if stop <= begin:
            stop = begin + MAX_SENTENCE
        yield begin, stop
        begin = stop + len(line[stop:end]) - len(line[stop:end].lstrip())
    if begin < end:
        yield begin, end

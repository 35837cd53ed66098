"""Passages as people read them: headings as headings, and what a search found in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from stonechat.knowledge.models import Chunk

Span = tuple[int, int]
_HEADING = re.compile(r"^(#{1,6} +)(\S.*)$", re.MULTILINE)
_HEADING_SIGN = re.compile(r"(?:^|(?<=\s))#{1,6} ")


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text: a heading, a word that the question says, something that an answer would quote, or neither."""

    text: str
    heading: bool = False
    matched: bool = False
    quoted: bool = False


@dataclass(frozen=True, slots=True)
class ShownPassage:
    """A passage of a document's page. `headings` are those above it that its document's title does not say."""

    chunk: Chunk
    headings: tuple[str, ...]
    pieces: tuple[Piece, ...]


def pieces_of(text: str, *, words: Sequence[Span] = (), quotes: Sequence[Span] = ()) -> tuple[Piece, ...]:
    """The text cut where something begins or ends; the signs that mark headings are left out."""
    signs, headings = [], []
    for found in _HEADING.finditer(text):
        signs.append(found.span(1))
        headings.append(found.span(2))
    edges = sorted({0, len(text), *(edge for span in (*words, *quotes, *signs, *headings) for edge in span)})
    return tuple(
        Piece(text[start:end], _within(start, headings), _within(start, words), _within(start, quotes))
        for start, end in pairwise(edges)
        if not _within(start, signs)
    )


def shown(chunk: Chunk, *, title: str) -> ShownPassage:
    """A passage as its document's page shows it."""
    return ShownPassage(chunk, above(chunk.headings, title=title), pieces_of(chunk.text))


def above(headings: Sequence[str], *, title: str) -> tuple[str, ...]:
    """The headings above a passage, without the one that repeats the document's title."""
    return tuple(headings[1:] if headings and headings[0] == title else headings)


def without_signs(text: str) -> str:
    """One line of a document, without the signs that mark headings."""
    return _HEADING_SIGN.sub("", text)


def _within(at: int, spans: Sequence[Span]) -> bool:
    return any(start <= at < end for start, end in spans)

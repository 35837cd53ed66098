"""Passages: pieces of about 1,600 characters cut along headings, lists, tables, code and paragraphs.

Cutting never changes text: each piece is exactly `text[start:end]` of what was extracted. Title and headings are put
before it only for the index (`index_text`), where they help a passage be found by words that stand above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

TARGET = 1600
"""Characters a piece aims at, and exceeds only by a single unbreakable word."""
MINIMUM = 500
"""A section shorter than this is joined by the next, so that a page of one-line sections does not become confetti."""
MAX_HEADING = 200

BlockKind = Literal["heading", "paragraph", "list", "table", "code"]


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of extracted text, without blank space at its ends. One list item or table row is one block."""

    kind: BlockKind
    start: int
    end: int
    level: int = 0
    """1 to 6 for a heading; 1 for the first row of a table that names its columns."""
    page: int | None = None
    anchor: str | None = None
    """For a heading: what comes after `#` in an address that leads there."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A document as text, the blocks it consists of in order, and the title it gives itself."""

    text: str
    blocks: tuple[Block, ...]
    title: str | None = None
    pages_apart: bool = False
    """Whether no passage reaches over pages: slides and chapters are cited by number."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A passage. `columns` is the header row of the table that it continues, if it begins inside one."""

    text: str
    start: int
    end: int
    page: int | None = None
    headings: tuple[str, ...] = ()
    columns: str | None = None
    anchor: str | None = None
    """Of the nearest heading that has one, at or above the start."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Something that is not cut further."""

    start: int
    end: int
    page: int | None
    path: tuple[str, ...]
    opens: int | None
    """Where the headings directly above it begin."""
    columns: str | None
    anchor: str | None


def cut(document: Extracted, *, target: int = TARGET, minimum: int = MINIMUM) -> list[Piece]:
    """The document's passages in reading order. With `minimum` 0, each section stands alone."""
    pieces: list[Piece] = []
    group: list[_Part] = []
    for part in _parts(document, target):
        begin = part.start if part.opens is None else part.opens
        if group:
            length = group[-1].end - _begin(group)
            full = part.end - _begin(group) > target
            closed = part.opens is not None and length >= minimum
            closed = closed or (document.pages_apart and part.page != group[0].page)
            if full or closed:
                pieces.append(_piece(document.text, group))
                group = []
        group.append(_Part(part.start, part.end, part.page, part.path, begin, part.columns, part.anchor))
    if group:
        pieces.append(_piece(document.text, group))
    return pieces


def index_text(piece: Piece, *, title: str) -> str:
    """What is indexed of a passage: its title, headings and columns, each once, then its text."""
    above: list[str] = []
    for line in (title, *piece.headings, piece.columns or ""):
        if line and line not in above:
            above.append(line)
    return "\n".join([*above, piece.text])


def _begin(group: Sequence[_Part]) -> int:
    first = group[0]
    return first.start if first.opens is None else first.opens


def _piece(text: str, group: Sequence[_Part]) -> Piece:
    start, end = _begin(group), group[-1].end
    path = group[0].path
    for part in group[1:]:
        path = _common(path, part.path)
    first = group[0]
    columns = first.columns if first.columns and first.columns not in text[start:end] else None
    return Piece(text[start:end], start, end, first.page, path, columns, first.anchor)


def _common(one: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    return one[:same]


def _parts(document: Extracted, target: int) -> Iterator[_Part]:
    """Every block, cut where it is longer than the target, with the headings above it."""
    path: list[tuple[int, str]] = []
    anchors: list[tuple[int, str | None]] = []
    opens: int | None = None
    columns: str | None = None
    last_heading: Block | None = None
    for block in document.blocks:
        if block.kind == "heading":
            path = [(level, name) for level, name in path if level < block.level]
            anchors = [(level, anchor) for level, anchor in anchors if level < block.level]
            anchors.append((block.level, block.anchor))
            path.append((block.level, document.text[block.start : block.end].lstrip("# ")[:MAX_HEADING]))
            if opens is not None and last_heading is not None and block.end - opens > target // 2:
                for start, end in _split(document.text, Block("heading", opens, last_heading.end), target):
                    yield _Part(
                        start, end, last_heading.page, (), None, None, last_heading.anchor
                    )  # a list of headings is text, too
                opens = None
            opens = block.start if opens is None else opens
            last_heading, columns = block, None
            continue
        if block.kind != "table":
            columns = None
        elif block.level:
            columns = document.text[block.start : block.end][:MAX_HEADING]
        names = tuple(name for _, name in path)
        for start, end in _split(document.text, block, target - ((block.start - opens) if opens is not None else 0)):
            yield _Part(start, end, block.page, names, opens, columns, _nearest(anchors))
            opens = None
        last_heading = None
    if opens is not None and last_heading is not None:
        # Headings with nothing below them are text, too.
        names = tuple(name for _, name in path)
        for start, end in _split(document.text, Block("heading", opens, last_heading.end), target):
            yield _Part(start, end, last_heading.page, names, None, None, _nearest(anchors))


def _nearest(anchors: Sequence[tuple[int, str | None]]) -> str | None:
    return next((anchor for _, anchor in reversed(anchors) if anchor), None)


_BREAKS = (
    re.compile(r"\n+"),
    re.compile(r"(?<=[.!?…;])[\"'”’)\]]*\s+|(?<=[。！？；])"),
    re.compile(r"\s+"),
)


def _split(text: str, block: Block, target: int) -> Iterator[tuple[int, int]]:
    """The block's range, in ranges of at most `target`: at lines, else sentences, else words, else anywhere."""
    target = max(target, 200)
    start, end = block.start, block.end
    while end - start > target:
        stop, following = _break(text, start, start + target)
        yield start, stop
        start = following
    if start < end:
        yield start, end


def _break(text: str, start: int, limit: int) -> tuple[int, int]:
    """Where a piece from `start` ends (at most `limit`) and the next begins. Neither has blank space at its edge."""
    for pattern in _BREAKS:
        best: tuple[int, int] | None = None
        # The whole white space after the cut must be seen, so look one break past the limit.
        for found in pattern.finditer(text, start + 1, min(len(text), limit + 64)):
            if found.start() > limit:
                break
            best = (found.start(), found.end())
        if best is not None and best[0] - start >= (limit - start) // 3:
            stop, following = best
            while stop > start + 1 and text[stop - 1].isspace():
                stop -= 1
            while following < len(text) and text[following].isspace():
                following += 1
            return stop, following
    stop = limit
    while stop > start + 1 and text[stop - 1].isspace():
        stop -= 1
    while limit < len(text) and text[limit].isspace():
        limit += 1
    return stop, limit

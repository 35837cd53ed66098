"""The passages of one turn, numbered: what `[n]` in the answer means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import quote

from chatkit.types import FileSource, URLSource

from stonechat.knowledge.search import Passage

MAX_PASSAGES = 40
"""Per turn, over all of its searches."""
_SNIPPET_CHARACTERS = 200
_FRAGMENT = "!$&'()*+,;=:@/?-._~"
"""What RFC 3986 lets stand in a fragment."""


class Passages:
    """Passages by number. A passage found twice keeps its first number; numbers are never given anew in a turn."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._passages: list[Passage] = []

    def __len__(self) -> int:
        return len(self._passages)

    def add(self, passages: Iterable[Passage]) -> list[tuple[int, Passage]]:
        """Number the passages, as far as there is room, in the order given."""
        numbered = []
        for passage in passages:
            number = self._numbers.get(passage.chunk_id)
            if number is None:
                if len(self._passages) >= MAX_PASSAGES:
                    break
                self._passages.append(passage)
                number = self._numbers[passage.chunk_id] = len(self._passages)
            numbered.append((number, passage))
        return numbered

    def number(self, passage: Passage) -> int:
        """The number that `add` gave the passage."""
        return self._numbers[passage.chunk_id]

    def all(self) -> Sequence[Passage]:
        """Every passage, by number from 1."""
        return tuple(self._passages)

    def source(self, number: int) -> URLSource | FileSource | None:
        """What a marker with this number points at: the document's page, else its name. None if there is no such."""
        if not 1 <= number <= len(self._passages):
            return None
        passage = self._passages[number - 1]
        snippet = _snippet(passage.text)
        group = " › ".join([*passage.headings, *_pages(passage)])[:_SNIPPET_CHARACTERS] or None
        if passage.url:
            return URLSource(url=_place(passage, passage.url), title=passage.title, description=snippet, group=group)
        return FileSource(filename=passage.title, title=passage.title, description=snippet, group=group)


def _place(passage: Passage, url: str) -> str:
    """The address of the passage's heading, or of its page in a PDF; an address that names a place already is kept."""
    if "#" in url:
        return url
    if passage.anchor:
        return f"{url}#{quote(passage.anchor, safe=_FRAGMENT)}"
    if passage.page and url.partition("?")[0].lower().endswith(".pdf"):
        return f"{url}#page={passage.page}"
    return url


def _pages(passage: Passage) -> list[str]:
    return [f"p. {passage.page}"] if passage.page else []


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + "…"

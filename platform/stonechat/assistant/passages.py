"""The passages of one turn, numbered: what `[n]` in the answer means."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chatkit.types import FileSource, URLSource

from stonechat.knowledge.search import Passage

MAX_PASSAGES = 40
"""Per turn, over all of its searches."""
_SNIPPET_CHARACTERS = 200


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
        group = " › ".join(passage.headings)[:_SNIPPET_CHARACTERS] or None
        if passage.url:
            return URLSource(url=passage.url, title=passage.title, description=snippet, group=group)
        return FileSource(filename=passage.title, title=passage.title, description=snippet, group=group)


def _snippet(text: str) -> str:
    line = " ".join(text.split())
    if len(line) <= _SNIPPET_CHARACTERS:
        return line
    return line[:_SNIPPET_CHARACTERS].rsplit(" ", 1)[0] + "…"

"""The text that extractors make of a document: a plain rendering with light marks that people and models both read.

`# ` stands before headings, `- ` before list items, ` | ` between the cells of a table's row. Pictures, scripts, menus
and other furniture are left out.
"""

from __future__ import annotations

import re
import unicodedata

from stonechat.errors import DocumentTooDemanding, DocumentUnreadable, DocumentWithoutText
from stonechat.knowledge.chunk import MAX_HEADING, Block, BlockKind, Extracted
from stonechat.knowledge.media import decode

MAX_CHARACTERS = 5_000_000
MAX_TITLE = 500
MAX_ANCHOR = 200
_JUNK = re.compile("[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200d\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")

_NUMBERED = re.compile(r"(?:\d{1,3}|[a-z])[.)] ")

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
"""Letters that PDFs draw as one; nobody types them in a question."""


class TextBuilder:
    """Collects blocks into one text, keeping where each begins and ends."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self.title: str | None = None

    def add(
        self,
        kind: BlockKind,
        text: str,
        *,
        level: int = 0,
        page: int | None = None,
        verbatim: bool = False,
        anchor: str | None = None,
    ) -> None:
        """Append a block; one that is blank is dropped. White space is collapsed unless `verbatim`."""
        text = _JUNK.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
        if verbatim:
            text = "\n".join(line.rstrip() for line in text.split("\n")).strip()
        else:
            text = "\n".join(filter(None, (_SPACES.sub(" ", line).strip() for line in text.split("\n"))))
        text = unicodedata.normalize("NFC", text).translate(_LIGATURES)
        if kind == "heading":
            text = " ".join(text.split())
            if len(text) > MAX_HEADING:
                kind, level = "paragraph", 0
            elif text:
                text = f"{'#' * level} {text}"
        elif kind == "list" and text and not _NUMBERED.match(text):
            text = f"- {text}"
        if not text.strip("#-| \n"):
            return
        previous = self._blocks[-1].kind if self._blocks else None
        if previous is not None:
            self._put("\n" if previous == kind and kind in ("list", "table") else "\n\n")
        start = self._length
        self._put(text)
        self._blocks.append(Block(kind, start, self._length, level, page, anchor[:MAX_ANCHOR] if anchor else None))

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)
        if self._length > MAX_CHARACTERS:
            raise _too_long()

    def first_heading(self) -> str | None:
        """The text of the first heading, if it is among the first blocks."""
        for block, part in zip(self._blocks[:3], self._parts[::2], strict=False):
            if block.kind == "heading":
                return part.lstrip("# ")
        return None

    def build(self, *, pages_apart: bool = False) -> Extracted:
        """What was collected; raises `DocumentWithoutText` if nothing was."""
        text = "".join(self._parts)
        if not any(character.isalnum() for character in text):
            raise DocumentWithoutText("This document holds no text that could be read.")
        title = " ".join((self.title or self.first_heading() or "").split())[:MAX_TITLE] or None
        return Extracted(text, tuple(self._blocks), title, pages_apart)


def decoded(data: bytes, *, limit: int | None = None) -> str:
    """The text of a file that was detected as text; with a `limit`, refused at once if it is far beyond what is kept."""
    text = decode(data)
    if text is None:
        raise DocumentUnreadable("This file says it is text, but most of it is not.")
    if limit is not None and len(text) > 2 * limit:
        raise _too_long()
    return text


def _too_long() -> DocumentTooDemanding:
    return DocumentTooDemanding(
        f"This document has more than {MAX_CHARACTERS:,} characters of text. Split it into several."
    )

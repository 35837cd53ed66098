"""From a document's bytes to its text: one `Extractor` per media type. Runs in the child process only.

The text is a plain rendering with light marks that people and models both read: `# ` before headings, `- ` before list
items, ` | ` between the cells of a table's row. Pictures, scripts, menus and other furniture are left out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Protocol

from stonechat.errors import DocumentTooDemanding, DocumentUnreadable, DocumentWithoutText
from stonechat.knowledge.chunk import MAX_HEADING, Block, BlockKind, Extracted
from stonechat.knowledge.media import MediaType, decode

MAX_CHARACTERS = 5_000_000
MAX_TITLE = 500
_JUNK = re.compile("[\x00-\x08\x0b-\x1f\x7f\u00ad\u200b-\u200d\u2060\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200a\u202f\u3000]+")

_NUMBERED = re.compile(r"(?:\d{1,3}|[a-z])[.)] ")

_LIGATURES = str.maketrans({"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st"})
"""Letters that PDFs draw as one; nobody types them in a question."""


class Extractor(Protocol):
    """Reads one media type."""

    def __call__(self, data: bytes) -> Extracted:
        """The document's text, or a `DocumentUnreadable` that says why there is none."""


class TextBuilder:
    """Collects blocks into one text, keeping where each begins and ends."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._blocks: list[Block] = []
        self._length = 0
        self.title: str | None = None

    def add(
        self, kind: BlockKind, text: str, *, level: int = 0, page: int | None = None, verbatim: bool = False
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
        self._blocks.append(Block(kind, start, self._length, level, page))

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

    def build(self) -> Extracted:
        """What was collected; raises `DocumentWithoutText` if nothing was."""
        text = "".join(self._parts)
        if not any(character.isalnum() for character in text):
            raise DocumentWithoutText("This document holds no text that could be read.")
        title = " ".join((self.title or self.first_heading() or "").split())[:MAX_TITLE] or None
        return Extracted(text, tuple(self._blocks), title)


_SETEXT = re.compile(r"^(={3,}|-{3,}|~{3,})\s*$")
BULLET = re.compile(r"^\s*(?:[-*+•·–]|\d{1,3}[.)]|[a-z][.)])\s+(?=\S)")


def extract_text(data: bytes) -> Extracted:
    """Plain text: paragraphs between blank lines; underlined or all-capital lines that stand alone are headings."""
    out = TextBuilder()
    for paragraph in re.split(
        r"\n[ \t]*\n",
        decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n"),
    ):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        while len(lines) >= 2 and _SETEXT.match(lines[1]) and len(lines[0]) <= MAX_HEADING:
            out.add("heading", lines[0], level=1 if lines[1].startswith("=") else 2)
            lines = lines[2:]
        if len(lines) == 1 and _is_capitals(lines[0]):
            out.add("heading", lines[0], level=2)
        elif sum(1 for line in lines if BULLET.match(line)) >= 2:
            _add_list(out, lines)
        elif _is_prose(lines):
            out.add("paragraph", " ".join(lines))
        elif lines and all(line.startswith(("    ", "\t")) for line in lines):
            out.add("code", "\n".join(lines), verbatim=True)
        else:
            out.add("paragraph", "\n".join(lines))
    return out.build()


def _is_prose(lines: list[str]) -> bool:
    """Whether lines are a paragraph broken to a width, to be joined, rather than an address, a poem or code."""
    full = [line.strip() for line in lines[:-1]]
    return bool(full) and sum(len(line) >= 45 and line.count(" ") >= 4 for line in full) >= 0.7 * len(full)


def _add_list(out: TextBuilder, lines: list[str]) -> None:
    item: list[str] = []
    listed = False
    for line in lines:
        if found := BULLET.match(line):
            if item:
                out.add("list" if listed else "paragraph", " ".join(item))
            mark = found.group().strip()
            item, listed = [line.strip() if mark[0].isalnum() else line[found.end() :]], True
        else:
            item.append(line.strip())
    if item:
        out.add("list" if listed else "paragraph", " ".join(item))


def _is_capitals(line: str) -> bool:
    line = line.strip()
    letters = [character for character in line if character.isalpha()]
    return len(letters) >= 3 and len(line) <= 80 and line.isupper() and not line.endswith((".", ",", ";"))


def extract_faq(data: bytes) -> Extracted:
    """Question-answer pairs: each question a heading, its answer (Markdown) below."""
    from stonechat.knowledge.extract_markdown import add_markdown

    out = TextBuilder()
    try:
        pairs = [(str(pair["question"]), str(pair["answer"])) for pair in json.loads(data)]
    except (ValueError, KeyError, TypeError):
        raise DocumentUnreadable("These question-answer pairs are not in the expected form.") from None
    for question, answer in pairs:
        out.add("heading", question, level=1)
        add_markdown(out, answer, deeper=1)
    document = out.build()
    return Extracted(document.text, document.blocks, None)


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


def extractor_for(media_type: MediaType) -> Extractor:
    """The extractor of a media type. Imports what it needs only now, so a text file does not pay for PDF."""
    return _EXTRACTORS[media_type]()


def _markdown() -> Extractor:
    from stonechat.knowledge.extract_markdown import extract_markdown

    return extract_markdown


def _html() -> Extractor:
    from stonechat.knowledge.extract_html import extract_html

    return extract_html


def _pdf() -> Extractor:
    from stonechat.knowledge.extract_pdf import extract_pdf

    return extract_pdf


_EXTRACTORS: dict[MediaType, Callable[[], Extractor]] = {
    MediaType.TEXT: lambda: extract_text,
    MediaType.FAQ: lambda: extract_faq,
    MediaType.MARKDOWN: _markdown,
    MediaType.HTML: _html,
    MediaType.PDF: _pdf,
}

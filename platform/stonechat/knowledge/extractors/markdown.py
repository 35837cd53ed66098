"""Markdown, as its renderer would see it: marks gone, structure kept."""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.token import Token

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded
from stonechat.knowledge.extractors.html import text_of

_FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE | re.IGNORECASE)
_BREAK = re.compile(r"<br\b", re.IGNORECASE)
_PARSER = MarkdownIt("commonmark", {"maxNesting": 50}).enable(["table", "strikethrough"])


def extract_markdown(data: bytes) -> Extracted:
    """Markdown (CommonMark and tables). A `title:` in front matter is the title, else the first heading."""
    text = decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    out = TextBuilder()
    if front := _FRONT_MATTER.match(text):
        if title := _FRONT_TITLE.search(front.group(1)):
            out.title = title.group(1)
        text = text[front.end() :]
    add_markdown(out, text)
    return out.build()


def add_markdown(out: TextBuilder, text: str, *, deeper: int = 0) -> None:
    """Append a Markdown text's blocks, its headings `deeper` levels down."""
    writer = _Writer(out, deeper)
    above: Token | None = None
    for token in _PARSER.parse(text):
        writer.take(token, above)
        above = token


class _Item:
    """An open list item: its number, if its list is numbered and the number not yet written, and its lines."""

    def __init__(self, number: str) -> None:
        self.number = number
        self.lines: list[str] = []


class _Writer:
    def __init__(self, out: TextBuilder, deeper: int) -> None:
        self._out = out
        self._deeper = deeper
        self._items: list[_Item] = []
        self._row: list[str] | None = None
        self._in_head = False

    def take(self, token: Token, above: Token | None) -> None:
        kind = token.type
        if kind == "inline":
            self._inline(token, above)
        elif kind in ("fence", "code_block", "html_block"):
            self._flush()
            if kind == "html_block":
                self._out.add("paragraph", text_of(token.content))
            else:
                self._out.add("code", token.content, verbatim=True)
        elif kind == "list_item_open":
            self._flush()
            self._items.append(_Item(f"{token.info}{token.markup} " if token.info else ""))
        elif kind == "list_item_close":
            self._flush()
            self._items.pop()
        elif kind in ("thead_open", "thead_close"):
            self._in_head = kind == "thead_open"
        elif kind == "tr_open":
            self._row = []
        elif kind == "tr_close":
            self._out.add("table", " | ".join(self._row or []), level=1 if self._in_head else 0)
            self._row = None

    def _inline(self, token: Token, above: Token | None) -> None:
        content = _plain(token.children or [])
        if above is not None and above.type == "heading_open":
            self._flush()
            self._out.add("heading", content, level=min(6, int(above.tag[1]) + self._deeper))
        elif self._row is not None:
            self._row.append(" ".join(content.split()))
        elif self._items:
            self._items[-1].lines.append(content)
        else:
            self._out.add("paragraph", content)

    def _flush(self) -> None:
        """Write the innermost open item, as far as it goes."""
        if self._items and self._items[-1].lines:
            item = self._items[-1]
            self._out.add("list", item.number + "\n".join(item.lines))
            item.number, item.lines = "", []


def _plain(children: list[Token]) -> str:
    parts: list[str] = []
    for child in children:
        if child.type in ("text", "code_inline", "image"):
            parts.append(child.content)
        elif child.type == "softbreak":
            parts.append(" ")
        elif child.type == "hardbreak" or (child.type == "html_inline" and _BREAK.match(child.content)):
            parts.append("\n")
    return "".join(parts)

"""PDF: lines regrouped into paragraphs by their distance, headings known by their size or weight, pages kept."""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pypdf import PageObject, PdfReader
from pypdf.errors import PyPdfError

from stonechat.errors import DocumentEncrypted, DocumentTooDemanding, DocumentUnreadable, DocumentWithoutText
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.plain import BULLET

MAX_PAGES = 2000
_LARGER = 1.12
_FURNITURE_PAGES = 3
_ENDS = re.compile(r"[.!?:;…]['\"”’)]*$")
_ENCRYPTED = "This PDF is protected by a password. Remove the password and upload it again."
_DAMAGED = "This PDF is damaged and cannot be read. Try to save it anew and upload it again."
_NO_TEXT = "This PDF holds pictures of pages and no text. Run text recognition (OCR) on it and upload it again."


@dataclass(slots=True)
class _Line:
    text: str
    size: float
    bold: bool
    y: float | None
    page: int
    cells: int = 1
    """More than 1 for what stands side by side at one height: a row of a table."""


def open_pdf(data: bytes) -> PdfReader:
    """A reader with its pages counted; raises `DocumentEncrypted` when a password is needed."""
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(data), strict=False)
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentEncrypted(_ENCRYPTED)
        pages = len(reader.pages)
    except PyPdfError as error:
        if "decrypt" in str(error).lower():
            raise DocumentEncrypted(_ENCRYPTED) from None
        raise DocumentUnreadable(_DAMAGED) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise DocumentUnreadable(_DAMAGED) from None
    if pages > MAX_PAGES:
        raise DocumentTooDemanding(
            f"This PDF has {pages} pages; at most {MAX_PAGES} can be read. Split it into several."
        )
    return reader


def extract_pdf(data: bytes) -> Extracted:
    """The text of every page that can be read; a page that cannot is passed over."""
    reader = open_pdf(data)
    pages: list[list[_Line]] = []
    failures = 0
    for number, page in enumerate(reader.pages, start=1):
        try:
            pages.append(_lines(page, number))
        except (
            PyPdfError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            AttributeError,
            RecursionError,
            ZeroDivisionError,
        ):
            failures += 1
    if pages == [] and failures:
        raise DocumentUnreadable(_DAMAGED)
    _drop_furniture(pages)
    lines = [line for page in pages for line in page]
    if not lines:
        raise DocumentUnreadable(_DAMAGED) if failures else DocumentWithoutText(_NO_TEXT)
    out = TextBuilder()
    out.title = _own_title(reader)
    _write(out, lines)
    try:
        return out.build()
    except DocumentWithoutText:
        raise DocumentWithoutText(_NO_TEXT) from None


def _own_title(reader: PdfReader) -> str | None:
    try:
        title = (reader.metadata.title or "").strip() if reader.metadata else ""
    except (PyPdfError, ValueError, TypeError, KeyError, AttributeError):
        return None
    dull = title.lower() in {"", "untitled", "anonymous", "(anonymous)", "document"} or title.lower().endswith(
        (".doc", ".docx", ".indd", ".tex", ".dvi")
    )
    return None if dull else title


def _lines(page: PageObject, number: int) -> list[_Line]:
    """The page's lines with the size, weight and height on the page of most of their characters."""
    lines: list[_Line] = []
    current: list[tuple[str, float, bool, float | None]] = []

    def end_line() -> None:
        text = "".join(part for part, *_ in current)
        if text.strip():
            inked = [(len(part.strip()), size, bold, y) for part, size, bold, y in current if part.strip()]
            sizes: Counter[float] = Counter()
            for length, size, _, _ in inked:
                sizes[round(size, 1)] += length
            lines.append(
                _Line(
                    " ".join(text.split()),
                    sizes.most_common(1)[0][0],
                    all(bold for _, _, bold, _ in inked),
                    inked[0][3],
                    number,
                )
            )
        current.clear()

    def visit(text: str, cm: Any, tm: Any, font: Any, size: Any) -> None:
        base = str((font or {}).get("/BaseFont", "")).lower()
        scale = abs(tm[3] or tm[0] or 1) * abs(cm[3] or cm[0] or 1)
        height = tm[5] * cm[3] + cm[5] if (tm[4] or tm[5]) else None
        for index, part in enumerate(text.split("\n")):
            if index:
                end_line()
            current.append((part, float(size or 0) * scale, "bold" in base or "black" in base, height))

    page.extract_text(visitor_text=visit)
    end_line()
    return _rows(lines)


def _rows(lines: list[_Line]) -> list[_Line]:
    """Lines with those at one height joined."""
    joined: list[_Line] = []
    for line in lines:
        above = joined[-1] if joined else None
        if above and above.y is not None and line.y is not None and abs(above.y - line.y) < line.size * 0.3:
            above.text = f"{above.text} | {line.text}"
            above.cells += 1
            above.bold = above.bold and line.bold
        else:
            joined.append(line)
    return joined


def _drop_furniture(pages: list[list[_Line]]) -> None:
    """Remove running heads and feet: first and last lines that recur, numbers aside, on most pages."""

    def shape(line: _Line) -> str:
        return re.sub(r"\d+", "0", line.text.lower())

    if len(pages) < _FURNITURE_PAGES:
        return
    seen: Counter[str] = Counter()
    for page in pages:
        seen.update({shape(line) for line in (*page[:2], *page[-2:])})
    recurring = {text for text, times in seen.items() if times >= max(_FURNITURE_PAGES, len(pages) * 0.6)}
    kept: list[list[_Line]] = []
    for page in pages:
        edge = {id(line) for line in (*page[:2], *page[-2:]) if shape(line) in recurring}
        kept.append([line for line in page if id(line) not in edge])
    if _ink(kept) * 2 >= _ink(pages):  # or it is no furniture, but pages of a line or two that say alike things
        pages[:] = kept


def _ink(pages: list[list[_Line]]) -> int:
    return sum(len(line.text) for page in pages for line in page)


def _write(out: TextBuilder, lines: list[_Line]) -> None:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0]
    mostly_bold = sum(len(line.text) for line in lines if line.bold) > sum(len(line.text) for line in lines) / 2
    larger = sorted({line.size for line in lines if line.size > body * _LARGER}, reverse=True)
    width = max((len(line.text) for line in lines if line.size == body), default=80)
    leading = _leading(lines, body)
    in_table = False
    for group in _paragraphs(lines, leading=leading, width=width, mostly_bold=mostly_bold):
        first = group[0]
        level = _heading_level(first, body, larger, mostly_bold)
        if first.cells > 1:
            names = not in_table and not any(character.isdigit() for character in first.text)
            out.add("table", first.text, level=1 if names else 0, page=first.page)
        elif level:
            out.add("heading", " ".join(line.text for line in group), level=level, page=first.page)
        elif found := BULLET.match(first.text):
            mark = found.group().strip()
            text = _joined(group)
            out.add("list", text if mark[0].isalnum() else text[len(mark) :].strip(), page=first.page)
        else:
            out.add("paragraph", _joined(group), page=first.page)
        in_table = first.cells > 1


def _leading(lines: list[_Line], body: float) -> float:
    """The usual distance between two lines of a paragraph."""
    gaps: Counter[float] = Counter()
    for above, below in pairwise(lines):
        if above.page == below.page and above.y is not None and below.y is not None:
            gap = round(above.y - below.y, 0)
            if 0 < gap < body * 4:
                gaps[gap] += 1
    return gaps.most_common(1)[0][0] if gaps else body * 1.2


def _heading_level(line: _Line, body: float, larger: list[float], mostly_bold: bool) -> int:
    """0 for text; 1 for the largest size, and so on; a short bold line of the body's size ranks below them."""
    if len(line.text) > 120 or not any(character.isalpha() for character in line.text):
        return 0
    if line.size > body * _LARGER:
        return min(larger.index(line.size) + 1, 5)
    if line.bold and not mostly_bold and not line.text.endswith((".", ",", ";")) and not BULLET.match(line.text):
        return min(len(larger) + 1, 6)
    return 0


def _paragraphs(lines: list[_Line], *, leading: float, width: int, mostly_bold: bool) -> Iterator[list[_Line]]:
    """Lines that belong together, in order."""
    group: list[_Line] = []
    for line in lines:
        if group and _breaks(group[-1], line, leading=leading, width=width, mostly_bold=mostly_bold):
            yield group
            group = []
        group.append(line)
    if group:
        yield group


def _breaks(above: _Line, below: _Line, *, leading: float, width: int, mostly_bold: bool) -> bool:
    if (
        above.cells > 1
        or below.cells > 1
        or above.size != below.size
        or (above.bold != below.bold and not mostly_bold)
        or BULLET.match(below.text)
    ):
        return True
    ended = bool(_ENDS.search(above.text))
    if above.page != below.page:
        return ended or below.text[:1].isupper()
    if above.y is not None and below.y is not None:
        gap = above.y - below.y
        if gap > leading * 1.35 or gap < -leading:
            return True
    return ended and len(above.text) < width * 0.7


def _joined(group: list[_Line]) -> str:
    """One paragraph from its lines; a word divided at the end of a line is made whole. Short rows keep their lines."""
    if len(group) > 2 and sum(len(line.text) for line in group) / len(group) < 30:
        return "\n".join(line.text for line in group)
    text = group[0].text
    for line in group[1:]:
        if re.search(r"[a-zäöüß]-$", text) and line.text[:1].islower():
            text = text[:-1] + line.text
        else:
            text = f"{text} {line.text}"
    return text

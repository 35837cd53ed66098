"""Word documents (DOCX), by python-docx: headings, lists, tables and footnotes, in reading order."""

from __future__ import annotations

import io
import re

import docx
from docx.document import Document
from docx.oxml.ns import qn
from docx.table import Table
from docx.text.paragraph import Paragraph

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.office import check_zip

_HEADING = re.compile(r"^(?:heading|überschrift|titre|título|titolo|kop|标题|見出し)\s*([1-9])$", re.IGNORECASE)
_MAX_NESTING = 4


def extract_docx(data: bytes) -> Extracted:
    """A Word document. Its title is the one in its properties, else its title paragraph, else its first heading."""
    check_zip(data)
    document = docx.Document(io.BytesIO(data))
    out = TextBuilder()
    out.title = (document.core_properties.title or "").strip() or None
    _add_blocks(out, document)
    return out.build()


def _add_blocks(out: TextBuilder, document: Document) -> None:
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            _add_table(out, block, depth=0)
        else:
            _add_paragraph(out, block)


def _add_paragraph(out: TextBuilder, paragraph: Paragraph) -> None:
    text = paragraph.text
    if not text.strip():
        return
    style = (paragraph.style.name if paragraph.style is not None else None) or ""
    level = _level(paragraph, style)
    if level:
        out.add("heading", text, level=level)
        if style == "Title" and out.title is None:
            out.title = text.strip()
    elif style.startswith("List") or paragraph._p.find(f"{qn('w:pPr')}/{qn('w:numPr')}") is not None:
        out.add("list", text)
    else:
        out.add("paragraph", text)


def _level(paragraph: Paragraph, style: str) -> int:
    """1 to 6 for a heading: by its style's name, or by the outline level that styles of any language carry."""
    if style == "Title":
        return 1
    if found := _HEADING.match(style):
        return min(int(found.group(1)), 6)
    properties = [paragraph._p.pPr]
    if paragraph.style is not None:
        properties.append(paragraph.style.element.find(qn("w:pPr")))
    for each in properties:
        outline = each.find(qn("w:outlineLvl")) if each is not None else None
        value = outline.get(qn("w:val")) if outline is not None else None
        if value is not None and value.isdigit() and int(value) < 9:
            return min(int(value) + 1, 6)
    return 0


def _add_table(out: TextBuilder, table: Table, *, depth: int) -> None:
    for number, row in enumerate(table.rows):
        cells: list[str] = []
        seen: set[object] = set()
        for cell in row.cells:
            if cell._tc in seen:  # a merged cell is met once for each column it covers
                continue
            seen.add(cell._tc)
            cells.append(" ".join(cell.text.split()))
        if any(cells):
            out.add("table", " | ".join(cells), level=1 if number == 0 else 0)
        if depth < _MAX_NESTING:
            for cell in row.cells:
                for inner in cell.tables:
                    _add_table(out, inner, depth=depth + 1)

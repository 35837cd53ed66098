"""Presentations (PPTX), by python-pptx: each slide a page, its title a heading, its speaker's notes below."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator

from pptx import Presentation
from pptx.shapes.base import BaseShape
from pptx.shapes.group import GroupShape

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.office import check_zip

_MAX_DEPTH = 8


def extract_pptx(data: bytes) -> Extracted:
    """A presentation; page numbers are slide numbers."""
    check_zip(data)
    presentation = Presentation(io.BytesIO(data))
    out = TextBuilder()
    out.title = (presentation.core_properties.title or "").strip() or None
    if out.title == "PowerPoint Presentation":
        out.title = None  # what the program writes when nobody gave a title
    for page, slide in enumerate(presentation.slides, start=1):
        title = slide.shapes.title
        if title is not None and title.text_frame.text.strip():
            out.add("heading", title.text_frame.text, level=2, page=page)
        for shape in _in_order(slide.shapes, depth=0):
            if title is None or shape.shape_id != title.shape_id:
                _add_shape(out, shape, page=page)
        if slide.has_notes_slide and (frame := slide.notes_slide.notes_text_frame) is not None:
            out.add("paragraph", frame.text, page=page)
    return out.build(pages_apart=True)


def _in_order(shapes: Iterable[BaseShape], *, depth: int) -> Iterator[BaseShape]:
    """Shapes as they are read: from the top, then from the left; groups opened."""
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if isinstance(shape, GroupShape):
            if depth < _MAX_DEPTH:
                yield from _in_order(shape.shapes, depth=depth + 1)
        else:
            yield shape


def _add_shape(out: TextBuilder, shape: BaseShape, *, page: int) -> None:
    if shape.has_text_frame:
        paragraphs = [paragraph for paragraph in shape.text_frame.paragraphs if paragraph.text.strip()]  # type: ignore[attr-defined]
        for paragraph in paragraphs:
            out.add("list" if len(paragraphs) > 1 else "paragraph", paragraph.text, page=page)
    elif shape.has_table:
        for number, row in enumerate(shape.table.rows):  # type: ignore[attr-defined]
            cells = [" ".join(cell.text.split()) for cell in row.cells]
            if any(cells):
                out.add("table", " | ".join(cells), level=1 if number == 0 else 0, page=page)

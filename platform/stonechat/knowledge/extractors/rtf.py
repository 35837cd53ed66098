"""Rich text (RTF), by striprtf. The format names no headings, so paragraphs are told apart as in plain text."""

from __future__ import annotations

from striprtf.striprtf import rtf_to_text

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS
from stonechat.knowledge.extractors.plain import extract_text


def extract_rtf(data: bytes) -> Extracted:
    """A rich text."""
    text = rtf_to_text(data[: 8 * MAX_CHARACTERS].decode("latin-1"), errors="replace")  # type: ignore[no-untyped-call]
    paragraphs = (line.strip().strip("|").replace("|", " | ") for line in text.split("\n"))
    return extract_text("\n\n".join(filter(None, paragraphs)).encode())

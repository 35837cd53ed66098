"""Which extractor reads which media type."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import cast

from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.media import MediaType

Extractor = Callable[[bytes], Extracted]
"""The document's text; raises a `DocumentUnreadable` that says why there is none."""


_WHERE: dict[MediaType, tuple[str, str]] = {
    MediaType.TEXT: ("plain", "extract_text"),
    MediaType.FAQ: ("plain", "extract_faq"),
    MediaType.MARKDOWN: ("markdown", "extract_markdown"),
    MediaType.RST: ("restructuredtext", "extract_rst"),
    MediaType.HTML: ("html", "extract_html"),
    MediaType.PDF: ("pdf", "extract_pdf"),
    MediaType.DOCX: ("word", "extract_docx"),
    MediaType.PPTX: ("slides", "extract_pptx"),
    MediaType.XLSX: ("spreadsheet", "extract_xlsx"),
    MediaType.ODT: ("opendocument", "extract_odt"),
    MediaType.EPUB: ("epub", "extract_epub"),
    MediaType.RTF: ("rtf", "extract_rtf"),
    MediaType.EML: ("mail", "extract_eml"),
    MediaType.CSV: ("spreadsheet", "extract_csv"),
    MediaType.TSV: ("spreadsheet", "extract_tsv"),
    MediaType.JSON: ("data", "extract_json"),
    MediaType.VTT: ("captions", "extract_captions"),
    MediaType.SRT: ("captions", "extract_captions"),
    MediaType.CODE: ("code", "extract_code"),
}


def load_all() -> None:
    """Import every extractor."""
    for media_type in _WHERE:
        extractor_for(media_type)


def extractor_for(media_type: MediaType) -> Extractor:
    """The extractor of a media type. Imported only now, so a text file does not pay for PDF."""
    module, name = _WHERE[media_type]
    return cast("Extractor", getattr(import_module(f"stonechat.knowledge.extractors.{module}"), name))

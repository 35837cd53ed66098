"""E-books (EPUB): the chapters of the book's spine, each read as the web page it is."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote

from stonechat.errors import DocumentUnreadable, DocumentWithoutText
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.html import extract_html
from stonechat.knowledge.extractors.office import open_zip, read_part
from stonechat.knowledge.extractors.opendocument import parse_xml

MAX_CHAPTERS = 2000
MAX_CHAPTER = 20 * 1024 * 1024
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_OPF = "{http://www.idpf.org/2007/opf}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"


def extract_epub(data: bytes) -> Extracted:
    """A book; page numbers are chapter numbers. One that is protected says that it has no text."""
    out = TextBuilder()
    with open_zip(data) as opened:
        container = read_part(opened, "META-INF/container.xml")
        rootfile = parse_xml(container).find(f".//{_CONTAINER}rootfile") if container else None
        package_path = rootfile.get("full-path", "") if rootfile is not None else ""
        package_data = read_part(opened, package_path) if package_path else None
        if package_data is None:
            raise DocumentUnreadable("This e-book is damaged and cannot be read.")
        package = parse_xml(package_data)
        title = package.find(f".//{_DC_TITLE}")
        out.title = ((title.text or "").strip() or None) if title is not None else None
        where = {item.get("id"): item.get("href", "") for item in package.iter(f"{_OPF}item")}
        folder = posixpath.dirname(package_path)
        for number, reference in enumerate(package.iter(f"{_OPF}itemref"), start=1):
            if number > MAX_CHAPTERS:
                break
            href = unquote(where.get(reference.get("idref")) or "").partition("#")[0]
            chapter = read_part(opened, posixpath.normpath(posixpath.join(folder, href)), limit=MAX_CHAPTER)
            if chapter is not None:
                _add_chapter(out, chapter, number)
    return out.build(pages_apart=True)


def _add_chapter(out: TextBuilder, page: bytes, number: int) -> None:
    try:
        chapter = extract_html(page)
    except DocumentWithoutText:
        return  # a cover
    for block in chapter.blocks:
        text = chapter.text[block.start : block.end]
        if block.kind == "heading":
            text = text.lstrip("# ")
        elif block.kind == "list":
            text = text.removeprefix("- ")
        out.add(block.kind, text, level=block.level, page=number, verbatim=block.kind == "code")

"""OpenDocument texts (ODT): headings, lists and tables, in reading order."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from stonechat.errors import DocumentUnreadable
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import TextBuilder
from stonechat.knowledge.extractors.office import open_zip, read_part

_TEXT = "{urn:oasis:names:tc:opendocument:xmlns:text:1.0}"
_TABLE = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}"
_OFFICE = "{urn:oasis:names:tc:opendocument:xmlns:office:1.0}"
_DC_TITLE = "{http://purl.org/dc/elements/1.1/}title"
_NOT_TEXT = frozenset({f"{_TEXT}note", f"{_OFFICE}annotation", f"{_TEXT}tracked-changes"})


def parse_xml(data: bytes) -> ET.Element:
    """An XML document without a document type: nothing in it can name or repeat an entity."""
    if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data:
        raise DocumentUnreadable("This file declares entities of its own, which are not read.")
    try:
        return ET.fromstring(data)  # noqa: S314  no entities, and a child process with limits
    except ET.ParseError:
        raise DocumentUnreadable("This file is damaged and cannot be read.") from None


def extract_odt(data: bytes) -> Extracted:
    """An OpenDocument text."""
    with open_zip(data) as opened:
        content, meta = read_part(opened, "content.xml"), read_part(opened, "meta.xml")
    if content is None:
        raise DocumentUnreadable("This file is damaged and cannot be read.")
    out = TextBuilder()
    if meta is not None and (title := parse_xml(meta).find(f".//{_DC_TITLE}")) is not None:
        out.title = (title.text or "").strip() or None
    body = parse_xml(content).find(f"{_OFFICE}body/{_OFFICE}text")
    if body is not None:
        _walk(out, body)
    return out.build()


def _walk(out: TextBuilder, root: ET.Element) -> None:
    stack = [(child, False) for child in reversed(root)]
    while stack:
        node, listed = stack.pop()
        if node.tag in _NOT_TEXT:
            continue
        if node.tag == f"{_TEXT}h":
            level = node.get(f"{_TEXT}outline-level", "1")
            out.add("heading", _text(node), level=min(int(level), 6) if level.isdigit() else 1)
        elif node.tag == f"{_TEXT}p":
            out.add("list" if listed else "paragraph", _text(node))
        elif node.tag == f"{_TABLE}table":
            _add_table(out, node)
        else:
            listed = listed or node.tag == f"{_TEXT}list-item"
            stack.extend((child, listed) for child in reversed(node))


def _add_table(out: TextBuilder, table: ET.Element) -> None:
    for number, row in enumerate(table.iter(f"{_TABLE}table-row")):
        cells = [" ".join(_text(cell).split()) for cell in row.findall(f"{_TABLE}table-cell")]
        if any(cells):
            out.add("table", " | ".join(cells), level=1 if number == 0 else 0)


def _text(node: ET.Element) -> str:
    """The text below a node. Without recursion, so that depth costs nothing."""
    parts: list[str] = []
    stack: list[ET.Element | str] = [node]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            parts.append(each)
            continue
        if each is not node and each.tag in _NOT_TEXT:
            continue
        if each.tag == f"{_TEXT}s":
            count = each.get(f"{_TEXT}c", "1")
            parts.append(" " * min(int(count) if count.isdigit() else 1, 100))
        elif each.tag in (f"{_TEXT}tab", f"{_TEXT}line-break"):
            parts.append("\n" if each.tag.endswith("break") else " ")
        if each.tag == f"{_TEXT}p" and parts and each is not node:
            parts.append("\n")
        parts.append(each.text or "")
        for child in reversed(each):
            stack.append(child.tail or "")
            stack.append(child)
    return "".join(parts)

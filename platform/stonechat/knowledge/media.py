"""What a file is, by its content. A name only chooses between kinds of text, which content cannot tell apart."""

from __future__ import annotations

import re
from enum import StrEnum

from stonechat.errors import UnsupportedMediaType


class MediaType(StrEnum):
    """The kinds of document that can be read."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    HTML = "text/html"
    PDF = "application/pdf"
    FAQ = "application/vnd.stonechat.faq+json"
    """Question-answer pairs, `[{"question", "answer"}]`; made by us, never detected."""


_PDF_WITHIN = 1024
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive or an Office file"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"GIF8", "an image"),
    (b"II*\x00", "an image"),
    (b"MM\x00*", "an image"),
    (b"RIFF", "a sound, a film or an image"),
    (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"),
    (b"{\\rtf", "a rich-text (RTF) file"),
    (b"%!PS", "a PostScript file"),
    (b"OggS", "a sound or a film"),
    (b"ID3", "a sound"),
    (b"SQLite format 3\x00", "a database"),
)
_HTML = re.compile(r"<!doctype\s+html|<html[\s>]|<head[\s>]|<body[\s>]", re.IGNORECASE)
_TAGS = re.compile(r"</(?:p|div|h[1-6]|ul|table|article|section)\s*>", re.IGNORECASE)
_MARKDOWN = re.compile(r"^(?:#{1,6} \S|```|\s{0,3}[-*+] \[[ x]\]|\|.*\|\s*$|\[[^\]]+\]:\s)", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]+\]\([^)\s]+\)")
_PROBE = 64 * 1024
_MAX_CONTROL_SHARE = 0.005


def detect(data: bytes, filename: str | None = None) -> MediaType:
    """The type of a file's content; raises `UnsupportedMediaType` with a sentence about what it seems to be."""
    if b"%PDF-" in data[:_PDF_WITHIN]:
        return MediaType.PDF
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            raise _refusal(filename, kind)
    text = decode(data[:_PROBE], whole=len(data) <= _PROBE)
    if text is None:
        raise _refusal(filename, "a binary file")
    suffix = (filename or "").lower().rpartition(".")[2]
    named_html = suffix in {"html", "htm", "xhtml"}
    if _HTML.search(text[:4096]) and suffix not in {"md", "markdown"}:
        return MediaType.HTML
    if named_html and _TAGS.search(text):
        return MediaType.HTML
    if suffix in {"md", "markdown", "mdx"} or _MARKDOWN.search(text) or _LINK.search(text):
        return MediaType.MARKDOWN
    return MediaType.TEXT


def decode(data: bytes, *, whole: bool = True) -> str | None:
    """Text from bytes in UTF-8, UTF-16 or Windows-1252; None if it is none. `whole=False` forgives a cut at the end."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return _plausible(data.decode(encoding, errors="replace"))
    try:
        text = data.decode("utf-8") if whole else _cut(data).decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    return _plausible(text)


def _cut(data: bytes) -> bytes:
    """The bytes without a UTF-8 character that the end cuts in two."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] & 0xC0 == 0xC0:
            return data[:-back]
        if data[-back] < 0x80:
            break
    return data


def _plausible(text: str) -> str | None:
    strange = sum(
        1 for character in text if (character < " " and character not in "\t\n\r\f\x1b") or character == "\ufffd"
    )
    return None if strange > _MAX_CONTROL_SHARE * len(text) else text


def _refusal(filename: str | None, kind: str) -> UnsupportedMediaType:
    named = f"“{filename}” is" if filename else "This is"
    return UnsupportedMediaType(
        f"{named} {kind}, which cannot be read yet. Upload a PDF, a web page (HTML), Markdown or plain text."
    )

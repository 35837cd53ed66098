"""What a file is, by its content. A name only chooses between kinds of text, which content cannot tell apart."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath

from stonechat.errors import UnsupportedMediaType


class MediaType(StrEnum):
    """The kinds of document that can be read."""

    TEXT = "text/plain"
    MARKDOWN = "text/markdown"
    RST = "text/x-rst"
    HTML = "text/html"
    PDF = "application/pdf"
    DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    ODT = "application/vnd.oasis.opendocument.text"
    EPUB = "application/epub+zip"
    RTF = "application/rtf"
    EML = "message/rfc822"
    CSV = "text/csv"
    TSV = "text/tab-separated-values"
    JSON = "application/json"
    VTT = "text/vtt"
    SRT = "application/x-subrip"
    CODE = "text/x-source"
    """Source code and configuration of any language."""
    ARCHIVE = "application/zip"
    """A ZIP of documents, each of which becomes one."""
    FAQ = "application/vnd.stonechat.faq+json"
    """Question-answer pairs, `[{"question", "answer"}]`; made by us, never detected."""


_PDF_WITHIN = 1024
_MAGIC: tuple[tuple[bytes, str], ...] = (
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
    (b"%!PS", "a PostScript file"),
    (b"OggS", "a sound or a film"),
    (b"ID3", "a sound"),
    (b"SQLite format 3\x00", "a database"),
)
_INSIDE_ZIP: tuple[tuple[bytes, MediaType], ...] = (
    (b"word/document.xml", MediaType.DOCX),
    (b"ppt/presentation.xml", MediaType.PPTX),
    (b"xl/workbook.xml", MediaType.XLSX),
)
"""Names that a ZIP's directory holds uncompressed."""
_BY_SUFFIX: dict[str, MediaType] = {
    "rst": MediaType.RST,
    "csv": MediaType.CSV,
    "tsv": MediaType.TSV,
    "tab": MediaType.TSV,
    "json": MediaType.JSON,
    "jsonl": MediaType.JSON,
    "ndjson": MediaType.JSON,
    "srt": MediaType.SRT,
    "eml": MediaType.EML,
} | dict.fromkeys(
    [
        "py",
        "pyi",
        "js",
        "mjs",
        "cjs",
        "ts",
        "tsx",
        "jsx",
        "java",
        "kt",
        "kts",
        "c",
        "h",
        "cc",
        "cpp",
        "hpp",
        "cs",
        "go",
        "rs",
        "rb",
        "php",
        "swift",
        "scala",
        "sh",
        "bash",
        "zsh",
        "ps1",
        "sql",
        "r",
        "lua",
        "pl",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "conf",
        "xml",
        "css",
        "scss",
        "less",
        "proto",
        "graphql",
        "tf",
        "dart",
        "ex",
        "exs",
        "erl",
        "hs",
        "clj",
        "vue",
        "svelte",
    ],
    MediaType.CODE,
)
"""Kinds of text that only a name tells apart."""
_MAIL = re.compile(
    r"\A(?:(?:From|To|Date|Subject|Received|Return-Path|Delivered-To|MIME-Version|Message-ID|Content-Type|X-[\w-]+|"
    r"DKIM-Signature|Reply-To)(?:: |:\t).*\r?\n(?:[ \t].*\r?\n)*){3}",
    re.IGNORECASE,
)
_SUBTITLES = re.compile(r"\A\s*1\s*\r?\n\d{2}:\d{2}:\d{2},\d{3} --> ")
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
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data, filename)
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"{\\rtf"):
        return MediaType.RTF
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            raise _refusal(filename, kind)
    text = decode(data[:_PROBE], whole=len(data) <= _PROBE)
    if text is None:
        raise _refusal(filename, "a binary file")
    return _kind_of_text(text, (filename or "").lower().rpartition(".")[2])


def _kind_of_text(text: str, suffix: str) -> MediaType:
    start = text.lstrip("\ufeff")
    if start.startswith("WEBVTT"):
        return MediaType.VTT
    if (named := _BY_SUFFIX.get(suffix)) is not None:
        return named
    if _looks_like_html(text, suffix):
        return MediaType.HTML
    for pattern, media_type in ((_SUBTITLES, MediaType.SRT), (_MAIL, MediaType.EML)):
        if pattern.match(start):
            return media_type
    if suffix in {"md", "markdown", "mdx"} or _MARKDOWN.search(text) or _LINK.search(text):
        return MediaType.MARKDOWN
    return MediaType.TEXT


def _looks_like_html(text: str, suffix: str) -> bool:
    if suffix in {"md", "markdown"}:
        return False
    return bool(_HTML.search(text[:4096]) or (suffix in {"html", "htm", "xhtml"} and _TAGS.search(text)))


def _zipped(data: bytes, filename: str | None) -> MediaType:
    """What a ZIP is. Its directory is not read here: one with a million entries would be costly."""
    first = data[30:128]
    if first.startswith(b"mimetypeapplication/epub+zip"):
        return MediaType.EPUB
    if first.startswith(b"mimetypeapplication/vnd.oasis.opendocument.text"):
        return MediaType.ODT
    for name, media_type in _INSIDE_ZIP:
        if name in data:
            return media_type
    if PurePosixPath(filename or "").suffix.lower() not in {"", ".zip"}:
        raise _refusal(filename, "a ZIP archive that does not say so in its name")
    return MediaType.ARCHIVE


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
        f"{named} {kind}, which cannot be read. Upload a PDF, an Office or OpenDocument file, a web page, a table (CSV), an e-book, a mail, Markdown or plain text, or a ZIP of these."
    )

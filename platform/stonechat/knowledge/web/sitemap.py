"""Sitemaps (sitemaps.org): XML, plain text, index files, gzipped or not. Runs in the child that reads documents."""

from __future__ import annotations

import zlib
from typing import Any
from xml.parsers import expat

from stonechat.errors import DocumentUnreadable

MAX_UNPACKED = 50 * 1024 * 1024
"""The protocol's own limit."""
MAX_ENTRIES = 20_000
MAX_LOCATION = 2000
_NONE = (
    "This is not a sitemap. A sitemap is an XML file that lists a site's pages, often at /sitemap.xml; "
    "to read a page and what it links to, add it as a web site instead."
)


def sitemap_entries(data: bytes) -> dict[str, Any]:
    """`{"pages": [...], "sitemaps": [...]}`, as written. Raises `DocumentUnreadable`, also for a file with a DOCTYPE."""
    data = _unpacked(data)
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        return {"pages": _lines(data), "sitemaps": []}
    reader = _Reader()
    try:
        reader.read(data)
    except expat.ExpatError:
        # What is cut off or broken half-way still names pages; what names none was no sitemap.
        if not reader.found["url"] and not reader.found["sitemap"]:
            raise DocumentUnreadable(_NONE) from None
    if not reader.is_sitemap:
        raise DocumentUnreadable(_NONE)
    return {"pages": reader.found["url"], "sitemaps": reader.found["sitemap"]}


def _unpacked(data: bytes) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    try:
        return zlib.decompressobj(wbits=31).decompress(data, MAX_UNPACKED)
    except zlib.error:
        raise DocumentUnreadable("This sitemap is compressed, and damaged.") from None


def _lines(data: bytes) -> list[str]:
    found = [line.strip() for line in data.decode("utf-8", errors="replace").splitlines()[:MAX_ENTRIES] if line.strip()]
    if not found or not all(line.startswith(("http://", "https://")) for line in found):
        raise DocumentUnreadable(_NONE)
    return [line for line in found if len(line) <= MAX_LOCATION]


class _Reader:
    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {"url": [], "sitemap": []}
        self.is_sitemap = False
        self._path: list[str] = []
        self._text: list[str] | None = None
        self._parser = expat.ParserCreate(namespace_separator=" ")
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters

    def read(self, data: bytes) -> None:
        self._parser.Parse(data, True)

    def _refuse(self, *_: object) -> None:
        raise DocumentUnreadable(_NONE)  # sitemaps have none, web pages and bombs of entities do

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        tag = name.rpartition(" ")[2].lower()
        if not self._path:
            self.is_sitemap = tag in ("urlset", "sitemapindex")
        self._path.append(tag)
        if len(self._path) > 20:
            raise DocumentUnreadable(_NONE)
        if self._path[1:] in (["url", "loc"], ["sitemap", "loc"]):
            self._text = []

    def _end(self, _name: str) -> None:
        above = self._path[-2] if len(self._path) > 1 else ""
        self._path.pop()
        if self._text is None:
            return
        location = "".join(self._text).strip()
        self._text = None
        entries = self.found[above]
        if location and len(location) <= MAX_LOCATION and len(entries) < MAX_ENTRIES:
            entries.append(location)

    def _characters(self, text: str) -> None:
        if self._text is not None and sum(map(len, self._text)) <= MAX_LOCATION:
            self._text.append(text)

"""One request to a site, and robots.txt before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from stonechat.errors import PayloadTooLarge, StonechatError
from stonechat.knowledge.web.access import USER_AGENT, WebAccess
from stonechat.knowledge.web.robots import MAX_BYTES, Robots, parse_robots
from stonechat.knowledge.web.urls import MAX_URL
from stonechat.outbound.client import CEILING_BYTES, OutboundStream

REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HTML = frozenset({"text/html", "application/xhtml+xml"})
_FILES = re.compile(
    r"application/(?:pdf|x-pdf|rtf|epub\+zip|msword|octet-stream|vnd\.openxmlformats-officedocument\.[\w.]+|"
    r"vnd\.oasis\.opendocument\.text)|text/(?:plain|markdown|x-markdown|rtf|csv|tab-separated-values|x-rst)"
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset", re.IGNORECASE)
_MAX_TAG = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """What a site answered. `body` is None where it was not asked for or is not worth reading."""

    status: int
    body: bytes | None = None
    is_html: bool = False
    location: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    robots: tuple[str, ...] = ()
    """Values of X-Robots-Tag."""
    media_type: str = ""
    retry_after: float | None = None


async def fetch(
    web: WebAccess, url: str, *, etag: str | None = None, last_modified: str | None = None, sitemap: bool = False
) -> Answer:
    """Ask for a page. Redirects are answers. Raises what `OutboundClient.stream` does."""
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": "application/xml,text/xml,text/plain;q=0.9,*/*;q=0.5"
        if sitemap
        else "text/html,application/xhtml+xml,application/pdf;q=0.9,*/*;q=0.5",
    }
    if etag:
        headers["If-None-Match"] = etag
    if last_modified:
        headers["If-Modified-Since"] = last_modified
    stream = web.client.stream(
        "GET", url, headers=headers, max_bytes=web.pace.file, timeout=web.pace.page, allow_http=True
    )
    async with stream as answer:
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        is_html = media_type in _HTML or (not media_type and not sitemap)
        body = None
        if answer.status == 200 and (sitemap or is_html or _FILES.fullmatch(media_type)):
            body = await _body(answer, limit=web.pace.html if is_html and not sitemap else web.pace.file)
            if is_html and not sitemap:
                body = _with_charset(body, answer.headers.get("content-type", ""))
        return Answer(
            answer.status,
            body,
            is_html,
            location=answer.headers.get("location") if answer.status in REDIRECTS else None,
            etag=_tag(answer.headers.get("etag")),
            last_modified=_tag(answer.headers.get("last-modified")),
            robots=tuple(answer.headers.get_list("x-robots-tag")[:20]),
            media_type=media_type[:200],
            retry_after=_seconds(answer.headers.get("retry-after", "")),
        )


async def _body(answer: OutboundStream, *, limit: int) -> bytes:
    announced = answer.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise PayloadTooLarge(f"This page is larger than {limit // 1_000_000} MB.")
    pieces, received = [], 0
    async for piece in answer.aiter_bytes():
        received += len(piece)
        if received > limit:
            raise PayloadTooLarge(f"This page is larger than {limit // 1_000_000} MB.")
        pieces.append(piece)
    return b"".join(pieces)


def _with_charset(body: bytes, content_type: str) -> bytes:
    """A page that does not name its encoding itself, in UTF-8 with a mark, if only the header names it."""
    named = re.search(r"charset\s*=\s*[\"']?([\w.:-]{3,40})", content_type, re.IGNORECASE)
    if named is None or named[1].lower() in ("utf-8", "utf8") or _META_CHARSET.search(body[:4096]):
        return body
    try:
        return body.decode(named[1], errors="replace").encode("utf-8-sig")
    except (LookupError, UnicodeError):
        return body


def _tag(value: str | None) -> str | None:
    return value if value and len(value) <= _MAX_TAG and value.isascii() and value.isprintable() else None


def _seconds(value: str) -> float | None:
    return float(value) if value.isdecimal() and len(value) < 9 else None


def filename_of(url: str) -> str:
    """What a file behind an address is called."""
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    return "".join(character for character in name if character.isprintable())[:255]


class RobotsUnreachable(Exception):
    """The site's robots.txt could not be read, so that nothing may be fetched now (RFC 9309, 2.3.1.4)."""


async def fetch_robots(web: WebAccess, origin: str) -> Robots:
    """What the site's robots.txt says; a site without one (4xx) allows everything. Raises `RobotsUnreachable`."""
    url = f"{origin}/robots.txt"
    try:
        stream = web.client.stream(
            "GET",
            url,
            headers={"User-Agent": USER_AGENT, "Accept": "text/plain,*/*;q=0.5"},
            max_bytes=CEILING_BYTES,
            timeout=web.pace.page,
            follow_redirects=5,
            allow_http=True,
        )
        async with stream as answer:
            if 400 <= answer.status < 500 and answer.status != 429:
                return Robots()
            if not 200 <= answer.status < 300:
                raise RobotsUnreachable(f"{url[:MAX_URL]} answers with an error ({answer.status}).")
            received = b""
            async for piece in answer.aiter_bytes():
                received += piece
                if len(received) >= MAX_BYTES:
                    break
            return parse_robots(received)
    except StonechatError as error:
        raise RobotsUnreachable(str(error)) from None

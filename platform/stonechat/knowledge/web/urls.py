"""Addresses of pages: one spelling each, and which of them belong to a source."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urljoin, urlsplit

from stonechat.errors import TargetNotAllowed
from stonechat.outbound.targets import DEFAULT_PORTS, parse_target

MAX_URL = 2000
MAX_SEGMENTS = 20
MAX_REPEATS = 3
"""Times that one segment may stand in a path: `/a/b/a/b/a/b/a/b` is a link that leads into itself."""
MAX_PARAMETERS = 8

_TRACKING = re.compile(
    r"(?:utm_\w+|mtm_\w+|pk_\w+|hsa_\w+|_hs\w+|gclid|gclsrc|dclid|gbraid|wbraid|fbclid|msclkid|yclid|twclid|ttclid|igshid|"
    r"mc_[ce]id|_ga|_gl|vero_id|oly_(?:anon|enc)_id|phpsessid|jsessionid|aspsessionid\w*|sid|session_?id)",
    re.IGNORECASE,
)
_SESSION_IN_PATH = re.compile(r";(?:jsessionid|phpsessid|sid)=[^/;]*", re.IGNORECASE)
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})|%")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_UNREAD = re.compile(
    r"\.(?:png|jpe?g|gif|webp|avif|svg|ico|bmp|tiff?|heic|mp[34]|m4[av]|webm|ogg|og[av]|wav|flac|avi|mov|mkv|css|m?js|map|"
    r"woff2?|ttf|otf|eot|zip|gz|tgz|bz2|xz|7z|rar|exe|msi|dmg|pkg|deb|rpm|apk|iso|jar|wasm|ics|vcf|rss|atom|xml|json|psd|ai)\Z",
    re.IGNORECASE,
)


def normal_escapes(text: str) -> str:
    """Percent-encoding in its normal form (RFC 3986, 6.2.2): upper case, and only where it is needed."""
    return _ESCAPE.sub(_normal_escape, text)


def _normal_escape(found: re.Match[str]) -> str:
    if found[1] is None:
        return "%25"
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else f"%{found[1].upper()}"


def normalise(url: str, *, base: str | None = None) -> str | None:
    """The one spelling of a page's address, without fragment, tracking and session; None for what cannot be fetched."""
    url = re.sub(r"[\t\r\n]", "", url.strip())
    if not url or len(url) > MAX_URL:
        return None
    try:
        joined = urljoin(base, url) if base is not None else url
        target = parse_target(
            joined.replace(" ", "%20"), allow_http=True, allow_private_names=True, ports=range(1, 65536)
        )
        parts = urlsplit(target.url)
    except (TargetNotAllowed, ValueError):
        return None
    path = _without_dots(normal_escapes(_SESSION_IN_PATH.sub("", parts.path)))
    query = "&".join(
        parameter
        for parameter in normal_escapes(parts.query).split("&")
        if parameter and not _TRACKING.fullmatch(parameter.partition("=")[0])
    )
    normal = f"{parts.scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")
    return normal if len(normal) <= MAX_URL else None


def _without_dots(path: str) -> str:
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept) or "/"


def leads_astray(url: str) -> bool:
    """Whether an address looks like one of an endless number: too deep, repeating itself, or laden with parameters."""
    parts = urlsplit(url)
    segments = parts.path.split("/")[1:]
    return (
        len(segments) > MAX_SEGMENTS
        or max(Counter(segments).values(), default=0) > MAX_REPEATS
        or parts.query.count("&") >= MAX_PARAMETERS
    )


def is_worth_a_look(url: str) -> bool:
    """Whether the name of what a link leads to lets one hope for text."""
    return _UNREAD.search(urlsplit(url).path) is None


def without_query(url: str) -> str:
    """What all variants of a page share."""
    return url.partition("?")[0]


def host_of(url: str) -> tuple[str, int | None]:
    """Host without `www.`, and port, None for the usual ones: what tells one site from another."""
    parts = urlsplit(url)
    host = (parts.hostname or "").removeprefix("www.")
    usual = parts.port is None or parts.port == DEFAULT_PORTS.get(parts.scheme)
    return host, None if usual else parts.port


def same_page(one: str, other: str) -> bool:
    """Whether two addresses differ only in what sites hand out both ways: scheme, `www.`, a slash at the end."""
    return _plain(one) == _plain(other)


def _plain(url: str) -> tuple[tuple[str, int | None], str, str]:
    parts = urlsplit(url)
    return host_of(url), parts.path.rstrip("/"), parts.query


@dataclass(frozen=True, slots=True)
class Scope:
    """What belongs to a source: pages of one host, below a prefix, but for what is left out."""

    host: tuple[str, int | None]
    prefix: str
    exclude: tuple[str, ...] = ()

    @classmethod
    def of(cls, kind: Literal["url", "sitemap", "site"], url: str, *, exclude: tuple[str, ...] = ()) -> Scope:
        """For a single page and a sitemap: their host. For a site: what lies below its address."""
        return cls(host_of(url), prefix_of(url) if kind == "site" else "/", exclude)

    def holds(self, url: str) -> bool:
        """Whether the page at this (normal) address belongs to it."""
        path = urlsplit(url).path
        return (
            host_of(url) == self.host
            and _below(path, self.prefix)
            and not any(_below(path, left_out) for left_out in self.exclude)
        )


def prefix_of(url: str) -> str:
    """What a crawl that begins at `url` stays below: `/docs/a.html` → `/docs/`, `/docs` → `/docs`."""
    path = urlsplit(url).path
    last = path.rpartition("/")[2]
    return path[: len(path) - len(last)] if "." in last else path


def _below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix if prefix.endswith("/") else prefix + "/")

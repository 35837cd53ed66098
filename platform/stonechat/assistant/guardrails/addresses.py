"""Which addresses may stand in an answer. What cannot be read with certainty may not."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import idna

_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_PLAIN_CONTACT = re.compile(r"(?:mailto:[^\s?&#]{1,254}|tel:[+\d().\-]{3,40})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Addresses:
    """The rule for links or for pictures. `sources` gives the hosts that the turn's own material comes from."""

    mode: Literal["any", "sources", "listed", "none"]
    hosts: tuple[str, ...] = ()
    sources: Callable[[], Collection[str]] = tuple

    def allow(self, written: str) -> bool:
        """Whether this destination, as written in Markdown or HTML, may stay."""
        if self.mode == "any":
            return True
        address = html.unescape(_ESCAPED.sub(r"\1", written.strip().removeprefix("<").removesuffix(">")))
        if address.startswith("#") or _PLAIN_CONTACT.fullmatch(address):
            return self.mode != "none" and address.isprintable()
        host = host_of(address)
        if host is None or self.mode == "none":
            return False
        allowed = [*self.hosts, *self.sources()] if self.mode == "sources" else self.hosts
        return any(_covers(pattern, host) for pattern in allowed)


def host_of(address: str) -> str | None:
    """The host that a browser would ask for an http(s) address; None for anything else, and for what is in doubt."""
    address = address.replace("\\", "/")  # as browsers read it
    if address[:4].lower() == "www.":
        address = f"http://{address}"
    if address.startswith("//"):
        address = f"https:{address}"
    if not address.isprintable() or any(character.isspace() for character in address):
        return None
    scheme = _SCHEME.match(address)
    if scheme is None or scheme[0].lower() not in ("http:", "https:") or not address[scheme.end() :].startswith("//"):
        return None
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return None
    if "@" in parts.netloc or "%" in parts.netloc:
        return None
    try:
        name = idna.encode(host.rstrip("."), uts46=True).decode()
    except idna.IDNAError:
        return None
    return name.lower() or None


def looks_like_address(written: str) -> bool:
    """Whether a link's definition with this destination would lead somewhere else."""
    address = html.unescape(_ESCAPED.sub(r"\1", written.removeprefix("<"))).replace("\\", "/")
    return _SCHEME.match(address) is not None or address.startswith(("/", "www.")) or "//" in address


def _covers(pattern: str, host: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:])
    return host == pattern.lower()

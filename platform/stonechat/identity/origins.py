"""Origins: which sites may show a domain key's chat. `https://shop.example`, or `https://*.example.com` for any depth below.

Origins are kept in the form in which browsers send them (lower case, punycode, no default port), so that matching is
comparing, and so that the list can stand in a `frame-ancestors` directive as it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Literal

import idna

from stonechat.errors import InvalidInput
from stonechat.settings import Settings

Environment = Literal["development", "staging", "production"]
MAX_ORIGINS = 100
MAX_ORIGIN_CHARACTERS = 300

_ORIGIN = re.compile(r"(?P<scheme>[a-z]+)://(?P<host>[^/?#@:\[\]\\\s]+)(?::(?P<port>[0-9]{1,5}))?", re.ASCII)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def normalise_origins(origins: Sequence[str], *, environment: Environment) -> list[str]:
    """The list as it is stored: each in canonical form, once, in the given order.

    Raises `InvalidInput` naming each entry at fault.
    """
    if len(origins) > MAX_ORIGINS:
        raise InvalidInput(f"A domain key takes at most {MAX_ORIGINS} origins.")
    found: dict[str, None] = {}
    faults = []
    for index, origin in enumerate(origins):
        try:
            found[normalise_origin(origin, environment=environment)] = None
        except InvalidInput as fault:
            faults.append({"field": f"origins.{index}", "message": str(fault)})
    if faults:
        raise InvalidInput("Correct the origins: each is like https://shop.example.", errors=faults)
    return list(found)


def normalise_origin(text: str, *, environment: Environment) -> str:
    """The canonical form of an origin for a domain key's list; raises `InvalidInput` with a sentence about it."""
    cleaned = text.strip().lower().removesuffix("/")
    if len(text) > MAX_ORIGIN_CHARACTERS:
        raise InvalidInput("This is too long for an origin.")
    match = _ORIGIN.fullmatch(cleaned)
    if match is None:
        raise InvalidInput(_complaint(cleaned))
    scheme, host, port = match["scheme"], match["host"], match["port"]
    if scheme not in _DEFAULT_PORTS:
        raise InvalidInput("An origin starts with https://.")
    wildcard = host.startswith("*.")
    canonical = _canonical_host(host.removeprefix("*."))
    if canonical is None:
        raise InvalidInput(
            "A star may only stand for everything before the first dot, as in https://*.example.com."
            if "*" in host
            else "This is not a host name."
        )
    if wildcard and ("." not in canonical or _is_ipv4(canonical)) and canonical != "localhost":
        raise InvalidInput("A star needs a domain of your own after it, as in https://*.example.com.")
    if scheme == "http" and environment != "development" and not is_local_host(canonical):
        raise InvalidInput("Use https://. Plain http:// is for localhost and for keys of a development environment.")
    return _join(scheme, f"*.{canonical}" if wildcard else canonical, port)


@lru_cache(maxsize=4096)
def parse_origin(header: str) -> str | None:
    """The canonical form of an `Origin` header; None for `null` and for whatever else is not an exact web origin."""
    match = _ORIGIN.fullmatch(header.lower()) if len(header) <= MAX_ORIGIN_CHARACTERS else None
    if match is None or match["scheme"] not in _DEFAULT_PORTS:
        return None
    host = _canonical_host(match["host"])
    try:
        return _join(match["scheme"], host, match["port"]) if host is not None else None
    except InvalidInput:
        return None


def patterns_for(origin: str) -> list[str]:
    """Every entry that would admit this canonical origin: itself, and a star at each level above it."""
    scheme, _, rest = origin.partition("://")
    host, colon, port = rest.partition(":")
    if _is_ipv4(host):
        return [origin]
    labels = host.split(".")
    return [origin] + [f"{scheme}://*.{'.'.join(labels[n:])}{colon}{port}" for n in range(1, len(labels))]


def is_allowed(origin: str, allowed: Collection[str]) -> bool:
    """Whether a canonical origin (see `parse_origin`) is on a domain key's list."""
    return any(pattern in allowed for pattern in patterns_for(origin))


def platform_origins(settings: Settings) -> frozenset[str]:
    """The origins under which the platform itself is met. On a developer's machine that has several names."""
    public = parse_origin(settings.public_url)
    if public is None:
        raise ValueError(f"STONECHAT_PUBLIC_URL must be an origin, without a path: {settings.public_url}")
    scheme, _, rest = public.partition("://")
    host, colon, port = rest.partition(":")
    names = ("localhost", "127.0.0.1") if not settings.is_production and is_local_host(host) else ()
    return frozenset({public, *(f"{scheme}://{name}{colon}{port}" for name in names)})


def is_local_host(host: str) -> bool:
    """Whether a canonical host is this machine by its name alone."""
    return host == "localhost" or host.endswith(".localhost") or (_is_ipv4(host) and IPv4Address(host).is_loopback)


def _complaint(cleaned: str) -> str:
    scheme, separator, rest = cleaned.partition("://")
    if not separator or not scheme.isalpha():
        return "An origin starts with https://, as in https://shop.example."
    if rest in ("*", ""):
        return "A star alone would let every site in. Name your sites."
    if "[" in rest:
        return "Use a name instead of an IPv6 address: browsers do not take one here."
    if re.search(r"[/?#]", rest):
        return "Leave the path out: an origin ends after the host and port."
    if "@" in rest:
        return "Leave the user name out: an origin has none."
    return "This is not an origin: write it like https://shop.example."


def _canonical_host(host: str) -> str | None:
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError):
            return None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # Browsers read a host whose last label is a number as an IPv4 address, in forms of their own.
    if (labels[-1].isdigit() or labels[-1].startswith("0x")) and not _is_ipv4(host):
        return None
    return host


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _join(scheme: str, host: str, port: str | None) -> str:
    if port is None or int(port) == _DEFAULT_PORTS[scheme]:
        return f"{scheme}://{host}"
    if not 1 <= int(port) <= 65535:
        raise InvalidInput("A port is a number from 1 to 65535.")
    return f"{scheme}://{host}:{int(port)}"

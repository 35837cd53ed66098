"""Reading a URL that somebody else wrote: one strict meaning, or none.

Parsers disagree about odd URLs, and every disagreement is a way in: so what is odd is refused, and what is left is put
together again from its parts. The checks that count are made on the addresses connected to (`addresses.py`); these
make sure that the name checked, the name connected to, and the name a person read are one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass
from ipaddress import IPv6Address

import httpx2
import idna

from stonechat.errors import TargetNotAllowed
from stonechat.outbound.addresses import literal

MAX_URL_CHARACTERS = 4096
MAX_HOST_CHARACTERS = 253
DEFAULT_PORTS = {"https": 443, "http": 80}
ALLOWED_PORTS = frozenset({80, 443, *range(8000, 9000)})
"""The web's ports and the usual ones beside them; not those of mail, databases, caches or shells."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)(?:#.*)?")
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[^\[\]:@%]{1,253}))(?::(?P<port>[0-9]{1,5}))?")
_ODD = re.compile(r"[\x00-\x20\x7f-\xa0\\\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff0-\uffff]")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_PRIVATE_SUFFIXES = (
    "localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home", "lan", "arpa", "onion",
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Where a request goes. `host` is ASCII in lower case, without brackets; `url` is canonical, without a fragment."""

    scheme: str
    host: str
    port: int
    url: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Two targets with the same origin may be told the same secrets."""
        return self.scheme, self.host, self.port


def parse_target(
    url: str, *, allow_http: bool = False, allow_private_names: bool = False, ports: Container[int] = ALLOWED_PORTS
) -> Target:
    """Read `url`, or raise `TargetNotAllowed` with a sentence saying what is wrong with it. Resolves nothing."""
    if not isinstance(url, str) or len(url) > MAX_URL_CHARACTERS:
        raise TargetNotAllowed(f"An address has at most {MAX_URL_CHARACTERS} characters.")
    match = _URL.fullmatch(url)
    if match is None or _ODD.search(url):
        raise TargetNotAllowed(
            "This is not an absolute web address. Write it in full, such as https://example.com/path."
        )
    scheme = match["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and allow_http):
        raise TargetNotAllowed("The address must start with https://" + (" or http://." if allow_http else "."))
    if "@" in match["authority"]:
        raise TargetNotAllowed("The address must not hold a user name or a password.")
    authority = _AUTHORITY.fullmatch(match["authority"])
    if authority is None:
        raise TargetNotAllowed("The address needs a plain host name, with at most a port after it.")
    host = _ipv6(authority["ipv6"]) if authority["ipv6"] else _name(authority["name"], allow_private_names)
    port = int(authority["port"]) if authority["port"] else DEFAULT_PORTS[scheme]
    if port not in ports:
        raise TargetNotAllowed(f"Port {port} is not one that requests may go to.")
    return Target(scheme, host, port, _rebuild(scheme, host, port, match["rest"]))


def _ipv6(text: str) -> str:
    try:
        return IPv6Address(text).compressed
    except ValueError:
        raise TargetNotAllowed("The address between the brackets is not an IPv6 address.") from None


def _name(text: str, allow_private_names: bool) -> str:
    host = text.lower() if text.isascii() else _idn(text)
    if literal(host) is not None:
        return host
    labels = host.split(".")
    if labels[-1].isdigit() or re.fullmatch("0x[0-9a-f]*", labels[-1]):
        raise TargetNotAllowed("An IPv4 address is written as four decimal numbers without leading zeros.")
    if len(host) > MAX_HOST_CHARACTERS or not all(_LABEL.fullmatch(label) for label in labels):
        raise TargetNotAllowed("The host name is not a valid one.")
    if any(label.startswith("xn--") for label in labels):
        try:
            idna.decode(host, strict=True)
        except UnicodeError:
            raise TargetNotAllowed("The international host name is not a valid one.") from None
    if not allow_private_names and (len(labels) == 1 or labels[-1] in _PRIVATE_SUFFIXES):
        raise TargetNotAllowed("This name is of a private network, not of the public internet.")
    return host


def _idn(text: str) -> str:
    # Look-alikes that are folded into other characters (full-width digits and dots) are refused, not folded; `strict`
    # does the same for the ideographic full stop.
    if unicodedata.normalize("NFKC", text) != text:
        raise TargetNotAllowed("The host name holds characters that stand for others.")
    try:
        return idna.encode(text.lower(), strict=True, std3_rules=True).decode("ascii")
    except UnicodeError:
        raise TargetNotAllowed("The international host name is not a valid one.") from None


def _rebuild(scheme: str, host: str, port: int, rest: str) -> str:
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    path = rest if rest.startswith("/") else f"/{rest}"
    try:
        url = httpx2.URL(f"{scheme}://{shown}{suffix}{path}")
    except (httpx2.InvalidURL, UnicodeError):
        raise TargetNotAllowed("This is not a web address in a form that can be relied on.") from None
    if (url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS[scheme]) != (scheme, host, port):
        raise TargetNotAllowed("This web address can be read in two ways.")
    return str(url)

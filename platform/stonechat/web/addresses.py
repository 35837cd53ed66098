"""Who is really asking: the client's address, through the proxies that the settings trust and no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.requests import HTTPConnection
from starlette.types import Scope

Network = IPv4Network | IPv6Network
MAX_HOPS = 20


@dataclass(frozen=True, slots=True)
class ClientAddress:
    """`host` is a normalised IP address, or `unknown` where the server has none (a Unix socket)."""

    host: str
    is_loopback: bool


UNKNOWN = ClientAddress("unknown", False)


def client_address(connection: HTTPConnection) -> ClientAddress:
    """The address that the middlewares found for this request."""
    found = connection.scope.get("state", {}).get("client_address")
    return found if isinstance(found, ClientAddress) else UNKNOWN


def resolve(scope: Scope, trusted: Sequence[Network]) -> tuple[ClientAddress, str]:
    """The client's address and scheme.

    `X-Forwarded-For` is read from the right, each entry believed only if the one that reported it is trusted: the first
    untrusted address is the client, and what stands left of it could be anyone's invention.
    """
    scheme: str = scope.get("scheme", "http")
    peer = _parse_peer(scope["client"][0]) if scope.get("client") else None
    if peer is None:
        return UNKNOWN, scheme
    if not trusted or not _within(peer, trusted):
        return ClientAddress(str(peer), peer.is_loopback), scheme
    forwarded = _values(scope, b"x-forwarded-for")
    client = peer
    for entry in list(reversed(forwarded))[:MAX_HOPS]:
        address = _parse(entry)
        if address is None:
            break
        client = address
        if not _within(address, trusted):
            break
    protocols = _values(scope, b"x-forwarded-proto")
    if protocols and protocols[-1].lower() in ("http", "https"):
        scheme = protocols[-1].lower()
    # A forwarded loopback address is the proxy's word about a stranger, never our own machine.
    return ClientAddress(str(client), client.is_loopback and client is peer), scheme


def _values(scope: Scope, name: bytes) -> list[str]:
    lines: Iterable[bytes] = (value for key, value in scope["headers"] if key == name)
    return [part.strip() for line in lines for part in line.decode("latin-1").split(",") if part.strip()]


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=4096)
def _parse_peer(text: str) -> IPv4Address | IPv6Address | None:
    """The same for peers only: `resolve` tells the peer from what was forwarded by its identity."""
    return _parse(text)


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)

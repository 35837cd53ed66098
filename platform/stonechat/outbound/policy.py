"""Where requests may go: the rules of one installation, and the one look-up before each connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor

from stonechat.errors import TargetNotAllowed, UpstreamFailed, UpstreamTimedOut
from stonechat.outbound.addresses import IPAddress, IPNetwork, is_public, literal
from stonechat.outbound.targets import ALLOWED_PORTS, Target, parse_target

RESOLVE_SECONDS = 5.0
MAX_ADDRESSES = 32

Resolver = Callable[[str], Awaitable[Sequence[str]]]
"""Host name to its addresses as text. Raises OSError when there are none."""

# Threads of our own: a slow name server must not use up those that everybody else's work runs on.
_threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="resolver")
_looking_up: dict[tuple[int, str], asyncio.Future[list[str]]] = {}
"""The look-ups under way, by loop and host: a hundred requests for a host that nobody knows take up one thread."""


async def system_resolver(host: str) -> list[str]:
    """The addresses that the system's resolver gives for `host`, in its order of preference."""
    loop = asyncio.get_running_loop()
    key = id(loop), host
    under_way = _looking_up.get(key)
    if under_way is None:
        under_way = loop.run_in_executor(_threads, _look_up, host)
        _looking_up[key] = under_way
        under_way.add_done_callback(lambda _done: _looking_up.pop(key, None))
    return await asyncio.shield(under_way)


def _look_up(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, family=socket.AF_UNSPEC, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Policy:
    """`allowed_networks` are private networks that requests may go to all the same, on any port: an operator's choice.

    With any of them, names of private networks (`ollama`, `localhost`) are looked up too; their addresses still have
    to be public or in those networks.
    """

    def __init__(
        self,
        *,
        resolver: Resolver = system_resolver,
        allowed_networks: Sequence[IPNetwork] = (),
        allowed_ports: Collection[int] = ALLOWED_PORTS,
    ) -> None:
        self._resolver = resolver
        self._networks = tuple(allowed_networks)
        self._ports = frozenset(allowed_ports)

    def target(self, url: str, *, allow_http: bool) -> Target:
        """Read a URL; raises `TargetNotAllowed`. Resolves nothing."""
        return parse_target(
            url,
            allow_http=allow_http,
            allow_private_names=bool(self._networks),
            ports=range(1, 65536) if self._networks else self._ports,
        )

    async def addresses(self, host: str, port: int) -> list[IPAddress]:
        """Where to connect for `host`, best first: resolved once, and allowed without exception.

        One private address among public ones refuses them all, for it is what a rebinding attack looks like.
        """
        spelt = literal(host)
        found = [spelt] if spelt is not None else await self._resolve(host)
        for address in found:
            if address.version == 6 and address.scope_id is not None:
                raise TargetNotAllowed(f"The address of {host} is not on the public internet.")
            if any(address in network for network in self._networks):
                continue
            if not is_public(address):
                raise TargetNotAllowed(f"The address of {host} is not on the public internet.")
            if port not in self._ports:
                raise TargetNotAllowed(f"Port {port} is not one that requests may go to.")
        return found

    async def _resolve(self, host: str) -> list[IPAddress]:
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                texts = await self._resolver(host)
        except TimeoutError:
            raise UpstreamTimedOut(f"The host name {host} could not be resolved in time.") from None
        except (OSError, UnicodeError):
            raise UpstreamFailed(f"The host name {host} could not be resolved.") from None
        if not texts:
            raise UpstreamFailed(f"The host name {host} could not be resolved.")
        addresses = [address for text in dict.fromkeys(texts) if (address := literal(text)) is not None]
        if len(addresses) != len(set(texts)) or len(addresses) > MAX_ADDRESSES:
            raise TargetNotAllowed(f"The host name {host} resolves to something that is not an address.")
        return addresses

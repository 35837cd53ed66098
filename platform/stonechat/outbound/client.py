"""The one guarded HTTP client: for every request to an address that a tenant or a document named.

    client = OutboundClient()
    page = await client.request("GET", url, max_bytes=2_000_000, follow_redirects=5)
    models = AsyncOpenAI(http_client=client.httpx_client(base_url), ...)

Nothing is followed, kept or sent along that was not asked for: no proxy, no cookie, no redirect, no credential of the
environment. Everything is bounded: the look-up, the connection, each read, the whole, the headers (100 KiB), the body
before and after decompression.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore2
import httpx2

from stonechat.errors import InvalidInput, TargetNotAllowed, UpstreamFailed, UpstreamTimedOut
from stonechat.outbound.addresses import IPNetwork
from stonechat.outbound.policy import Policy, Resolver, system_resolver
from stonechat.outbound.redirects import USER_AGENT, Hop
from stonechat.outbound.targets import ALLOWED_PORTS, Target
from stonechat.outbound.transport import METHODS, GuardedTransport, too_large

MAX_BYTES = 10_000_000
CEILING_BYTES = 256_000_000
MAX_CLIENT_BYTES = 64_000_000
TOTAL_SECONDS = 30.0
CONNECT_SECONDS = 10.0
READ_SECONDS = 15.0
MAX_REDIRECTS = 10


@dataclass(frozen=True)
class OutboundResponse:
    """A whole answer. `url` is where it came from in the end; `content` is decompressed."""

    status: int
    headers: httpx2.Headers
    content: bytes
    url: str


class OutboundStream:
    """An answer whose body is still to come."""

    def __init__(self, response: httpx2.Response, *, target: Target, max_bytes: int, deadline: float) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.url = target.url
        self._response = response
        self._host = target.host
        self._max_bytes = max_bytes
        self._deadline = deadline

    async def aiter_bytes(self) -> AsyncIterator[bytes]:
        """The decompressed body, piece by piece. Raises `PayloadTooLarge`, `UpstreamFailed` or `UpstreamTimedOut`."""
        pieces = self._response.aiter_bytes()
        received = 0
        try:
            while True:
                with _sentences(self._host):
                    async with asyncio.timeout_at(self._deadline):
                        piece = await anext(pieces, None)
                if piece is None:
                    return
                received += len(piece)
                if received > self._max_bytes:
                    raise too_large(self._host, self._max_bytes)
                yield piece
        finally:
            await pieces.aclose()

    async def read(self) -> bytes:
        """The whole decompressed body."""
        return b"".join([piece async for piece in self.aiter_bytes()])


class OutboundClient:
    """Make one per process and `aclose` it at the end.

    `allowed_networks` are private networks that this installation lets requests into, such as the one its own model
    server is on. `resolver`, `backend` and `ssl_context` are seams for tests and for private certificate authorities.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        allowed_networks: Sequence[IPNetwork] = (),
        allowed_ports: Collection[int] = ALLOWED_PORTS,
        backend: httpcore2.AsyncNetworkBackend | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._policy = Policy(
            resolver=resolver or system_resolver, allowed_networks=allowed_networks, allowed_ports=allowed_ports
        )
        self._backend = backend or httpcore2.AnyIOBackend()
        self._ssl_context = ssl_context or httpcore2.default_ssl_context()
        # One pool for all: every URL is checked before it gets here, and no two origins share a connection.
        self._transport = self._guarded(max_bytes=CEILING_BYTES, allow_http=True, accept_encoding="gzip, deflate")

    async def check(self, url: str, *, allow_http: bool = False) -> str:
        """The canonical form of a URL that requests may go to now; raises what a request to it would raise.

        For telling people early. It is no permission: each request checks again.
        """
        target = self._policy.target(url, allow_http=allow_http)
        await self._policy.addresses(target.host, target.port)
        return target.url

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Any = None,
        max_bytes: int = MAX_BYTES,
        timeout: float = TOTAL_SECONDS,  # noqa: ASYNC109  for all hops and the body together
        follow_redirects: int = 0,
        allow_http: bool = False,
    ) -> OutboundResponse:
        """Send a request and read the answer, whatever its status.

        `max_bytes` limits the body before and after decompression; `timeout` is in seconds, for everything together. `follow_redirects` is how many to follow; with 0 a redirect is
        an answer like any other. Raises `TargetNotAllowed`, `UpstreamFailed`, `UpstreamTimedOut`, `PayloadTooLarge`.
        """
        async with self.stream(
            method,
            url,
            headers=headers,
            content=content,
            json=json,
            max_bytes=max_bytes,
            timeout=timeout,
            follow_redirects=follow_redirects,
            allow_http=allow_http,
        ) as answer:
            body = await answer.read()
            return OutboundResponse(answer.status, answer.headers, body, answer.url)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        json: Any = None,
        max_bytes: int = MAX_BYTES,
        timeout: float = TOTAL_SECONDS,  # noqa: ASYNC109  for all hops and the body, not for the caller's work between
        follow_redirects: int = 0,
        allow_http: bool = False,
    ) -> AsyncIterator[OutboundStream]:
        """As `request`, but the body is read piece by piece while the context is open."""
        if method not in METHODS:
            raise TargetNotAllowed(f"Requests are not made with the method {method}.")
        deadline = asyncio.get_running_loop().time() + timeout
        target = self._policy.target(url, allow_http=allow_http)
        hop = Hop.first(method, target, headers=headers, content=content, json=json)
        for _ in range(min(follow_redirects, MAX_REDIRECTS) + 1):
            response = await self._send(hop, max_bytes=max_bytes, deadline=deadline)
            try:
                onward = hop.after(response, self._policy, allow_http=allow_http) if follow_redirects else None
                if onward is None:
                    yield OutboundStream(response, target=hop.target, max_bytes=max_bytes, deadline=deadline)
                    return
            finally:
                await response.aclose()
            hop = onward
        raise UpstreamFailed(f"{target.host} redirects too often.")

    def httpx_client(
        self, base_url: str, *, allow_http: bool = False, max_bytes: int = MAX_CLIENT_BYTES
    ) -> httpx2.AsyncClient:
        """A client for a vendor's SDK (`AsyncOpenAI(http_client=...)`) that talks to the origin of `base_url` only.

        Each has connections of its own; whoever asked for it closes it. Time limits are the SDK's, within
        `transport.LONGEST`. What the guard refuses (`TargetNotAllowed`, `PayloadTooLarge`, an answer that is compressed) is
        raised through the SDK as it is; what the network does comes as `httpx2` errors, which SDKs know and retry.
        """
        target = self._policy.target(base_url, allow_http=allow_http)
        return httpx2.AsyncClient(
            transport=self._guarded(max_bytes=max_bytes, allow_http=allow_http, only=target),
            base_url=target.url,
            follow_redirects=False,
            trust_env=False,
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": USER_AGENT},
        )

    async def aclose(self) -> None:
        """Close the client's own connections."""
        await self._transport.aclose()

    def _guarded(
        self, *, max_bytes: int, allow_http: bool, accept_encoding: str = "identity", only: Target | None = None
    ) -> GuardedTransport:
        return GuardedTransport(
            self._policy,
            ssl_context=self._ssl_context,
            backend=self._backend,
            max_bytes=max_bytes,
            allow_http=allow_http,
            accept_encoding=accept_encoding,
            only=only,
        )

    async def _send(self, hop: Hop, *, max_bytes: int, deadline: float) -> httpx2.Response:
        timeout = {"connect": CONNECT_SECONDS, "read": READ_SECONDS, "write": READ_SECONDS, "pool": CONNECT_SECONDS}
        request = hop.request({"timeout": timeout, "max_bytes": max_bytes})
        with _sentences(hop.target.host):
            async with asyncio.timeout_at(deadline):
                return await self._transport.handle_async_request(request)


@contextmanager
def _sentences(host: str) -> Iterator[None]:
    """What went wrong on the way, as errors of our own."""
    try:
        yield
    except (httpx2.TimeoutException, TimeoutError):
        raise UpstreamTimedOut(f"{host} did not answer in time.") from None
    except httpx2.ConnectError as error:
        if _came_from(error, ssl.SSLCertVerificationError):
            raise UpstreamFailed(f"The certificate of {host} is not valid for it.") from error
        raise UpstreamFailed(f"{host} could not be reached.") from error
    except httpx2.LocalProtocolError as error:
        raise InvalidInput("The request holds characters that cannot be sent.") from error
    except httpx2.RequestError as error:
        raise UpstreamFailed(f"{host} answered with something that is not proper HTTP.") from error


def _came_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    # By context, since the connection pool raises again `from None`.
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error is not None

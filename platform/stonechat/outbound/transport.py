"""The guarded transport: HTTP/1.1 that connects only where the policy says.

The guard sits at the network backend, beneath the connection pool: there is no way to a socket but through it. It
resolves the name once and connects to the address it checked, while TLS still asks for, and verifies, the name. A pooled
connection is one that was checked when it was made. No proxy, no cookie and no environment variable is looked at.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import cast

import anyio
import httpcore2
import httpx2

from stonechat.errors import PayloadTooLarge, TargetNotAllowed, UpstreamFailed
from stonechat.outbound.policy import Policy
from stonechat.outbound.targets import DEFAULT_PORTS, Target

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
MAX_TRIES = 4
MAX_CONNECTIONS = 100
KEEPALIVE_SECONDS = 15.0
LONGEST = {"connect": 10.0, "read": 300.0, "write": 60.0, "pool": 10.0}
"""Seconds that no phase may exceed, whatever the client asks for (it may ask for no limit)."""

_DECODABLE = frozenset({"identity", "gzip", "deflate"})


class GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Opens connections to the addresses that the policy gives, and to nothing else."""

    def __init__(self, policy: Policy, inner: httpcore2.AsyncNetworkBackend) -> None:
        self._policy = policy
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  the library's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        clock = asyncio.get_running_loop().time
        deadline = clock() + min(timeout or LONGEST["connect"], LONGEST["connect"])
        addresses = (await self._policy.addresses(host, port))[:MAX_TRIES]
        failure: Exception = httpcore2.ConnectTimeout()
        for index, address in enumerate(addresses):
            # An equal share of what time is left, so that one dead address does not use up the next one's.
            share = (deadline - clock()) / (len(addresses) - index)
            if share <= 0:
                break
            try:
                return await self._inner.connect_tcp(
                    str(address), port, timeout=share, local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        raise TargetNotAllowed(f"Requests do not go to sockets of this machine ({path}).")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """A pool of guarded connections, as the `transport` of an `httpx2.AsyncClient` or on its own.

    With `only`, requests to any other origin are refused. `accept_encoding="identity"` keeps a client that decodes
    without a limit safe from small answers that unpack into large ones. Bodies are cut at `max_bytes`, as received; a
    request's extension `max_bytes` can make that less.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        ssl_context: ssl.SSLContext,
        backend: httpcore2.AsyncNetworkBackend,
        max_bytes: int,
        allow_http: bool,
        accept_encoding: str = "identity",
        only: Target | None = None,
    ) -> None:
        self._policy = policy
        self._max_bytes = max_bytes
        self._allow_http = allow_http
        self._accept_encoding = accept_encoding
        self._only = only
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=MAX_CONNECTIONS,
            max_keepalive_connections=MAX_CONNECTIONS // 4,
            keepalive_expiry=KEEPALIVE_SECONDS,
            network_backend=GuardedBackend(policy, backend),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        target = self._policy.target(str(request.url), allow_http=self._allow_http)
        if self._only is not None and target.origin != self._only.origin:
            raise TargetNotAllowed(f"This client talks to {self._only.host} and nobody else.")
        if request.method not in METHODS:
            raise TargetNotAllowed(f"Requests are not made with the method {request.method}.")
        asked = request.extensions.get("timeout", {})
        max_bytes = min(request.extensions.get("max_bytes", self._max_bytes), self._max_bytes)
        with _httpx_errors(request):
            answer = await self._pool.handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=target.scheme, host=target.host, port=target.port, target=request.url.raw_path
                    ),
                    headers=self._headers(request, target),
                    content=request.stream,
                    # Of the extensions only the time limits: others could name another host for TLS.
                    extensions={"timeout": {key: min(asked.get(key) or most, most) for key, most in LONGEST.items()}},
                )
            )
        stream = _Body(answer, request, max_bytes)
        response = httpx2.Response(status_code=answer.status, headers=answer.headers, stream=stream, request=request)
        try:
            self._check(response, request, target, max_bytes)
        except BaseException:
            await stream.aclose()
            raise
        return response

    def _headers(self, request: httpx2.Request, target: Target) -> list[tuple[bytes, bytes]]:
        """The request's headers, with a `Host` that is the target's and no other."""
        ours = (b"host", b"accept-encoding", b"connection", b"upgrade", b"te", b"trailer")
        kept = [
            (name, value)
            for name, value in request.headers.raw
            if name.lower() not in ours and not name.lower().startswith(b"proxy-")
        ]
        shown = f"[{target.host}]" if ":" in target.host else target.host
        if target.port != DEFAULT_PORTS[target.scheme]:
            shown = f"{shown}:{target.port}"
        return [(b"Host", shown.encode()), (b"Accept-Encoding", self._accept_encoding.encode()), *kept]

    def _check(self, response: httpx2.Response, request: httpx2.Request, target: Target, max_bytes: int) -> None:
        if response.status_code == 101:
            raise UpstreamFailed(f"{target.host} wanted to speak another protocol.")
        codings = [coding.strip().lower() for coding in response.headers.get("content-encoding", "identity").split(",")]
        accepted = _DECODABLE if self._accept_encoding != "identity" else {"identity"}
        if len(codings) > 1 or codings[0] not in accepted:
            raise UpstreamFailed(f"The answer from {target.host} is compressed in a way that was not asked for.")
        length = response.headers.get("content-length", "")
        if request.method != "HEAD" and length.isdecimal() and int(length) > max_bytes:
            raise too_large(target.host, max_bytes)

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    """The answer's body as it arrives, cut off above `max_bytes`."""

    def __init__(self, answer: httpcore2.Response, request: httpx2.Request, max_bytes: int) -> None:
        self._answer = answer
        self._request = request
        self._max_bytes = max_bytes
        self._received = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """May be asked for again, for what is left: OpenAI's SDK drains a stream after its `[DONE]`."""
        with _httpx_errors(self._request):
            async for chunk in cast("AsyncIterable[bytes]", self._answer.stream):
                self._received += len(chunk)
                if self._received > self._max_bytes:
                    raise too_large(self._request.url.host, self._max_bytes)
                yield chunk

    async def aclose(self) -> None:
        await self._answer.aclose()


def too_large(host: str, max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The answer from {host} is larger than {max_bytes:,} bytes.")


@contextmanager
def _httpx_errors(request: httpx2.Request) -> Iterator[None]:
    """What the connection raises, as the client library's own errors, which its users know how to retry."""
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        known: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__)
        raise known(str(error), request=request) from error
    except (ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
        # The backend does not map what TLS raises while reading.
        raise httpx2.ReadError(str(error), request=request) from error

"""The middlewares around every route: plain ASGI, so that streams pass through them untouched."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stonechat import ids
from stonechat.errors import NotFound, PayloadTooLarge
from stonechat.settings import Settings
from stonechat.web.addresses import resolve
from stonechat.web.problems import problem_response

MEGABYTE = 1 << 20
DEFAULT_BODY_BYTES = 1 * MEGABYTE
DISCARD_BYTES, DISCARD_SECONDS = 128 * MEGABYTE, 20.0
"""How much of a body that is refused is read and thrown away."""

_DEFAULTS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")


def install_middlewares(app: FastAPI, settings: Settings, *, body_limits: Mapping[str, int] | None = None) -> None:
    """Put the house's middlewares around the app; `install_problem_handlers` comes first.

    `body_limits` maps path prefixes to bytes for the routes that take more than the usual 1 MiB.
    """
    app.add_middleware(BodyLimit, limits=dict(body_limits or {}))
    app.add_middleware(DefaultHeaders, settings=settings)


class DefaultHeaders:
    """Names each request, finds out who sent it, and gives every response the safe headers it does not set itself.

    `request.state` gets `request_id`, `client_address` and `status`, and may be given `limit_headers`; `scope["client"]` and `scope["scheme"]` are corrected by
    what trusted proxies say.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._trusted = settings.trusted_networks
        https = settings.public_url.startswith("https://")
        self._defaults = (*_DEFAULTS, _HSTS) if https else _DEFAULTS
        self._names = frozenset(name for name, _ in self._defaults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address, scheme = resolve(scope, self._trusted)
        request_id = ids.new_id("req")
        if scope["type"] == "http":
            scope["scheme"] = scheme
        if scope.get("client") and scope["client"][0] != address.host:
            scope["client"] = (address.host, 0)
        state = scope.setdefault("state", {})
        state["request_id"], state["client_address"] = request_id, address

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers} & self._names
                headers.extend(pair for pair in self._defaults if pair[0] not in present)
                headers.append((b"x-request-id", request_id.encode()))
                headers.extend(_limit_headers(state, headers))
                state["status"] = message["status"]
                message = {**message, "headers": headers}
            await send(message)

        if "\x00" in scope["path"]:  # no name holds one, and Postgres refuses to look for it
            await problem_response(NotFound("Check the address and the id."))(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)


def _limit_headers(state: Mapping[str, Any], headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What a limit left on the request, unless the response says it itself."""
    found: Mapping[str, str] = state.get("limit_headers") or {}
    present = {name.lower() for name, _ in headers}
    lines = ((name.lower().encode(), value.encode()) for name, value in found.items())
    return [line for line in lines if line[0] not in present]


class BodyLimit:
    """Answers 413 to a body that is too large, by its Content-Length or while it streams; nothing of it is kept."""

    def __init__(self, app: ASGIApp, *, default: int = DEFAULT_BODY_BYTES, limits: Mapping[str, int]) -> None:
        """`limits` maps path prefixes to bytes; the longest prefix that fits counts."""
        self._app = app
        self._default = default
        self._limits = sorted(limits.items(), key=lambda pair: -len(pair[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared[:20]) > limit:
            await _refuse(limit, scope, receive, send)
            return
        await self._counted(limit, scope, receive, send)

    def _limit_of(self, path: str) -> int:
        return next((limit for prefix, limit in self._limits if path.startswith(prefix)), self._default)

    async def _counted(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        read, exceeded, started = 0, False, False

        async def counted_receive() -> Message:
            nonlocal read, exceeded
            if exceeded:
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > limit:
                    exceeded = True
                    raise PayloadTooLarge
            return message

        async def watched_send(message: Message) -> None:
            nonlocal started
            # Whatever the route makes of its interrupted body (the framework says 400), the answer is 413.
            if exceeded and not started:
                return
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted_receive, watched_send)
        except PayloadTooLarge:
            if started or not exceeded:
                raise
        if exceeded and not started:
            await _refuse(limit, scope, receive, send)


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 413 once the sender has sent all, or as much as we wait for.

    To close while it is still sending would reset the connection, and the sender would never read why.
    """
    asked_first = any(name == b"expect" for name, _ in scope["headers"])
    read = DISCARD_BYTES if asked_first else 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_SECONDS):
            while read < DISCARD_BYTES:
                message = await receive()
                read += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    break
    await _too_large(limit)(scope, receive, send)


def _too_large(limit: int) -> ASGIApp:
    size = f"{limit / MEGABYTE:g} MiB" if limit >= MEGABYTE else f"{limit} bytes"
    # The unread rest of the body makes the connection useless for another request.
    return problem_response(
        PayloadTooLarge(f"At most {size} can be sent here.", headers={"Connection": "close"}, max_bytes=limit)
    )

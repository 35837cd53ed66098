"""Cross-origin requests of visitors' pages: exactly the origins on domain keys, and no cookies."""

from __future__ import annotations

import re

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stonechat.api.dependencies import Services, services_of
from stonechat.errors import OriginNotAllowed, StonechatError
from stonechat.identity.origins import parse_origin
from stonechat.web import client_address, problem_response

PATHS = ("/v1/", "/chatkit")
_METHODS = "GET, POST, PUT, DELETE"
_REQUEST_HEADERS = "Authorization, Content-Type, Stonechat-Stream, Last-Event-ID"
_EXPOSED = b"Stonechat-Run, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_MAX_AGE = "600"
_STOCK_HEADER = re.compile(r"chatkit-[a-z0-9-]{1,56}")
"""OpenAI's front end names its frame and the like to whom it asks: `chatkit-frame-instance-id`, and what comes to its mind."""
_MAX_STOCK_HEADERS = 8


class VisitorCors:
    """Answers preflights and names the origin on responses, for the routes that visitors' pages call.

    A preflight names neither a domain key nor a session, so it is answered for every origin that some live key lists.
    The request itself learns more: where its key or its session turns out not to admit the origin, it sets
    `request.state.cors_refused`, and the page may not read the refusal.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PATHS):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        services = services_of(connection)
        sent = connection.headers.get("origin")
        if scope["method"] == "OPTIONS" and sent and "access-control-request-method" in connection.headers:
            response = await _preflight(connection, services, sent)
            await response(scope, receive, send)
            return
        origin = parse_origin(sent) if sent else None
        state = scope.setdefault("state", {})

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"vary", b"Origin")]
                if sent and origin and not state.get("cors_refused") and await _is_known(services, origin):
                    headers.append((b"access-control-allow-origin", sent.encode("latin-1")))
                    headers.append((b"access-control-expose-headers", _EXPOSED))
                message = {**message, "headers": headers}
            await send(message)

        await self._app(scope, receive, send_named)


async def _preflight(connection: HTTPConnection, services: Services, sent: str) -> Response:
    try:
        await services.limiter.check_address(client_address(connection))
        origin = parse_origin(sent)
        if origin is None or not await _is_known(services, origin):
            raise OriginNotAllowed("Add this site to the origins of a domain key.", headers={"Vary": "Origin"})
    except StonechatError as refused:
        return problem_response(refused)
    headers = {
        "Access-Control-Allow-Origin": sent,
        "Access-Control-Allow-Methods": _METHODS,
        "Access-Control-Allow-Headers": ", ".join((_REQUEST_HEADERS, *_stock_headers(connection))),
        "Access-Control-Max-Age": _MAX_AGE,
        "Vary": "Origin",
    }
    return Response(status_code=204, headers=headers)


def _stock_headers(connection: HTTPConnection) -> list[str]:
    asked = connection.headers.get("access-control-request-headers", "").lower().split(",")
    return [name.strip() for name in asked if _STOCK_HEADER.fullmatch(name.strip())][:_MAX_STOCK_HEADERS]


async def _is_known(services: Services, origin: str) -> bool:
    return origin in services.platform_origins or await services.site_keys.is_listed(origin)

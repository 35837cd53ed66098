"""The coarse limit per address on plain routes: slowapi's decorator, on one dependency that routers share.

Counts are per process, in memory: slowapi is synchronous, and its calls to Redis would hold up every other request.
Its middleware is not used: it leaves included routers out, and breaks streams.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Any, TypeVar

from fastapi.routing import RouteContext
from slowapi import Limiter as SlowLimiter
from slowapi.errors import RateLimitExceeded
from starlette.requests import HTTPConnection, Request
from starlette.routing import BaseRoute

from stonechat.limits.counters import MEMORY_URI
from stonechat.limits.limiter import address_key, is_exempt, limited
from stonechat.limits.state import LimitState
from stonechat.settings import Settings
from stonechat.web import client_address

_MARK = "__stonechat_limit__"
_WINDOW = 60
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def _settings(connection: HTTPConnection) -> Settings:
    settings = connection.app.state.services.settings
    assert isinstance(settings, Settings)  # noqa: S101
    return settings


def _key(request: Request) -> str:
    """The address, behind the limit that holds for it: slowapi lets a limit depend on the key alone."""
    return f"{_settings(request).ip_requests_per_minute}|{address_key(client_address(request))}"


def _limit(key: str) -> str:
    return f"{key.partition('|')[0]}/minute"


def _is_exempt(request: Request) -> bool:
    return is_exempt(client_address(request), _settings(request))


_slow = SlowLimiter(key_func=_key, storage_uri=MEMORY_URI)
_slow.enabled = True  # whatever the library finds in the environment or a .env file


def limited_by(name: str) -> Callable[[Endpoint], Endpoint]:
    """Mark an endpoint, a dependency or a plain ASGI route as limited by `name`, for the test that walks every route."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _MARK, name)
        return endpoint

    return mark


@_slow.shared_limit(_limit, scope="address", exempt_when=_is_exempt)
async def _count(request: Request) -> None:
    """Counted by the decorator."""


@limited_by("address")
async def limit_address(request: Request) -> None:
    """Count one request of the address; raises `RateLimited`. `dependencies=[Depends(limit_address)]` on a router."""
    try:
        await _count(request=request)
    except RateLimitExceeded:
        raise limited(_state(request)) from None
    if request.state.view_rate_limit is not None:  # else exempt
        request.state.limit_headers = _state(request).headers()


def _state(request: Request) -> LimitState:
    # slowapi leaves which limit it was, and under which key, on the request.
    item, key = request.state.view_rate_limit
    resets_at, remaining = _slow.limiter.get_window_stats(item, *key)
    wait = max(ceil(resets_at - time.time()), 1)
    return LimitState("address", item.amount, _WINDOW, remaining, wait, wait)


def reset_addresses() -> None:
    """Forget every count; for tests."""
    _slow.reset()


def limit_of(route: BaseRoute | RouteContext) -> str | None:
    """What limits a route: the mark of its endpoint, of its application, or of one of its dependencies."""
    if isinstance(route, RouteContext):
        return limit_of(route.original_route) or _limit_of_dependant(getattr(route, "dependant", None))
    for place in (getattr(route, "endpoint", None), getattr(route, "app", None)):
        if (name := getattr(place, _MARK, None)) is not None:
            return str(name)
    return _limit_of_dependant(getattr(route, "dependant", None))


def _limit_of_dependant(dependant: Any) -> str | None:
    if dependant is None:
        return None
    for child in dependant.dependencies:
        name = getattr(child.call, _MARK, None) or _limit_of_dependant(child)
        if name is not None:
            return str(name)
    return None

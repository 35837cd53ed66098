"""The coarse limit per address on plain routes."""

from __future__ import annotations

import re
from typing import Any

import httpx
from fastapi import APIRouter, Depends, FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import Mount, Route

from stonechat.limits.addresses import limit_address, limit_of, limited_by, reset_addresses
from stonechat.settings import Settings
from stonechat.web import install_middlewares, install_problem_handlers


class OnlySettings:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


def build_app(**settings: Any) -> FastAPI:
    reset_addresses()
    chosen = Settings(**{"configured_ip_requests_per_minute": 3} | settings)
    app = FastAPI()
    app.state.services = OnlySettings(chosen)
    install_problem_handlers(app)
    install_middlewares(app, chosen)
    inner = APIRouter(prefix="/things")

    @inner.get("/{thing_id}")
    async def thing(thing_id: str) -> str:
        return thing_id

    outer = APIRouter(prefix="/api", dependencies=[Depends(limit_address)])
    outer.include_router(inner)
    app.include_router(outer)
    return app


async def get(app: FastAPI, path: str, address: str = "203.0.113.9", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        return await client.get(path, headers=headers)


async def test_an_address_is_limited_over_all_paths_of_nested_routers() -> None:
    app = build_app()
    assert [(await get(app, f"/api/things/{n}")).status_code for n in range(4)] == [200, 200, 200, 429]
    refused = await get(app, "/api/things/1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert (refused.json()["code"], refused.json()["scope"]) == ("rate_limited", "address")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == '"address";q=3;w=60'
    assert re.fullmatch(r'"address";r=0;t=\d+', refused.headers["ratelimit"])
    assert (await get(app, "/api/things/1", "203.0.113.10")).status_code == 200


async def test_an_ipv6_subscriber_is_one_address() -> None:
    app = build_app()
    statuses = [(await get(app, "/api/things/1", f"2001:db8::{n}")).status_code for n in range(1, 5)]
    assert statuses == [200, 200, 200, 429]


async def test_loopback_is_free_in_development_unless_a_limit_was_asked_for() -> None:
    reset_addresses()
    app = build_app()
    app.state.services = OnlySettings(Settings())
    assert {(await get(app, "/api/things/1", "127.0.0.1")).status_code for _ in range(700)} == {200}
    app = build_app()
    assert [(await get(app, "/api/things/1", "127.0.0.1")).status_code for _ in range(4)][-1] == 429


async def test_a_spoofed_header_buys_nothing_and_a_trusted_proxy_tells_visitors_apart() -> None:
    app = build_app()
    spoofed = [await get(app, "/api/things/1", **{"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(4)]
    assert spoofed[-1].status_code == 429
    app = build_app(trusted_proxies=("203.0.113.9/32",))
    told = [await get(app, "/api/things/1", **{"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(4)]
    assert {response.status_code for response in told} == {200}


def test_marks_are_found_wherever_they_stand() -> None:
    app = build_app()

    @app.get("/free")
    async def free() -> None: ...

    @app.get("/marked")
    @limited_by("visitor")
    async def marked() -> None: ...

    @limited_by("visitor")
    async def plain(scope: Any, receive: Any, send: Any) -> None: ...

    app.router.routes.append(Route("/plain", plain))
    app.router.routes.append(Mount("/mounted", plain))
    limits = {context.path: limit_of(context) for context in iter_route_contexts(app.routes)}
    assert limits["/api/things/{thing_id}"] == "address"
    assert limits["/marked"] == limits["/plain"] == limits["/mounted"] == "visitor"
    assert limits["/free"] is None

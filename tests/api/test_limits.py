"""`/api/v1/limits` and `/api/v1/identity-keys`, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.api.dependencies import Services
from stonechat.errors import RateLimited
from stonechat.identity.caller import Caller
from support.postgres import TestDatabase
from support.visitors import Site, build_app, client_of, make_site, running_services


@pytest.fixture
async def services(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(build_app(services)) as opened:
        yield opened


@pytest.fixture
async def site(services: Services, tenant_id: UUID) -> Site:
    return await make_site(services, tenant_id)


RULES = {
    "visitor": {"messages_per_minute": 2, "concurrent": 1},
    "agent": {"messages_per_minute": 50},
    "tenant": {"messages_per_minute": 60},
}


async def test_limits_are_replaced_and_hold_at_once(client: httpx.AsyncClient, services: Services, site: Site) -> None:
    defaults = await client.get("/api/v1/limits", headers=site.headers)
    assert defaults.json().keys() == {"visitor", "agent", "tenant"}
    who = Caller(site.tenant_id, "usr_1", site.agent_id)
    await services.limiter.check_message(who)
    assert (await client.put("/api/v1/limits", json=RULES, headers=site.headers)).json() == RULES
    assert (await client.get("/api/v1/limits", headers=site.headers)).json() == RULES
    for _ in range(2):
        await services.limiter.check_message(who)
    with pytest.raises(RateLimited):
        await services.limiter.check_message(who)
    async with services.database.tenant(site.tenant_id) as session:
        noted = await session.scalar(
            text("select detail from audit_log where tenant_id = :t and action = 'limits.put'"), {"t": site.tenant_id}
        )
    assert noted == RULES
    reset = await client.put("/api/v1/limits", json={}, headers=site.headers)
    assert reset.json() == defaults.json()


async def test_tenants_limits_are_their_own(
    client: httpx.AsyncClient, services: Services, site: Site, make_tenant
) -> None:
    other = await make_site(services, await make_tenant())
    await client.put("/api/v1/limits", json=RULES, headers=site.headers)
    assert (await client.get("/api/v1/limits", headers=other.headers)).json() != RULES


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"visitor": {"messages_per_minute": 0}}, "visitor.messages_per_minute"),
        ({"visitor": {"messages_per_minute": 10**9}}, "visitor.messages_per_minute"),
        ({"visitor": {"concurrent": 0}}, "visitor.concurrent"),
        ({"agent": {"concurrent": 1}}, "agent.concurrent"),
        ({"tenant": {"messages_per_minute": "many"}}, "tenant.messages_per_minute"),
        ({"everyone": {}}, "everyone"),
        ([], ""),
    ],
)
async def test_impossible_limits_are_refused(client: httpx.AsyncClient, site: Site, body: Any, field: str) -> None:
    response = await client.put("/api/v1/limits", json=body, headers=site.headers)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert [fault["field"] for fault in response.json()["errors"]] == [field]


async def test_reading_does_not_allow_changing(client: httpx.AsyncClient, services: Services, site: Site) -> None:
    async with services.database.tenant(site.tenant_id) as session:
        _, secret = await create_api_key(session, system(site.tenant_id), name="reader", scopes=["read"])
    reader = {"Authorization": f"Bearer {secret}"}
    assert (await client.get("/api/v1/limits", headers=reader)).status_code == 200
    for method, path, body in (
        ("PUT", "/api/v1/limits", RULES),
        ("POST", "/api/v1/identity-keys", {"kind": "hs256"}),
        ("DELETE", "/api/v1/identity-keys/idk_1", None),
    ):
        refused = await client.request(method, path, json=body, headers=reader)
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        assert (await client.request(method, path, json=body)).json()["code"] == "invalid_api_key"


async def test_a_secret_is_shown_once(client: httpx.AsyncClient, site: Site) -> None:
    created = (await client.post("/api/v1/identity-keys", json={"kind": "hs256"}, headers=site.headers)).json()
    assert created["secret"]
    listed = await client.get("/api/v1/identity-keys", headers=site.headers)
    assert created["secret"] not in listed.text
    assert [key["kid"] for key in listed.json()["data"]] == [created["kid"]]
    for body in (
        {"kind": "hs512"},
        {},
        {"kind": "pem"},
        {"kind": "pem", "public_key": "x"},
        {"kind": "jwks", "keys": []},
        {"kind": "hs256", "secret": "mine"},
    ):
        refused = await client.post("/api/v1/identity-keys", json=body, headers=site.headers)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_input"), body


async def test_plain_routes_are_limited_by_address(test_database: TestDatabase, tmp_path: Path) -> None:
    limited = running_services(test_database.web_url, tmp_path, configured_ip_requests_per_minute=3)
    async with limited as services, client_of(build_app(services)) as client:
        answers = [await client.post("/v1/sessions", json={"domain_key": "pk_unknown"}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [404, 404, 404, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        left = [answer.headers.get_list("ratelimit") for answer in answers]
        assert [line.split(";")[1] for [line] in left] == ["r=2", "r=1", "r=0", "r=0"]
        assert answers[-1].headers["ratelimit-policy"] == '"address";q=3;w=60'
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/embed/frame", params={"k": "pk_unknown"})).status_code == 429
        preflight = {"Origin": "https://x.example", "Access-Control-Request-Method": "POST"}
        statuses = [(await client.options("/v1/sessions", headers=preflight)).status_code for _ in range(4)]
        assert statuses == [403, 403, 403, 429]

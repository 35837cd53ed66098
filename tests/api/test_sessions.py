"""`/v1/sessions` and the domain keys behind it, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from stonechat import clock
from stonechat.api.dependencies import Services
from support.identity import PLATFORM, SHOP, user_token
from support.postgres import TestDatabase
from support.visitors import Site, build_app, client_of, make_site, running_services


@pytest.fixture
async def services(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path) as opened:
        yield opened


@pytest.fixture
def app(services: Services) -> FastAPI:
    return build_app(services)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def site(services: Services, tenant_id: UUID) -> Site:
    return await make_site(services, tenant_id)


async def make_key(client: httpx.AsyncClient, site: Site, **body: Any) -> dict[str, Any]:
    response = await client.post(
        f"/api/v1/agents/{site.agent_id}/domain-keys",
        json={"name": "Shop", "environment": "production", "origins": [SHOP]} | body,
        headers=site.headers,
    )
    assert response.status_code == 201, response.text
    return response.json()


async def open_session(
    client: httpx.AsyncClient, key: str, *, origin: str | None = SHOP, **body: Any
) -> httpx.Response:
    return await client.post(
        "/v1/sessions", json={"domain_key": key} | body, headers={"Origin": origin} if origin is not None else {}
    )


async def test_a_page_opens_a_session(client: httpx.AsyncClient, site: Site) -> None:
    key = await make_key(client, site)
    response = await open_session(client, key["key"])
    assert response.status_code == 200
    session = response.json()
    assert session.keys() == {"token", "token_type", "expires_at", "user", "visitor", "agent"}
    assert session["token_type"] == "Bearer"
    assert session["user"].keys() == {"id", "verified"}
    assert session["user"]["verified"] is False
    assert session["agent"]["name"] == "Robin"
    assert "instructions" not in session["agent"]
    lifetime = datetime.fromisoformat(session["expires_at"]) - clock.now()
    assert timedelta(minutes=14) < lifetime <= timedelta(minutes=15)
    assert response.headers["access-control-allow-origin"] == SHOP
    assert "Origin" in response.headers["vary"]
    assert "access-control-allow-credentials" not in response.headers
    again = await open_session(client, key["key"], visitor=session["visitor"])
    assert again.json()["user"]["id"] == session["user"]["id"]


async def test_refusals_have_the_promised_codes(
    client: httpx.AsyncClient, site: Site, services: Services, make_tenant
) -> None:
    key = (await make_key(client, site))["key"]
    draft = await make_site(services, await make_tenant(), publish=False)
    early = (await make_key(client, draft))["key"]
    refusals = [
        (await open_session(client, "pk_unknown"), 404, "unknown_domain_key"),
        (await open_session(client, key, origin="https://evil.example"), 403, "origin_not_allowed"),
        (await open_session(client, key, origin=None), 403, "origin_not_allowed"),
        (await open_session(client, key, origin=PLATFORM), 403, "origin_not_allowed"),
        (await open_session(client, key, origin=PLATFORM, ticket="x"), 401, "invalid_ticket"),
        (await open_session(client, key, user_token="x.y.z"), 401, "invalid_user_token"),
        (await open_session(client, early), 409, "agent_not_published"),
        (await open_session(client, ""), 422, "invalid_input"),
        (await open_session(client, key, visitor=7), 422, "invalid_input"),
        (await open_session(client, key, user_token="x" * 10_000), 422, "invalid_input"),
        (
            await client.post("/v1/sessions", content=b"{", headers={"Content-Type": "application/json"}),
            400,
            "malformed_body",
        ),
        (await client.get("/v1/sessions"), 405, "method_not_allowed"),
    ]
    for response, status, code in refusals:
        assert (response.status_code, response.json()["code"]) == (status, code)
        assert response.headers["content-type"] == "application/problem+json"


async def test_a_signed_in_user(client: httpx.AsyncClient, site: Site) -> None:
    key = (await make_key(client, site))["key"]
    created = await client.post("/api/v1/identity-keys", json={"kind": "hs256"}, headers=site.headers)
    assert created.status_code == 201
    identity = created.json()
    token = user_token(identity["secret"], identity["kid"], sub="c-1", jti="j-1")
    first = (await open_session(client, key, user_token=token)).json()
    assert first["user"]["verified"] is True
    same = await open_session(client, key, user_token=token, visitor=first["visitor"])
    assert same.json()["user"]["id"] == first["user"]["id"]
    assert (await open_session(client, key, user_token=token)).json()["code"] == "invalid_user_token"
    retired = await client.delete(f"/api/v1/identity-keys/{identity['id']}", headers=site.headers)
    assert retired.status_code == 204
    fresh = user_token(identity["secret"], identity["kid"], sub="c-1")
    assert (await open_session(client, key, user_token=fresh)).status_code == 401


async def test_a_revoked_key_is_unknown_at_once(client: httpx.AsyncClient, site: Site) -> None:
    key = await make_key(client, site)
    assert (await open_session(client, key["key"])).status_code == 200
    revoked = await client.delete(f"/api/v1/agents/{site.agent_id}/domain-keys/{key['id']}", headers=site.headers)
    assert revoked.status_code == 204
    assert (await open_session(client, key["key"])).json()["code"] == "unknown_domain_key"


async def test_two_tenants_keys_stay_apart(
    client: httpx.AsyncClient, site: Site, services: Services, make_tenant
) -> None:
    other = await make_site(services, await make_tenant(), name="Wren")
    ours = await make_key(client, site)
    theirs = await make_key(client, other, origins=["https://theirs.example"])
    assert (await open_session(client, ours["key"])).json()["agent"]["name"] == "Robin"
    assert (await open_session(client, theirs["key"], origin="https://theirs.example")).json()["agent"][
        "name"
    ] == "Wren"
    crossed = await open_session(client, theirs["key"])
    assert crossed.json()["code"] == "origin_not_allowed"
    # The other tenant's page may not even read why.
    assert "access-control-allow-origin" not in crossed.headers
    path = f"/api/v1/agents/{site.agent_id}/domain-keys"
    for method, url in (
        ("GET", path),
        ("GET", f"{path}/{ours['id']}"),
        ("PATCH", f"{path}/{ours['id']}"),
        ("DELETE", f"{path}/{ours['id']}"),
        ("POST", f"{path}/{ours['id']}/rotate"),
        ("POST", path),
    ):
        body = {"json": {"name": "Mine"}} if method in ("PATCH", "POST") else {}
        response = await client.request(method, url, headers=other.headers, **body)
        assert (response.status_code, response.json()["code"]) == (404, "not_found"), (method, url)


async def test_preflights_echo_exactly_the_origins_that_keys_list(client: httpx.AsyncClient, site: Site) -> None:
    await make_key(client, site, origins=["https://preflight.example", "https://*.preflight.example"])

    async def preflight(origin: str, path: str = "/v1/sessions") -> httpx.Response:
        return await client.options(path, headers={"Origin": origin, "Access-Control-Request-Method": "POST"})

    for origin in ("https://preflight.example", "https://a.b.preflight.example", PLATFORM):
        for path in ("/v1/sessions", "/chatkit"):
            response = await preflight(origin, path)
            assert response.status_code == 204
            assert response.headers["access-control-allow-origin"] == origin
            assert "authorization" in response.headers["access-control-allow-headers"].lower()
    for origin in ("https://unlisted.example", "null", "http://preflight.example", "https://preflight.example:8443"):
        response = await preflight(origin)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


async def test_a_session_is_for_its_own_page_and_the_platforms_frame(client: httpx.AsyncClient, site: Site) -> None:
    key = await make_key(client, site, origins=[SHOP, "https://second.example"])
    token = (await open_session(client, key["key"])).json()["token"]

    async def call(origin: str | None, token: str = token) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"} | ({"Origin": origin} if origin else {})
        return await client.post("/v1/whoami", headers=headers)

    for origin in (SHOP, PLATFORM):
        response = await call(origin)
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == origin
    for origin in ("https://second.example", "https://evil.example", "null", None):
        response = await call(origin)
        assert (response.status_code, response.json()["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in response.headers
    expired = await call(SHOP, token + "x")
    assert (expired.status_code, expired.json()["code"]) == (401, "invalid_session")
    # A page must be able to read that its token has expired.
    assert expired.headers["access-control-allow-origin"] == SHOP
    assert (await client.post("/v1/whoami", headers={"Origin": SHOP})).json()["code"] == "invalid_session"
    assert (await client.post("/v1/whoami", headers={"Authorization": "Basic abc"})).json()["code"] == "invalid_session"


async def test_a_preview_needs_no_domain_key(
    client: httpx.AsyncClient, services: Services, tenant_id: UUID, make_tenant
) -> None:
    site = await make_site(services, tenant_id, publish=False)
    response = await client.post(f"/api/v1/agents/{site.agent_id}/preview-session", headers=site.headers)
    assert response.status_code == 200
    assert response.json()["agent"]["name"] == "Robin"
    caller = services.session_tokens.verify(response.json()["token"])
    assert (caller.preview, caller.tenant_id) == (True, tenant_id)
    bearer = {"Authorization": f"Bearer {response.json()['token']}"}
    assert (await client.post("/v1/whoami", headers=bearer)).status_code == 200
    assert (await client.post("/v1/whoami", headers=bearer | {"Origin": SHOP})).status_code == 403
    stranger = await make_site(services, await make_tenant())
    refused = await client.post(f"/api/v1/agents/{site.agent_id}/preview-session", headers=stranger.headers)
    assert refused.status_code == 404
    assert (await client.post(f"/api/v1/agents/{site.agent_id}/preview-session")).status_code == 401


async def test_management_of_domain_keys(client: httpx.AsyncClient, site: Site) -> None:
    key = await make_key(client, site, openai_domain_key="domain_pk_1")
    assert key["openai_domain_key"] == "domain_pk_1"
    path = f"/api/v1/agents/{site.agent_id}/domain-keys"
    patched = await client.patch(f"{path}/{key['id']}", json={"origins": ["https://new.example"]}, headers=site.headers)
    assert patched.json()["origins"] == ["https://new.example"]
    rotated = await client.post(f"{path}/{key['id']}/rotate", headers=site.headers)
    assert rotated.status_code == 200
    assert rotated.json()["key"] != key["key"]
    listed = (await client.get(path, params={"limit": 1}, headers=site.headers)).json()
    rest = (await client.get(path, params={"cursor": listed["next_cursor"]}, headers=site.headers)).json()
    assert [row["id"] for row in listed["data"] + rest["data"]] == [rotated.json()["id"], key["id"]]
    bad = await client.post(path, json={"name": "x", "origins": ["https://*"]}, headers=site.headers)
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "origins.0")
    assert (await client.get(path)).json()["code"] == "invalid_api_key"
    assert (await client.get(path, params={"cursor": "x"}, headers=site.headers)).json()["code"] == "invalid_cursor"
    assert (await client.get(path, params={"limit": 101}, headers=site.headers)).status_code == 422


async def test_a_repeated_creation_makes_one_key(client: httpx.AsyncClient, site: Site) -> None:
    path, headers = f"/api/v1/agents/{site.agent_id}/domain-keys", site.headers | {"Idempotency-Key": "once"}
    first, second = [await client.post(path, json={"name": "Shop"}, headers=headers) for _ in range(2)]
    assert first.json() == second.json()
    assert len((await client.get(path, headers=site.headers)).json()["data"]) == 1


async def test_health(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    ready = await client.get("/readyz")
    assert ready.status_code == 200, ready.text
    assert ready.json() == {"status": "ready", "checks": {"postgres": "ok", "index": "ok", "queue": "ok"}}


async def test_readiness_names_what_is_down(tmp_path: Path) -> None:
    nowhere = "postgresql://nobody:nothing@127.0.0.1:1/none"
    async with running_services(nowhere, tmp_path) as services, client_of(build_app(services)) as client:
        response = await client.get("/readyz")
        assert (await client.get("/healthz")).status_code == 200
    assert response.status_code == 503
    assert response.json()["checks"] == {"postgres": "failed", "index": "ok", "queue": "failed"}

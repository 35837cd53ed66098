"""The widget's addresses, over HTTP."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from stonechat import clock
from stonechat.api.dependencies import Services
from stonechat.embed.assets import STATIC
from stonechat.identity.caller import Caller
from stonechat.identity.domain_keys import DomainKeyView, get_domain_key, revoke_domain_key
from support.identity import PLATFORM, SHOP, actor_of, make_domain_key
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


@pytest.fixture
async def key(services: Services, site: Site) -> DomainKeyView:
    return await make_domain_key(services.database, site.tenant_id, agent_id=site.agent_id)


def config_of(page: httpx.Response) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="stonechat-config">(.*?)</script>', page.text)
    assert found is not None
    return json.loads(found[1])


async def test_the_loader_is_evergreen(client: httpx.AsyncClient) -> None:
    loader = await client.get("/embed.js", headers={"Accept-Encoding": "identity"})
    assert loader.status_code == 200
    assert loader.content == (STATIC / "embed.js").read_bytes()
    assert loader.headers["content-type"].startswith("text/javascript")
    assert loader.headers["cross-origin-resource-policy"] == "cross-origin"
    assert loader.headers["access-control-allow-origin"] == "*"
    assert "max-age=300" in loader.headers["cache-control"]
    for tag in (loader.headers["etag"], f'"x", W/{loader.headers["etag"]}', "*"):
        unchanged = await client.get("/embed.js", headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert unchanged.headers["etag"] == loader.headers["etag"]
    assert (await client.get("/embed.js", headers={"If-None-Match": '"other"'})).status_code == 200


async def test_a_version_of_the_loader_keeps_its_address(client: httpx.AsyncClient, services: Services) -> None:
    loader = services.assets.loader
    digest = loader.digest[:16]
    answer = await client.get(f"/embed/{digest}/embed.js", headers={"Accept-Encoding": "identity"})
    assert answer.content == loader.content
    assert "immutable" in answer.headers["cache-control"]
    assert loader.integrity == "sha256-" + base64.b64encode(hashlib.sha256(answer.content).digest()).decode()
    assert (await client.get("/embed/0000000000000000/embed.js")).status_code == 404


async def test_a_keys_own_loader_wears_what_was_published(
    client: httpx.AsyncClient, services: Services, tenant_id: UUID
) -> None:
    launcher = {
        "label": "Fragen?</script>",
        "position": "left",
        "icon": "spark",
        "teaser": {"text": "Kann ich helfen?", "delay_seconds": 3},
        "hidden_paths": ["/checkout/*", "/cart.html"],
    }
    site = await make_site(services, tenant_id, launcher=launcher)
    key = await make_domain_key(services.database, tenant_id, agent_id=site.agent_id)
    answer = await client.get(f"/e/{key.key}.js", headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200
    prefix, _, loader = answer.text.partition(");\n")
    assert loader.encode() == services.assets.loader.content
    look = json.loads(prefix.split("document.currentScript?.dataset??{},", 1)[1])
    assert look["domainKey"] == key.key
    assert (look["label"], look["position"], look["teaser"], look["delay"]) == (
        "Fragen?</script>", "left", "Kann ich helfen?", "3000",
    )  # fmt: skip
    assert look["icon"].startswith("M14 2")
    hidden = re.compile(look["hidden"].replace("\\/", "/"))
    assert hidden.search("/checkout/pay")
    assert hidden.search("/cart.html")
    assert not hidden.search("/cartxhtml")
    assert not hidden.search("/shop/checkout/pay")
    unchanged = await client.get(f"/e/{key.key}.js", headers={"If-None-Match": answer.headers["etag"]})
    assert unchanged.status_code == 304
    assert "max-age=300" in unchanged.headers["cache-control"]
    assert (await client.get("/e/pk_nobody.js")).json()["code"] == "unknown_domain_key"


async def test_a_built_file_is_kept_for_ever(client: httpx.AsyncClient, services: Services) -> None:
    path = services.assets.frame_script.path
    async with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as raw:
        compressed = b"".join([part async for part in raw.aiter_raw()])
    assert raw.headers["content-encoding"] == "gzip"
    assert gzip.decompress(compressed) == (STATIC / "frame.js").read_bytes()
    assert "immutable" in raw.headers["cache-control"]
    assert "Accept-Encoding" in raw.headers["vary"]
    for wrong in (path.replace("frame.js", "manifest.json"), re.sub(r"/[0-9a-f]{16}/", "/0000000000000000/", path)):
        assert (await client.get(wrong)).status_code == 404


async def test_the_frame_is_for_the_keys_origins_alone(
    client: httpx.AsyncClient, key: DomainKeyView, services: Services
) -> None:
    page = await client.get("/embed/frame", params={"k": key.key})
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers.get_list("content-security-policy")[0].count("frame-ancestors https://shop.example;") == 1
    assert len(page.headers.get_list("content-security-policy")) == 1
    assert page.headers.get_list("cross-origin-resource-policy") == ["cross-origin"]
    assert page.headers["cross-origin-embedder-policy"] == "require-corp"
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-content-type-options"] == "nosniff"
    assert "x-frame-options" not in page.headers
    config = config_of(page)
    assert (config["domain_key"], config["parents"], config["error"]) == (key.key, [SHOP], None)
    assert config["agent"]["name"] == "Robin"
    assert services.assets.frame_script.path in page.text


async def test_the_frames_ticket_opens_a_session(
    client: httpx.AsyncClient, key: DomainKeyView, services: Services
) -> None:
    page = await client.get("/embed/frame", params={"k": key.key}, headers={"Referer": f"{SHOP}/basket?x=1"})
    body = {"domain_key": key.key, "ticket": config_of(page)["ticket"]}
    opened = await client.post("/v1/sessions", json=body, headers={"Origin": PLATFORM})
    assert opened.status_code == 200, opened.text
    assert services.session_tokens.verify(opened.json()["token"]).origin == SHOP


async def test_a_session_renews_its_frames_ticket(
    client: httpx.AsyncClient, key: DomainKeyView, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await client.get("/embed/frame", params={"k": key.key})
    body = {"domain_key": key.key, "ticket": config_of(page)["ticket"]}
    token = (await client.post("/v1/sessions", json=body, headers={"Origin": PLATFORM})).json()["token"]
    later = clock.now() + timedelta(minutes=5)
    monkeypatch.setattr(clock, "now", lambda: later)
    stale = await client.post("/v1/sessions", json=body, headers={"Origin": PLATFORM})
    assert stale.json()["code"] == "invalid_ticket"
    renewed = await client.get("/embed/ticket", params={"k": key.key}, headers={"Authorization": f"Bearer {token}"})
    assert renewed.status_code == 200
    assert renewed.headers["cache-control"] == "no-store"
    fresh = await client.post("/v1/sessions", json=body | renewed.json(), headers={"Origin": PLATFORM})
    assert fresh.status_code == 200


async def test_a_ticket_is_for_sessions_of_its_own_key(
    client: httpx.AsyncClient, key: DomainKeyView, services: Services, site: Site
) -> None:
    other = await make_domain_key(services.database, site.tenant_id, agent_id=site.agent_id)

    async def ask(token: str, public_key: str = key.key, **headers: str) -> tuple[int, str | None]:
        response = await client.get(
            "/embed/ticket", params={"k": public_key}, headers={"Authorization": f"Bearer {token}"} | headers
        )
        return response.status_code, response.json().get("code")

    mine = Caller(site.tenant_id, "usr_1", site.agent_id, domain_key_id=key.id, origin=SHOP)
    token, _ = services.session_tokens.mint(mine)
    assert await ask(token) == (200, None)
    assert await ask(token, other.key) == (401, "invalid_ticket")
    assert await ask(token, "pk_unknown") == (404, "unknown_domain_key")
    assert await ask("x") == (401, "invalid_session")
    assert await ask(token, Origin="https://evil.example") == (403, "origin_not_allowed")
    preview, _ = services.session_tokens.mint(Caller(site.tenant_id, "usr_1", site.agent_id, preview=True))
    assert await ask(preview) == (401, "invalid_ticket")


async def test_an_unknown_key_gets_a_page_for_people(
    client: httpx.AsyncClient, key: DomainKeyView, services: Services
) -> None:
    async with services.database.tenant(await tenant_of(services, key)) as session:
        await revoke_domain_key(
            session, actor_of(await tenant_of(services, key)), agent_id=key.agent_id, domain_key_id=key.id
        )
    for query in ({}, {"k": ""}, {"k": "pk_unknown"}, {"k": key.key}, {"k": "<script>"}):
        page = await client.get("/embed/frame", params=query)
        assert page.status_code == 404
        assert page.headers["content-type"].startswith("text/html")
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "<script" not in page.text
    assert (await client.get("/embed/frame", params={"k": "x" * 200})).status_code == 422


async def tenant_of(services: Services, key: DomainKeyView) -> UUID:
    async with services.database.directory() as session:
        from stonechat.db.directory import tenant_of_domain_key

        found = await tenant_of_domain_key(session, key.key)
    assert found is not None
    return found[0]


async def test_hostile_names_stay_data(client: httpx.AsyncClient, services: Services, tenant_id: UUID) -> None:
    site = await make_site(services, tenant_id, name="</script><script>alert(1)//")
    key = await make_domain_key(services.database, tenant_id, agent_id=site.agent_id)
    page = await client.get("/embed/frame", params={"k": key.key})
    assert page.text.count("<script") == 2
    assert "alert(1)" not in re.sub(r'<script type="application/json".*?</script>|<title>.*?</title>', "", page.text)
    assert config_of(page)["agent"]["name"] == "</script><script>alert(1)//"


async def test_an_unpublished_agent_is_said_so(client: httpx.AsyncClient, services: Services, tenant_id: UUID) -> None:
    site = await make_site(services, tenant_id, publish=False)
    key = await make_domain_key(services.database, tenant_id, agent_id=site.agent_id)
    page = await client.get("/embed/frame", params={"k": key.key})
    assert page.status_code == 200
    assert config_of(page)["agent"] is None
    assert config_of(page)["error"]["code"] == "agent_not_published"


async def test_where_a_key_was_seen_is_noted(
    client: httpx.AsyncClient, services: Services, site: Site, key: DomainKeyView, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def seen() -> DomainKeyView:
        async with services.database.tenant(site.tenant_id) as session:
            return await get_domain_key(session, actor_of(site.tenant_id), agent_id=site.agent_id, domain_key_id=key.id)

    assert (await seen()).last_seen_at is None
    await client.get("/embed/frame", params={"k": key.key}, headers={"Referer": f"{SHOP}/"})
    first = await seen()
    assert first.last_seen_at is not None
    assert first.last_seen_origin == SHOP
    # Another within the minute changes nothing; a page that the key does not list is not believed.
    await client.get("/embed/frame", params={"k": key.key}, headers={"Referer": f"{SHOP}/"})
    assert await seen() == first
    later = clock.now() + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    await client.get("/embed/frame", params={"k": key.key}, headers={"Referer": "https://evil.example/"})
    second = await seen()
    assert second.last_seen_at is not None
    assert second.last_seen_at > first.last_seen_at
    assert second.last_seen_origin == SHOP

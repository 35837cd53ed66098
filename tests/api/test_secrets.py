"""`/api/v1/secrets`, over HTTP: names come back, values never do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from stonechat.api import secrets
from stonechat.api.dependencies import Services
from support.postgres import TestDatabase
from support.visitors import Site, build_app, client_of, make_site, running_services

VALUE = "Bearer swordfish-4711"


@pytest.fixture
async def services(test_database: TestDatabase, tmp_path: Path) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    app = build_app(services)
    app.include_router(secrets.router, prefix="/api/v1")
    async with client_of(app) as opened:
        yield opened


@pytest.fixture
async def site(services: Services, tenant_id: UUID) -> Site:
    return await make_site(services, tenant_id)


async def test_a_secret_is_stored_listed_replaced_and_deleted(client: httpx.AsyncClient, site: Site) -> None:
    body = {"name": "shop_key", "value": VALUE}
    stored = await client.put("/api/v1/secrets", json=body, headers=site.headers)
    assert stored.status_code == 200
    assert stored.json().keys() == {"id", "name", "created_at", "updated_at"}
    replaced = await client.put("/api/v1/secrets", json=body | {"value": "another"}, headers=site.headers)
    assert replaced.json()["id"] == stored.json()["id"]
    listed = await client.get("/api/v1/secrets", headers=site.headers)
    assert [row["name"] for row in listed.json()["data"]] == ["shop_key"]
    deleted = await client.delete(f"/api/v1/secrets/{stored.json()['id']}", headers=site.headers)
    assert deleted.status_code == 204
    again = await client.delete(f"/api/v1/secrets/{stored.json()['id']}", headers=site.headers)
    assert again.status_code == 404
    for answer in (stored, replaced, listed, again):
        assert "swordfish" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Shop Key", "value": VALUE},
        {"name": "shop_key", "value": f"{VALUE}\r\nX-Admin: 1"},
        {"name": "shop_key", "value": VALUE + "x" * 4000},
        {"name": "shop_key", "value": [VALUE]},
        {"name": "shop_key", "secret": VALUE},
        {"name": "shop_key"},
    ],
)
async def test_a_refusal_does_not_repeat_the_value(
    client: httpx.AsyncClient, site: Site, body: dict[str, object]
) -> None:
    answer = await client.put("/api/v1/secrets", json=body, headers=site.headers)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_input"
    assert "swordfish" not in answer.text

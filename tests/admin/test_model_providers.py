"""Model providers in the console: the key goes in and never comes out, and a test says what is wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from stonechat.accounts.models import Role
from stonechat.assistant.agents import create_agent
from stonechat.providers.service import create_provider, list_providers
from support.console import Browser, ConsoleWorld, console_world
from support.loopback import plain, serve
from support.postgres import TestDatabase

PATH = "/console/model-providers"
MODELS = json.dumps({"data": [{"id": "large"}, {"id": "small"}]}).encode()


@pytest.fixture(scope="module")
async def world(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    """One that may ask hosts on the loopback."""
    folder: Path = tmp_path_factory.mktemp("providers")
    networks = ("127.0.0.0/8",)
    async with console_world(test_database.web_url, folder, outbound_allowed=networks) as world:
        yield world


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


@pytest.fixture
async def admin(world: ConsoleWorld, tenant_id: UUID) -> Browser:
    return await world.signed_in("admin", tenant_id=tenant_id)


def compatible(url: str = "http://127.0.0.1:9/v1", **more: str) -> dict[str, str]:
    return {"kind": "openai_compatible", "name": "acme", "base_url": url, "api_key": "sk-first", **more}


async def add(world: ConsoleWorld, tenant_id: UUID, *, name: str = "acme", url: str = "http://127.0.0.1:9/v1") -> str:
    actor = type(world.actor)(tenant_id, "system", None, frozenset({"admin"}))
    async with world.services.database.tenant(tenant_id) as session:
        made = await create_provider(
            session,
            actor,
            keyring=world.services.keyring,
            name=name,
            kind="openai_compatible",
            api_key="sk-first",
            base_url=url,
        )
    return made.id


async def test_openai_needs_a_key_and_nothing_else(world: ConsoleWorld, admin: Browser) -> None:
    assert "Your agents quote so far" in (await admin.page(PATH)).text
    answer = await admin.htmx("POST", PATH, {"kind": "openai", "name": "", "api_key": " sk-secret "})
    assert answer.told["close"]
    page = await admin.page(PATH)
    assert "openai" in page.text
    assert "sk-secret" not in page.response.text + answer.response.text
    again = await admin.htmx("POST", PATH, {"kind": "openai", "name": "", "api_key": "sk-other"}, status=422)
    assert "already a model provider" in again.one("#name-error").text()
    assert "sk-other" not in again.response.text


async def test_the_connection_is_tested(world: ConsoleWorld, admin: Browser) -> None:
    async with serve(plain(MODELS)) as server:
        added = await admin.htmx("POST", PATH, compatible(f"{server.url}/v1"))
        (section,) = added.all("#providers section")
        tested = await admin.htmx("POST", f"{PATH}/{section.id}/test")
        assert "The connection works." in tested.text
        assert "large, small" in tested.text
        dialog = await admin.htmx("GET", f"{PATH}/{section.id}/key")
        assert dialog.told["show"] == "provider-key"
        replaced = await admin.htmx("POST", f"{PATH}/{section.id}/key", {"api_key": "sk-second"})
        assert replaced.response.headers["hx-redirect"] == PATH
        await admin.htmx("POST", f"{PATH}/{section.id}/test")
    assert [request.headers["authorization"] for request in server.requests] == ["bearer sk-first", "bearer sk-second"]


async def test_a_wrong_key_is_said_in_words(world: ConsoleWorld, tenant_id: UUID, admin: Browser) -> None:
    async with serve(plain(b"{}", status=401)) as server:
        provider = await add(world, tenant_id, url=server.url)
        tested = await admin.htmx("POST", f"{PATH}/{provider}/test")
    assert "refused the key" in tested.text


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        (compatible(name="Not Good"), "name"),
        (compatible(name=""), "name"),
        (compatible("not an address"), "base_url"),
        (compatible(""), "base_url"),
        (compatible("http://10.0.0.1/v1"), "base_url"),
        (compatible(api_key=""), "api_key"),
        (compatible(api_key="two words"), "api_key"),
    ],
)
async def test_what_is_wrong_is_said_at_the_field(admin: Browser, typed: dict[str, str], field: str) -> None:
    answer = await admin.htmx("POST", PATH, typed, status=422)
    assert answer.one(f"#{field}-error").text(strip=True)
    assert answer.one("#base_url").attributes["value"] == typed["base_url"]
    assert typed["api_key"] not in answer.response.text or not typed["api_key"]
    assert "Your agents quote so far" in (await admin.page(PATH)).text, "nothing was kept of it"


async def test_deleting_says_whom_it_hurts(world: ConsoleWorld, tenant_id: UUID, admin: Browser) -> None:
    provider = await add(world, tenant_id)
    actor = type(world.actor)(tenant_id, "system", None, frozenset({"admin"}))
    async with world.services.database.tenant(tenant_id) as session:
        await create_agent(session, actor, config={"name": "Robin", "model": "acme/large"})
    page = await admin.page(PATH)
    assert "Used by Robin" in page.text
    assert "Robin" in (page.one("[hx-delete]").attributes["data-confirm-detail"] or "")
    assert "quote so far" in (await admin.htmx("DELETE", f"{PATH}/{provider}")).text
    assert (await admin.htmx("DELETE", f"{PATH}/{provider}", status=404)).toast == "There is no such model provider."


@pytest.mark.parametrize(("role", "refused"), [("viewer", 4), ("editor", 1)])
async def test_each_role_has_its_limits(world: ConsoleWorld, tenant_id: UUID, role: Role, refused: int) -> None:
    provider = await add(world, tenant_id)
    other = await world.signed_in(role, tenant_id=tenant_id)
    assert "acme" in (await other.page(PATH)).text
    actions = [
        ("DELETE", f"{PATH}/{provider}"),
        ("POST", PATH),
        ("POST", f"{PATH}/{provider}/key"),
        ("POST", f"{PATH}/{provider}/test"),
    ]
    for method, path in actions[:refused]:
        assert "needs the role" in (await other.htmx(method, path, status=403)).toast
    async with world.services.database.tenant(tenant_id) as session:
        assert (
            len(
                await list_providers(
                    session, world.actor_of(other, role).__class__(tenant_id, "system", None, frozenset({"read"}))
                )
            )
            == 1
        )


async def test_another_tenants_provider_is_not_found(world: ConsoleWorld, tenant_id: UUID) -> None:
    provider = await add(world, tenant_id)
    stranger = await world.signed_in("owner", tenant_id=await world.another_tenant())
    assert "acme" not in (await stranger.page(PATH)).text
    for method, path in (
        ("GET", f"{PATH}/{provider}/key"),
        ("POST", f"{PATH}/{provider}/key"),
        ("POST", f"{PATH}/{provider}/test"),
        ("DELETE", f"{PATH}/{provider}"),
    ):
        data = {"api_key": "sk-theirs"} if path.endswith("key") and method == "POST" else None
        await stranger.htmx(method, path, data, status=404)

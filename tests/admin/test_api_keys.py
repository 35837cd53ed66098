"""API keys in the console: made, shown once, revoked, and for admins only."""

from __future__ import annotations

import pytest

from stonechat.accounts.api_keys import authenticate_api_key, create_api_key, list_api_keys
from stonechat.accounts.models import Role
from stonechat.errors import InvalidApiKey
from support.console import ConsoleWorld

PATH = "/console/api-keys"


async def test_a_key_is_shown_once_and_works(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    answer = await admin.htmx("POST", PATH, {"name": "Nightly import", "scopes": "write"})
    secret = answer.one("#new-secret").text(strip=True)
    assert (await authenticate_api_key(world.services.database, f"Bearer {secret}")).scopes == {"write"}
    assert answer.told == {"close": True, "show": "api-key-created"}
    page = await admin.page(PATH)
    assert "Nightly import" in page.text
    assert secret not in page.response.text


async def test_what_is_wrong_is_said_at_the_field_and_nothing_is_lost(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    answer = await admin.htmx("POST", PATH, {"name": " ", "scopes": "write"}, status=422)
    name = answer.one("#name")
    assert name.attributes["aria-invalid"] == "true"
    assert "1 to 200 characters" in answer.one("#name-error").text()
    assert answer.one("input[name=scopes][checked]").attributes["value"] == "write"


async def test_a_revoked_key_is_gone_and_ends(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    async with world.services.database.tenant(world.tenant_id) as session:
        key, secret = await create_api_key(session, world.actor, name="Old key", scopes=["read"])
    answer = await admin.htmx("DELETE", f"{PATH}/{key.id}")
    assert answer.toast == "The key was revoked."
    assert answer.all(f"#{key.id}") == []
    with pytest.raises(InvalidApiKey):
        await authenticate_api_key(world.services.database, f"Bearer {secret}")
    assert (await admin.htmx("DELETE", f"{PATH}/{key.id}")).toast, "twice changes nothing"


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_others_are_refused_by_the_server(world: ConsoleWorld, role: Role) -> None:
    other = await world.signed_in(role)
    page = await other.page(PATH, status=403)
    assert "This needs the role admin" in page.text
    refused = await other.htmx("POST", PATH, {"name": "Mine", "scopes": "read"}, status=403)
    assert "This needs the role admin" in refused.toast
    assert refused.response.headers["hx-reswap"] == "none"
    assert all(link.attributes["href"] != PATH for link in page.all("nav a"))


async def test_another_tenants_key_is_not_found(world: ConsoleWorld) -> None:
    stranger = await world.signed_in("owner", tenant_id=await world.another_tenant())
    async with world.services.database.tenant(world.tenant_id) as session:
        key, _ = await create_api_key(session, world.actor, name="Ours", scopes=["read"])
    answer = await stranger.htmx("DELETE", f"{PATH}/{key.id}", status=404)
    assert answer.toast == "There is no such API key."
    async with world.services.database.tenant(world.tenant_id) as session:
        assert key.id in [held.id for held in await list_api_keys(session, world.actor)]


async def test_an_empty_list_teaches(world: ConsoleWorld) -> None:
    owner = await world.signed_in("owner", tenant_id=await world.another_tenant())
    assert "No API keys yet" in (await owner.page(PATH)).text

"""`/api/v1/users`: a shop finds one of its visitors, takes away what it keeps of them, and forgets them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from support.management import Management, management
from support.postgres import TestDatabase
from support.uploads import UploadSite, Visitor


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    folder = tmp_path_factory.mktemp("users")
    async with management(test_database, folder) as opened:
        yield opened


async def visitor_called(house: Management, name: str, *, site: UploadSite | None = None) -> tuple[UploadSite, Visitor]:
    """Somebody whom a tenant's server vouched for, who has asked one thing with a file."""
    site = site or UploadSite(house.app, house.services, house.client, house.services.settings.data_dir / "files")
    visitor = await site.newcomer()
    async with house.services.database.tenant(visitor.caller.tenant_id) as session:
        await session.execute(
            text(
                "insert into users (tenant_id, user_id, external_id, name, email) values (:t, :u, :x, :n, :e)",
            ),
            {
                "t": visitor.caller.tenant_id,
                "u": visitor.caller.user_id,
                "x": f"customer-{name}",
                "n": name,
                "e": f"{name}@Example.com",
            },
        )
    await visitor.say(f"I am {name}", (await visitor.attach("note.txt", b"my own note"))["id"])
    return site, visitor


async def test_somebody_is_found_by_what_the_shop_knows_of_them(house: Management) -> None:
    _, ada = await visitor_called(house, "ada")
    shop = await house.key(ada.caller.tenant_id, "read")
    for asked in ({"external_id": "customer-ada"}, {"email": "ADA@example.com"}, {}):
        found = (await shop.call("GET", "/users", params=asked))["data"]
        assert [row["id"] for row in found] == [ada.caller.user_id]
    assert (await shop.call("GET", "/users", params={"external_id": "customer-ben"}))["data"] == []
    one = await shop.call("GET", f"/users/{ada.caller.user_id}")
    assert (one["name"], one["conversations"]) == ("ada", 1)


async def test_what_is_kept_of_somebody_is_taken_away(house: Management) -> None:
    _, ada = await visitor_called(house, "eve")
    shop = await house.key(ada.caller.tenant_id, "admin")
    document = await shop.call("GET", f"/users/{ada.caller.user_id}/export")
    assert document["user"]["email"] == "eve@Example.com"
    assert "I am eve" in json.dumps(document["conversations"])
    own = (await ada.client.get("/v1/me/export", headers=ada.headers)).json()
    assert [each["id"] for each in own["conversations"]] == [each["id"] for each in document["conversations"]]
    [noted] = (await shop.call("GET", "/audit-log", params={"action": "user.export"}))["data"]
    assert noted["subject_id"] == ada.caller.user_id


async def test_somebody_is_forgotten_and_nobody_else(house: Management) -> None:
    site, ada = await visitor_called(house, "cleo")
    ben = site.visitor(ada.caller.tenant_id, ada.caller.agent_id)
    await ben.say("Bens question")
    editor = await house.key(ada.caller.tenant_id, "write")
    assert (await editor.call("DELETE", f"/users/{ada.caller.user_id}", 403))["code"] == "scope_missing"
    shop = await house.key(ada.caller.tenant_id, "admin")
    await shop.call("DELETE", f"/users/{ada.caller.user_id}", 204)
    assert site.stored(ada) == []
    for path in ("", "/export"):
        assert (await shop.call("GET", f"/users/{ada.caller.user_id}{path}", 404))["code"] == "not_found"
    assert (await shop.call("DELETE", f"/users/{ada.caller.user_id}", 404))["code"] == "not_found"
    assert (await shop.call("GET", f"/users/{ben.caller.user_id}/export"))["conversations"]
    noted = await shop.call("GET", "/audit-log", params={"action": "user"})
    assert [entry["action"] for entry in noted["data"]][-1] == "user.erase"
    assert "cleo" not in json.dumps(noted)

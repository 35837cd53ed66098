"""`/api/v1/members`, over HTTP: an owner always stays, and seats are the plan's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from stonechat.accounts import invitations
from stonechat.accounts.actor import system
from stonechat.accounts.memberships import add_member
from stonechat.accounts.models import Role
from stonechat.plans.overrides import add_override
from support.management import Keyed, Management, management
from support.postgres import TestDatabase


@pytest.fixture(scope="module")
async def house(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Management]:
    async with management(test_database, tmp_path_factory.mktemp("members")) as opened:
        yield opened


async def joined(house: Management, shop: Keyed, email: str, role: Role) -> str:
    async with house.services.database.tenant(shop.tenant_id) as session:
        return (await add_member(session, system(shop.tenant_id), email=email, role=role)).id


async def test_members_are_listed_in_pages_and_given_roles(house: Management) -> None:
    shop = await house.tenant("Members one")
    ada = await joined(house, shop, "ada@members.example", "editor")
    ben = await joined(house, shop, "ben@members.example", "viewer")
    first = await shop.call("GET", "/members", params={"limit": 2})
    rest = await shop.call("GET", "/members", params={"limit": 2, "cursor": first["next_cursor"]})
    assert [row["role"] for row in first["data"] + rest["data"]] == ["owner", "editor", "viewer"]
    assert (len(first["data"]), rest["next_cursor"]) == (2, None)
    changed = await shop.call("PATCH", f"/members/{ben}", json={"role": "admin"})
    assert (changed["role"], changed["email"]) == ("admin", "ben@members.example")
    assert (await shop.call("GET", f"/members/{ben}"))["role"] == "admin"
    await shop.call("DELETE", f"/members/{ada}", 204)
    gone = await shop.call("DELETE", f"/members/{ada}", 404)
    assert gone["code"] == "not_found"
    done = [entry["action"] for entry in (await shop.call("GET", "/audit-log", params={"action": "member"}))["data"]]
    assert done[:2] == ["member.remove", "member.change_role"]


async def test_the_last_owner_stays_whoever_asks(house: Management) -> None:
    shop = await house.tenant("Members two")
    [owner] = (await shop.call("GET", "/members"))["data"]
    for method, body in (("PATCH", {"role": "viewer"}), ("DELETE", None)):
        refused = await shop.call(method, f"/members/{owner['id']}", 403, json=body)
        assert refused["code"] == "role_too_low"
    # Nor does a key make an owner, who could then be the one that goes.
    ada = await joined(house, shop, "ada@two.example", "admin")
    assert (await shop.call("PATCH", f"/members/{ada}", 403, json={"role": "owner"}))["code"] == "role_too_low"
    assert [row["role"] for row in (await shop.call("GET", "/members"))["data"]] == ["owner", "admin"]


async def test_invitations_are_sent_listed_sent_again_and_withdrawn(house: Management) -> None:
    shop = await house.tenant("Members three")
    key = {"Idempotency-Key": "once"}
    body = {"email": "New.Person@three.example", "role": "editor"}
    sent = await shop.call("POST", "/members/invitations", 201, json=body, headers=key)
    again = await shop.call("POST", "/members/invitations", 201, json=body, headers=key)
    assert again == sent
    assert sent["email"] == "new.person@three.example"
    renewed = await shop.call("POST", f"/members/invitations/{sent['id']}/resend", json={})
    assert renewed["id"] != sent["id"]
    await shop.call("POST", f"/members/invitations/{sent['id']}/resend", 404, json={})
    waiting = await shop.call("GET", "/members/invitations")
    assert [row["id"] for row in waiting["data"]] == [renewed["id"]]
    await shop.call("DELETE", f"/members/invitations/{renewed['id']}", 204)
    assert (await shop.call("GET", "/members/invitations"))["data"] == []


async def test_nobody_mails_strangers_without_end(house: Management, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "MAX_A_DAY", 3)
    shop, other = await house.tenant("Members mailing"), await house.tenant("Members not mailing")
    body = {"email": "somebody@mailing.example", "role": "viewer"}
    sent = await shop.call("POST", "/members/invitations", 201, json=body)
    await shop.call("DELETE", f"/members/invitations/{sent['id']}", 204)
    sent = await shop.call("POST", "/members/invitations", 201, json=body)
    sent = await shop.call("POST", f"/members/invitations/{sent['id']}/resend", json={})
    refused = await shop.call("POST", f"/members/invitations/{sent['id']}/resend", 429, json={})
    assert refused["code"] == "rate_limited"
    assert [row["id"] for row in (await shop.call("GET", "/members/invitations"))["data"]] == [sent["id"]]
    await other.call("POST", "/members/invitations", 201, json=body)


async def test_a_plan_without_a_free_seat_takes_no_invitation(house: Management) -> None:
    shop = await house.tenant("Members four")
    async with house.services.database.tenant(shop.tenant_id) as session:
        await add_override(
            session, shop.tenant_id, field="seats", value=2, reason="Small.", expires_at=None, by="opr_test"
        )
    await shop.call("POST", "/members/invitations", 201, json={"email": "a@four.example", "role": "viewer"})
    full = await shop.call("POST", "/members/invitations", 403, json={"email": "b@four.example", "role": "viewer"})
    assert (full["code"], full["limit"], full["included"]) == ("plan_limit", "seats", 2)


@pytest.mark.parametrize(
    ("scope", "method", "path", "body"),
    [
        ("write", "POST", "/members/invitations", {"email": "a@b.example", "role": "viewer"}),
        ("write", "GET", "/members/invitations", None),
        ("write", "PATCH", "/members/per_1", {"role": "viewer"}),
        ("write", "DELETE", "/members/per_1", None),
    ],
)
async def test_only_keys_for_admins_manage_members(
    house: Management, scope: str, method: str, path: str, body: dict[str, str] | None
) -> None:
    shop = await house.tenant("Members five", scope=scope)
    assert (await shop.call(method, path, 403, json=body))["code"] == "scope_missing"


@pytest.mark.parametrize("body", [{"email": "nobody", "role": "viewer"}, {"email": "a@b.example", "role": "king"}, {}])
async def test_impossible_invitations_are_refused(house: Management, body: dict[str, str]) -> None:
    shop = await house.tenant("Members six")
    assert (await shop.call("POST", "/members/invitations", 422, json=body))["code"] == "invalid_input"

"""Members in the console: invited, promoted, removed, and never the last owner."""

from __future__ import annotations

import re

import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.invitations import find_invitation, list_invitations
from stonechat.accounts.memberships import list_members
from stonechat.accounts.models import Role
from stonechat.errors import NotFound
from support.console import Browser, ConsoleWorld

PATH = "/console/members"
INVITE = "/console/invitations"


async def alone(world: ConsoleWorld, role: Role = "owner") -> Browser:
    """Somebody in a new tenant."""
    return await world.signed_in(role, tenant_id=await world.another_tenant())


async def roles_in(world: ConsoleWorld) -> dict[str, str]:
    async with world.services.database.tenant(world.tenant_id) as session:
        return {member.id: member.role for member in await list_members(session, world.actor)}


async def test_an_invitation_is_sent_sent_again_and_withdrawn(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    answer = await admin.htmx("POST", INVITE, {"email": " New@Shop.example ", "role": "editor"})
    assert answer.told["close"]
    assert "new@shop.example" in answer.text
    token = re.search(r"token=(\S+)", (await world.mail_to("new@shop.example")).text)
    assert token is not None
    waiting = await pending(world, "new@shop.example")
    again = await admin.htmx("POST", f"{INVITE}/{waiting}/resend")
    assert "The old one no longer works" in again.toast
    with pytest.raises(NotFound):
        await find_invitation(world.services.database, token[1])
    assert (await admin.htmx("POST", f"{INVITE}/{waiting}/resend", status=404)).toast
    newest = await pending(world, "new@shop.example")
    withdrawn = await admin.htmx("DELETE", f"{INVITE}/{newest}")
    assert "new@shop.example" not in withdrawn.text
    assert (await admin.htmx("DELETE", f"{INVITE}/{newest}")).toast, "twice changes nothing"


async def pending(world: ConsoleWorld, email: str) -> str:
    async with world.services.database.tenant(world.tenant_id) as session:
        (found,) = [held for held in await list_invitations(session, world.actor) if held.email == email]
        return found.id


@pytest.mark.parametrize(
    ("typed", "field"),
    [({"email": "nonsense", "role": "editor"}, "email"), ({"email": "a@shop.example", "role": "owner"}, "email")],
)
async def test_what_is_wrong_is_said_and_kept(world: ConsoleWorld, typed: dict[str, str], field: str) -> None:
    admin = await world.signed_in("admin")
    answer = await admin.htmx("POST", INVITE, typed, status=422)
    assert answer.one(f"#{field}").attributes["value"] == typed["email"]
    assert answer.one(f"#{field}-error").text(strip=True)


async def test_a_member_is_not_invited_again(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    answer = await admin.htmx("POST", INVITE, {"email": admin.email, "role": "viewer"}, status=422)
    assert "member already" in answer.one("#email-error").text()


async def test_a_role_is_changed(world: ConsoleWorld) -> None:
    owner, viewer = await world.signed_in("owner"), await world.signed_in("viewer")
    dialog = await owner.htmx("GET", f"{PATH}/{viewer.person_id}/role")
    assert dialog.told["show"] == "change-role"
    assert dialog.one("input[checked]").attributes["value"] == "viewer"
    answer = await owner.htmx("POST", f"{PATH}/{viewer.person_id}/role", {"role": "editor"})
    assert answer.response.headers["hx-redirect"] == PATH
    assert (await roles_in(world))[viewer.person_id] == "editor"
    refused = await owner.htmx("POST", f"{PATH}/{viewer.person_id}/role", {"role": "king"}, status=422)
    assert "A role is one of" in refused.text


async def test_admins_neither_make_nor_unmake_owners(world: ConsoleWorld) -> None:
    admin, owner = await world.signed_in("admin"), await world.signed_in("owner")
    page = await admin.page(PATH)
    assert page.one(f"#{owner.person_id}").css("button") == []
    refused = await admin.htmx("POST", f"{PATH}/{owner.person_id}/role", {"role": "viewer"}, status=422)
    assert "Only an owner" in refused.text
    assert "Only an owner" in (await admin.htmx("DELETE", f"{PATH}/{owner.person_id}", status=403)).toast
    promote = await admin.htmx("POST", f"{PATH}/{admin.person_id}/role", {"role": "owner"}, status=422)
    assert "Only an owner" in promote.text
    assert (await roles_in(world))[owner.person_id] == "owner"


async def test_a_member_is_removed_and_locked_out(world: ConsoleWorld) -> None:
    admin, editor = await world.signed_in("admin"), await world.signed_in("editor")
    await editor.page(PATH)
    answer = await admin.htmx("DELETE", f"{PATH}/{editor.person_id}")
    assert answer.all(f"#{editor.person_id}") == []
    assert (await editor.request("GET", PATH)).response.headers["location"] == "/console/tenants"
    assert (await admin.htmx("DELETE", f"{PATH}/{editor.person_id}", status=404)).toast == "There is no such member."


async def test_anybody_may_leave_but_not_the_last_owner(world: ConsoleWorld) -> None:
    viewer = await world.signed_in("viewer")
    left = await viewer.htmx("DELETE", f"{PATH}/{viewer.person_id}")
    assert left.response.headers["hx-redirect"] == "/console/tenants"
    assert viewer.person_id not in await roles_in(world)

    tenant_id = await world.another_tenant()
    owner = await world.signed_in("owner", tenant_id=tenant_id)
    async with world.services.database.tenant(tenant_id) as session:
        first, _ = await list_members(session, system(tenant_id))
    await owner.htmx("DELETE", f"{PATH}/{first.id}")
    assert "The only owner stays" in (await owner.page(PATH)).text
    assert "needs an owner" in (await owner.htmx("DELETE", f"{PATH}/{owner.person_id}", status=409)).toast
    demoted = await owner.htmx("POST", f"{PATH}/{owner.person_id}/role", {"role": "viewer"}, status=422)
    assert "needs an owner" in demoted.text


@pytest.mark.parametrize("role", ["viewer", "editor"])
async def test_others_see_who_is_there_and_change_nothing(world: ConsoleWorld, role: Role) -> None:
    admin = await world.signed_in("admin")
    await admin.htmx("POST", INVITE, {"email": f"waits-{role}@shop.example", "role": "viewer"})
    waiting = await pending(world, f"waits-{role}@shop.example")
    other = await world.signed_in(role)
    page = await other.page(PATH)
    assert admin.email in page.text
    assert f"waits-{role}@shop.example" not in page.text
    assert [button.attributes.get("hx-delete") for button in page.all("main button[hx-delete]")] == [
        f"{PATH}/{other.person_id}"
    ]
    for method, path in (
        ("POST", INVITE),
        ("POST", f"{INVITE}/{waiting}/resend"),
        ("DELETE", f"{INVITE}/{waiting}"),
        ("GET", f"{PATH}/{admin.person_id}/role"),
        ("POST", f"{PATH}/{admin.person_id}/role"),
        ("DELETE", f"{PATH}/{admin.person_id}"),
    ):
        refused = await other.htmx(
            method, path, {"role": "owner", "email": "x@shop.example"} if method == "POST" else None, status=403
        )
        assert "needs the role admin" in refused.toast, path


async def test_another_tenants_people_are_not_found(world: ConsoleWorld) -> None:
    theirs = await world.signed_in("viewer")
    admin = await world.signed_in("admin")
    await admin.htmx("POST", INVITE, {"email": "foreign@shop.example", "role": "viewer"})
    waiting = await pending(world, "foreign@shop.example")
    owner = await alone(world)
    assert theirs.email not in (await owner.page(PATH)).text
    for method, path in (
        ("GET", f"{PATH}/{theirs.person_id}/role"),
        ("POST", f"{PATH}/{theirs.person_id}/role"),
        ("DELETE", f"{PATH}/{theirs.person_id}"),
        ("POST", f"{INVITE}/{waiting}/resend"),
        ("DELETE", f"{INVITE}/{waiting}"),
    ):
        await owner.htmx(method, path, {"role": "viewer"} if method == "POST" else None, status=404)
    assert (await roles_in(world))[theirs.person_id] == "viewer"

"""How people come in: by invitation, by a forgotten password, by signing up."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.invitations import invite, list_invitations, revoke_invitation
from stonechat.accounts.memberships import list_members
from stonechat.accounts.models import Role
from stonechat.accounts.people import set_password
from stonechat.errors import AlreadyExists, InvalidInput, NotFound, RoleTooLow, ScopeMissing
from support.console import Browser, ConsoleWorld, console_world
from support.identity import PLATFORM
from support.postgres import TestDatabase

PASSWORD = "correct horse battery"


def new_email() -> str:
    return f"new-{uuid4().hex[:10]}@example.com"


async def invited(world: ConsoleWorld, email: str, role: Role = "editor") -> str:
    """Invite somebody; returns the path that the mail leads to."""
    async with world.services.database.tenant(world.tenant_id) as session:
        await invite(session, world.actor, email=email, role=role, public_url=PLATFORM)
    mail = await world.mail_to(email)
    return link_in(mail.text)


def link_in(text: str) -> str:
    found = re.search(rf"{PLATFORM}(\S+)", text)
    assert found
    return found.group(1)


async def roles(world: ConsoleWorld) -> dict[str, Role]:
    async with world.services.database.tenant(world.tenant_id) as session:
        return {member.email: member.role for member in await list_members(session, world.actor)}


async def test_a_newcomer_follows_the_mail_and_works(world: ConsoleWorld) -> None:
    email = new_email()
    link = await invited(world, email)
    browser = world.stranger()
    page = await browser.page(link)
    assert "Join Alder & Loom" in page.text
    token = page.one("input[name=token]").attributes["value"]
    short = await browser.submit(
        "/console/invitation", {"token": token, "name": "Ada", "password": "short"}, status=422
    )
    assert "10 to 256 characters" in short.one("#password-error").text()
    assert short.one("#name").attributes["value"] == "Ada"
    await browser.submit("/console/invitation", {"token": token, "name": "Ada", "password": PASSWORD})
    assert "Good to see you, Ada" in (await browser.page("/console")).text
    assert (await roles(world))[email] == "editor"
    assert "Ask for a new one" in (await world.stranger().page(link, status=404)).text


async def test_somebody_known_signs_in_to_accept(world: ConsoleWorld) -> None:
    person_id, email = await world.person()
    await set_password(world.services.database, person_id, password=PASSWORD)
    link = await invited(world, email, "viewer")
    browser = world.stranger()
    page = await browser.page(link)
    forward = page.one("a.btn").attributes["href"]
    login = await browser.page(str(forward))
    form = {"email": email, "password": PASSWORD, "next": login.one("input[name=next]").attributes["value"]}
    assert (await browser.submit("/console/login", form)).response.headers["location"] == link
    token = (await browser.page(link)).one("input[name=token]").attributes["value"]
    taking_over = {"token": token, "name": "Mallory", "password": "a password of another"}
    assert (
        "You have an account already"
        in (await world.stranger().submit("/console/invitation", taking_over, status=409)).text
    )
    await browser.submit("/console/invitation", {"token": token})
    assert (await roles(world))[email] == "viewer"
    assert "Viewer" in (await browser.page("/console")).text


async def test_an_invitation_is_for_one_address(world: ConsoleWorld) -> None:
    link = await invited(world, new_email())
    other = await world.signed_in("owner", tenant_id=await world.another_tenant())
    assert "Sign out first" in (await other.page(link)).text
    refused = await other.submit("/console/invitation", {"token": link.partition("token=")[2]}, status=403)
    assert "Sign in with that address" in refused.text


async def test_invitations_end(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    database = world.services.database
    revoked, replaced, old = new_email(), new_email(), new_email()
    links = {email: await invited(world, email) for email in (revoked, replaced, old)}
    async with database.tenant(world.tenant_id) as session:
        pending = {row.email: row.id for row in await list_invitations(session, world.actor)}
        await revoke_invitation(session, world.actor, invitation_id=pending[revoked])
        await revoke_invitation(session, world.actor, invitation_id=pending[revoked])
        again = await invite(session, world.actor, email=replaced, role="viewer", public_url=PLATFORM)
        now_pending = {row.email: row.id for row in await list_invitations(session, world.actor)}
    assert revoked not in now_pending
    assert now_pending[replaced] == again.id != pending[replaced]
    browser = world.stranger()
    await browser.page(links[revoked], status=404)
    await browser.page(links[replaced], status=404)
    await browser.page(links[old])
    later = clock.now() + timedelta(days=8)
    monkeypatch.setattr(clock, "now", lambda: later)
    await browser.page(links[old], status=404)


async def test_who_may_invite_whom(world: ConsoleWorld) -> None:
    admin, editor = await world.signed_in("admin"), await world.signed_in("editor")
    async with world.services.database.tenant(world.tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await invite(
                session, world.actor_of(editor, "editor"), email=new_email(), role="viewer", public_url=PLATFORM
            )
        with pytest.raises(RoleTooLow):
            await invite(session, world.actor_of(admin, "admin"), email=new_email(), role="owner", public_url=PLATFORM)
        with pytest.raises(AlreadyExists):
            await invite(session, world.actor, email=editor.email, role="viewer", public_url=PLATFORM)
        with pytest.raises(InvalidInput):
            await invite(session, world.actor, email="nonsense", role="viewer", public_url=PLATFORM)


async def test_another_tenants_invitation_is_not_found(world: ConsoleWorld) -> None:
    email = new_email()
    await invited(world, email)
    async with world.services.database.tenant(world.tenant_id) as session:
        pending = {row.email: row.id for row in await list_invitations(session, world.actor)}
    other = await world.another_tenant()
    async with world.services.database.tenant(other) as session:
        with pytest.raises(NotFound):
            await revoke_invitation(session, system(other), invitation_id=pending[email])


async def test_a_forgotten_password(world: ConsoleWorld) -> None:
    browser = await world.signed_in("editor")
    asking = world.stranger()
    known = await asking.submit("/console/forgot", {"email": browser.email}, status=200)
    unknown = await asking.submit("/console/forgot", {"email": "nobody@example.com"}, status=200)
    assert known.text.replace(browser.email, "") == unknown.text.replace("nobody@example.com", "")
    link = link_in((await world.mail_to(browser.email)).text)
    token = (await asking.page(link)).one("input[name=token]").attributes["value"]
    done = await asking.submit("/setup", {"token": token, "password": PASSWORD})
    assert done.response.headers["location"] == "/console/login"
    assert (await browser.request("GET", "/console")).status == 303, "other sessions end"
    spent = await asking.submit("/setup", {"token": token, "password": PASSWORD}, status=404)
    assert "used already" in spent.text
    await asking.submit("/console/login", {"email": browser.email, "password": PASSWORD})


async def test_a_reset_link_lives_an_hour(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    browser, asking = await world.signed_in("editor"), world.stranger()
    await asking.submit("/console/forgot", {"email": browser.email}, status=200)
    link = link_in((await world.mail_to(browser.email)).text)
    later = clock.now() + timedelta(minutes=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    form = {"token": link.partition("token=")[2], "password": PASSWORD}
    await asking.submit("/setup", form, status=404)


async def signing_up(browser: Browser, email: str, *, status: int = 303, **typed: str) -> str:
    form = {"company": "Fern & Co", "name": "Fern Smith", "email": email, "password": PASSWORD} | typed
    return (await browser.submit("/console/sign-up", form, status=status)).response.text


async def test_signing_up_makes_a_tenant_and_its_owner(world: ConsoleWorld) -> None:
    browser = world.stranger()
    assert "Create an account" in (await browser.page("/console/login")).text
    email = new_email()
    await signing_up(browser, email)
    page = await browser.page("/console")
    assert "Fern & Co" in page.text
    assert "Owner" in page.text
    taken = await signing_up(world.stranger(), email, status=409)
    assert "There is an account with this address" in taken


async def test_every_field_at_fault_says_so(world: ConsoleWorld) -> None:
    html = await signing_up(world.stranger(), "nonsense", status=422, company=" ", name="", password="short")
    for name in ("company", "name", "email", "password"):
        assert f'id="{name}-error"' in html


@pytest.mark.parametrize("mode", ["invite", "closed"])
async def test_signing_up_may_be_closed(test_database: TestDatabase, tmp_path: Path, mode: str) -> None:
    async with console_world(test_database.web_url, tmp_path, configured_sign_up=mode) as world:
        browser = world.stranger()
        assert "Create an account" not in (await browser.page("/console/login")).text
        assert (await browser.page("/console/sign-up")).all("form") == []
        await signing_up(browser, new_email(), status=403)
        token = (await invited(world, new_email())).partition("token=")[2]
        joining = {"token": token, "name": "Ada", "password": PASSWORD}
        await browser.submit("/console/invitation", joining, status=303 if mode == "invite" else 403)

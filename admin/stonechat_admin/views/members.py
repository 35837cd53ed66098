"""`/console/members`: who works here, in which role, and who was invited."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import APIRouter, Form, Response

from stonechat.accounts import invitations, memberships
from stonechat.accounts.invitations import InvitationView
from stonechat.accounts.memberships import MemberView
from stonechat.accounts.models import Role
from stonechat.errors import AlreadyExists, Conflict, InvalidInput, RoleTooLow
from stonechat_admin.auth import Admin, Console, Viewer
from stonechat_admin.forms import Filled, refused

router = APIRouter()

ROLES: list[tuple[Role, str, str]] = [
    ("viewer", "Viewer", "Sees everything but keys for scripts and the audit log. Changes nothing."),
    ("editor", "Editor", "Shapes agents and knowledge, and puts them on your sites."),
    ("admin", "Admin", "Also invites people, makes API keys and deletes conversations."),
    ("owner", "Owner", "Also makes and unmakes owners. There is always at least one."),
]
NOBODY = Filled({"email": "", "role": "editor"})


async def _values(console: Console, form: Filled = NOBODY) -> dict[str, Any]:
    """What the page and its parts are drawn from."""
    members = await memberships.list_members(console.session, console.actor)
    invited: list[InvitationView] = []
    if console.may("admin"):
        invited = await invitations.list_invitations(console.session, console.actor)
    return {
        "members": members,
        "invitations": invited,
        "form": form,
        "roles": _offered(console),
        "only_owner": [member.role for member in members].count("owner") == 1,
    }


def _offered(console: Console) -> list[tuple[Role, str, str]]:
    return [choice for choice in ROLES if choice[0] != "owner" or console.may("owner")]


@router.get("/console/members")
async def show_members(console: Viewer) -> Response:
    return console.page("members/page.html", **await _values(console))


@router.post("/console/invitations")
async def invite(
    console: Admin, email: Annotated[str, Form(max_length=500)] = "", role: Annotated[str, Form(max_length=20)] = ""
) -> Response:
    typed = {"email": email, "role": role}
    try:
        async with console.session.begin_nested():
            await _invite(console, email, role)
    except (InvalidInput, AlreadyExists, Conflict, RoleTooLow) as error:
        # Reading the list again would cost nothing, but the list did not change.
        form = refused(error, typed, about="email")
        return console.fragment("members/_invite.html", status=422, form=form, roles=_offered(console))
    toast = f"The invitation to {email.strip()} is on its way."
    return console.fragment("members/_invited.html", toast=toast, close=True, **await _values(console))


@router.post("/console/invitations/{invitation_id}/resend")
async def resend_invitation(invitation_id: str, console: Admin) -> Response:
    sent = await invitations.resend_invitation(
        console.session,
        console.actor,
        invitation_id=invitation_id,
        public_url=console.services.settings.public_url,
    )
    toast = f"A new link is on its way to {sent.email}. The old one no longer works."
    return console.fragment("members/_lists.html", toast=toast, **await _values(console))


@router.delete("/console/invitations/{invitation_id}")
async def revoke_invitation(invitation_id: str, console: Admin) -> Response:
    await invitations.revoke_invitation(console.session, console.actor, invitation_id=invitation_id)
    return console.fragment("members/_lists.html", toast="The invitation was withdrawn.", **await _values(console))


@router.get("/console/members/{person_id}/role")
async def show_role(person_id: str, console: Admin) -> Response:
    member = await _find(console, person_id)
    form = Filled({"role": member.role})
    return console.fragment("members/_role.html", show="change-role", member=member, form=form, roles=_offered(console))


@router.post("/console/members/{person_id}/role")
async def change_role(person_id: str, console: Admin, role: Annotated[str, Form(max_length=20)] = "") -> Response:
    try:
        async with console.session.begin_nested():
            changed = await memberships.change_role(
                console.session, console.actor, person_id=person_id, role=cast("Role", role)
            )
    except (InvalidInput, Conflict, RoleTooLow) as error:
        member = await _find(console, person_id)
        form = refused(error, {"role": role}, about="role")
        return console.fragment(
            "members/_role_form.html", status=422, member=member, form=form, roles=_offered(console)
        )
    toast = f"{changed.name or changed.email} is {_with_article(changed.role)} now."
    return console.go("/console/members", toast=toast)


@router.delete("/console/members/{person_id}")
async def remove_member(person_id: str, console: Viewer) -> Response:
    leaving = person_id == console.signed_in.person_id
    if not leaving:
        console.require("admin")
    await memberships.remove_member(console.session, console.actor, person_id=person_id)
    if leaving:
        return console.go("/console/tenants", toast=f"You have left {console.tenant_name}.")
    return console.fragment("members/_lists.html", toast="The member was removed.", **await _values(console))


async def _invite(console: Console, email: str, role: str) -> None:
    await invitations.invite(
        console.session,
        console.actor,
        email=email,
        role=cast("Role", role),
        public_url=console.services.settings.public_url,
    )


async def _find(console: Console, person_id: str) -> MemberView:
    return await memberships.get_member(console.session, console.actor, person_id=person_id)


def _with_article(role: str) -> str:
    return f"a {role}" if role == "viewer" else f"an {role}"

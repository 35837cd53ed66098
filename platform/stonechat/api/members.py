"""`/api/v1/members`: who works in the tenant's console, in which role, and who was invited."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from stonechat.accounts import invitations, memberships
from stonechat.accounts.invitations import InvitationView
from stonechat.accounts.memberships import MemberView
from stonechat.accounts.models import Role
from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page, cut_page, decode_cursor

router = APIRouter(
    prefix="/members", tags=["Members"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


class NewInvitation(BaseModel):
    """Whom to invite. Only owners, signed in to the console, make other owners."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "a@b.example", "role": "editor"}]}
    )

    email: Annotated[str, Field(min_length=3, max_length=320)]
    role: Role


class NewRole(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "viewer"}]})

    role: Role


@router.get("", summary="List members, the longest-standing first")
async def list_members(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[MemberView]:
    return await memberships.page_of_members(session, actor, limit=limit, cursor=cursor)


@router.get("/invitations", summary="List invitations that wait for an answer, newest first")
async def list_invitations(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[InvitationView]:
    before = None if cursor is None else decode_cursor(cursor, str)[0]
    rows = await invitations.list_invitations(session, actor, limit=limit + 1, before=before)
    return cut_page(rows, limit, lambda row: row.id)


@router.post("/invitations", status_code=201, summary="Invite somebody by mail")
async def invite_member(
    body: NewInvitation, actor: ApiActor, session: TenantSession, services: AppServices
) -> InvitationView:
    """A pending invitation to the same address is replaced. Members and open invitations take the plan's seats."""
    return await invitations.invite(
        session, actor, email=body.email, role=body.role, public_url=services.settings.public_url
    )


@router.post("/invitations/{invitation_id}/resend", summary="Send an invitation again, with a new link")
async def resend_invitation(
    invitation_id: str, actor: ApiActor, session: TenantSession, services: AppServices
) -> InvitationView:
    """The new invitation has an id of its own; the link of before ends."""
    return await invitations.resend_invitation(
        session, actor, invitation_id=invitation_id, public_url=services.settings.public_url
    )


@router.delete("/invitations/{invitation_id}", status_code=204, summary="Withdraw an invitation")
async def revoke_invitation(invitation_id: str, actor: ApiActor, session: TenantSession) -> None:
    await invitations.revoke_invitation(session, actor, invitation_id=invitation_id)


@router.get("/{person_id}", summary="One member")
async def get_member(person_id: str, actor: ApiActor, session: TenantSession) -> MemberView:
    return await memberships.get_member(session, actor, person_id=person_id)


@router.patch("/{person_id}", summary="Give a member another role")
async def change_role(person_id: str, body: NewRole, actor: ApiActor, session: TenantSession) -> MemberView:
    """The last owner stays one, and only owners, signed in to the console, make and unmake owners."""
    return await memberships.change_role(session, actor, person_id=person_id, role=body.role)


@router.delete("/{person_id}", status_code=204, summary="End a membership")
async def remove_member(person_id: str, actor: ApiActor, session: TenantSession) -> None:
    """The last owner cannot be removed."""
    await memberships.remove_member(session, actor, person_id=person_id)

"""Invitations by mail: made, taken up, withdrawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor, system
from stonechat.accounts.audit import record_audit
from stonechat.accounts.memberships import add_member, check_role, may_touch_owners, require_seat
from stonechat.accounts.models import Invitation, Membership, Role, Tenant
from stonechat.accounts.passwords import PASSWORDS, Passwords
from stonechat.accounts.people import MAX_NAME, find_or_create_person, normalise_email
from stonechat.db.directory import DirectoryInvitation, Person
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound, RateLimited
from stonechat.mail import compose, send_mail

LIFETIME = timedelta(days=7)
MAX_PENDING = 100
MAX_A_DAY = 300
"""Mails to people who did not ask for one, those to the same person and of invitations withdrawn since included."""


class InvitationView(BaseModel):
    """An invitation that waits for an answer, as the tenant's members see it."""

    model_config = ConfigDict(frozen=True)

    id: str
    email: str
    role: Role
    created_at: AwareDatetime
    expires_at: AwareDatetime


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """An invitation, as whoever holds its link sees it."""

    tenant_id: UUID
    invitation_id: str
    tenant_name: str
    email: str
    role: Role
    has_password: bool
    """Whether the person signs in to accept, rather than choosing a password."""


async def invite(session: AsyncSession, actor: Actor, *, email: str, role: Role, public_url: str) -> InvitationView:
    """Invite somebody by mail. A pending invitation to the same address is replaced: its link ends.

    Raises `AlreadyExists` for a member, `RoleTooLow` where only an owner may, `Conflict`, `InvalidInput`, `RateLimited`.
    """
    actor.require("admin")
    check_role(role)
    await may_touch_owners(session, actor, role)
    email = normalise_email(email)
    tenant = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == actor.tenant_id).with_for_update())
    member = select(Membership).join(Person, Person.person_id == Membership.person_id)
    if await session.scalar(member.where(Membership.tenant_id == actor.tenant_id, Person.email == email)):
        raise AlreadyExists("This person is a member already.")
    for former in await session.scalars(_pending(actor.tenant_id).where(Invitation.email == email)):
        await _end(session, former)
    waiting = select(func.count()).select_from(_pending(actor.tenant_id).subquery())
    if (await session.scalar(waiting) or 0) >= MAX_PENDING:
        raise Conflict(f"There are already {MAX_PENDING} open invitations. Revoke one.")
    yesterday = Invitation.created_at > clock.now() - timedelta(days=1)
    mailed = select(func.count()).where(Invitation.tenant_id == actor.tenant_id, yesterday)
    if (await session.scalar(mailed) or 0) >= MAX_A_DAY:
        raise RateLimited(
            f"{MAX_A_DAY} invitations were mailed within a day. Invite the others tomorrow.",
            headers={"Retry-After": "3600"},
        )
    await require_seat(session, actor.tenant_id)
    token = ids.new_secret("invite")
    row = Invitation(
        tenant_id=actor.tenant_id,
        invitation_id=ids.new_id("inv"),
        email=email,
        role=role,
        invited_by=actor.id if actor.kind == "person" else None,
        token_hash=_digest(token),
        created_at=clock.now(),
        expires_at=clock.now() + LIFETIME,
    )
    entry = DirectoryInvitation(token_hash=row.token_hash, tenant_id=row.tenant_id, invitation_id=row.invitation_id)
    session.add_all([row, entry])
    await session.flush()
    inviter = await session.scalar(select(Person.name).where(Person.person_id == row.invited_by)) or tenant
    await record_audit(
        session, actor, "invitation.create", subject_id=row.invitation_id, detail={"email": email, "role": role}
    )
    mail = compose(
        "invitation",
        to=email,
        inviter=inviter,
        tenant=tenant,
        role=f"{'an' if role != 'viewer' else 'a'} {role}",
        url=invitation_url(public_url, token=token),
        until=f"{row.expires_at:%-d %B %Y}",
    )
    await send_mail(session, actor.tenant_id, mail)
    return _view(row)


async def list_invitations(
    session: AsyncSession, actor: Actor, *, limit: int = MAX_PENDING, before: str | None = None
) -> list[InvitationView]:
    """The invitations that wait for an answer, newest first; those made before the invitation `before`."""
    actor.require("admin")
    chosen = _pending(actor.tenant_id)
    if before is not None:
        chosen = chosen.where(Invitation.invitation_id < before)
    rows = await session.scalars(chosen.order_by(Invitation.invitation_id.desc()).limit(limit))
    return [_view(row) for row in rows]


async def resend_invitation(
    session: AsyncSession, actor: Actor, *, invitation_id: str, public_url: str
) -> InvitationView:
    """Invite the same person anew: the link of before ends. Raises `NotFound` unless it waits, and what `invite` raises."""
    actor.require("admin")
    row = await session.scalar(_pending(actor.tenant_id).where(Invitation.invitation_id == invitation_id))
    if row is None:
        raise NotFound("This invitation was accepted, withdrawn or has expired.")
    return await invite(session, actor, email=row.email, role=row.role, public_url=public_url)


async def revoke_invitation(session: AsyncSession, actor: Actor, *, invitation_id: str) -> None:
    """End an invitation. One that ended already stays as it is; raises `NotFound`."""
    actor.require("admin")
    mine = (Invitation.tenant_id == actor.tenant_id) & (Invitation.invitation_id == invitation_id)
    row = await session.scalar(select(Invitation).where(mine).with_for_update())
    if row is None:
        raise NotFound("There is no such invitation.")
    if row.accepted_at is None and row.revoked_at is None:
        await _end(session, row)
        await record_audit(session, actor, "invitation.revoke", subject_id=invitation_id, detail={"email": row.email})


async def find_invitation(database: Database, token: str) -> OpenInvitation:
    """The invitation of a link. Raises `NotFound` for one that was used, revoked or has expired."""
    tenant_id, invitation_id = await _look_up(database, token)
    async with database.tenant(tenant_id) as session:
        row = await session.scalar(_pending(tenant_id).where(Invitation.invitation_id == invitation_id))
        if row is None:
            raise _spent()
        name = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == tenant_id))
        hashed = await session.scalar(select(Person.password_hash).where(Person.email == row.email))
    return OpenInvitation(tenant_id, invitation_id, name or "", row.email, row.role, hashed is not None)


async def accept_invitation(database: Database, token: str, *, person_id: str) -> UUID:
    """Join as a person who is signed in; returns the tenant. Raises `Forbidden` for another's invitation, `NotFound`."""
    tenant_id, invitation_id = await _look_up(database, token)
    async with database.tenant(tenant_id) as session:
        row = await _take(session, tenant_id, invitation_id)
        person = await session.get(Person, person_id)
        if person is None or person.email != row.email:
            raise Forbidden(f"This invitation is for {row.email}. Sign in with that address.")
        await _join(session, row, person)
    return tenant_id


async def accept_as_newcomer(
    database: Database,
    token: str,
    *,
    name: str,
    password: str,
    may_create: bool = True,
    passwords: Passwords = PASSWORDS,
) -> tuple[UUID, str]:
    """Join with a new account; returns the tenant and the person. The mail that carried the link proves the address.

    Raises `Conflict` for a person who has a password (they sign in instead), `InvalidInput`, `NotFound`, and `Forbidden`
    where no new people are taken.
    """
    found = await find_invitation(database, token)
    if found.has_password:
        raise Conflict("You have an account already. Sign in to accept the invitation.")
    if not may_create:
        raise Forbidden("No new accounts are made on this installation. Ask whoever runs it.")
    name = name.strip()
    if not 1 <= len(name) <= MAX_NAME or "\x00" in name:
        message = f"A name has 1 to {MAX_NAME} characters."
        raise InvalidInput(message, errors=[{"field": "name", "message": message}])
    hashed = await passwords.hash(password)
    async with database.tenant(found.tenant_id) as session:
        row = await _take(session, found.tenant_id, found.invitation_id)
        person, _ = await find_or_create_person(session, email=row.email, name=name)
        without = (Person.person_id == person.person_id) & Person.password_hash.is_(None)
        changed = update(Person).where(without).values(password_hash=hashed, name=name).returning(Person.person_id)
        if await session.scalar(changed) is None:
            raise Conflict("You have an account already. Sign in to accept the invitation.")
        await _join(session, row, person)
    return found.tenant_id, person.person_id


def invitation_url(public_url: str, *, token: str) -> str:
    """Where the person goes with the token."""
    return f"{public_url}/console/invitation?token={token}"


async def _look_up(database: Database, token: str) -> tuple[UUID, str]:
    async with database.directory() as session:
        entry = await session.get(DirectoryInvitation, _digest(token))
    if entry is None:
        raise _spent()
    return entry.tenant_id, entry.invitation_id


async def _take(session: AsyncSession, tenant_id: UUID, invitation_id: str) -> Invitation:
    chosen = _pending(tenant_id).where(Invitation.invitation_id == invitation_id).with_for_update()
    row = await session.scalar(chosen)
    if row is None:
        raise _spent()
    return row


async def _join(session: AsyncSession, row: Invitation, person: Person) -> None:
    row.accepted_at = clock.now()
    await session.execute(delete(DirectoryInvitation).where(DirectoryInvitation.token_hash == row.token_hash))
    await add_member(session, system(row.tenant_id), email=person.email, role=row.role)
    joined = Actor(row.tenant_id, "person", person.person_id)
    detail: dict[str, Any] = {"role": row.role}
    await record_audit(session, joined, "invitation.accept", subject_id=row.invitation_id, detail=detail)


async def _end(session: AsyncSession, row: Invitation) -> None:
    row.revoked_at = clock.now()
    await session.execute(delete(DirectoryInvitation).where(DirectoryInvitation.token_hash == row.token_hash))


def _pending(tenant_id: UUID) -> Select[Invitation]:
    return select(Invitation).where(
        Invitation.tenant_id == tenant_id,
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
        Invitation.expires_at > clock.now(),
    )


def _spent() -> NotFound:
    return NotFound("This invitation was used, withdrawn, or has expired. Ask for a new one.")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _view(row: Invitation) -> InvitationView:
    return InvitationView(
        id=row.invitation_id, email=row.email, role=row.role, created_at=row.created_at, expires_at=row.expires_at
    )

"""Who belongs to a tenant, in which role. A tenant always keeps an owner."""

from __future__ import annotations

from typing import get_args
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor, Scope
from stonechat.accounts.audit import record_audit
from stonechat.accounts.models import Invitation, Membership, Role
from stonechat.accounts.people import find_or_create_person, normalise_email
from stonechat.db.directory import DirectoryMembership, Person
from stonechat.errors import AlreadyExists, Conflict, InvalidInput, NotFound, RoleTooLow
from stonechat.plans.entitlements import require_room
from stonechat.web.paging import Page, encode_cursor, moment_and_id

MAX_MEMBERS = 500
SCOPE_OF_ROLE: dict[Role, Scope] = {"owner": "admin", "admin": "admin", "editor": "write", "viewer": "read"}


class MemberView(BaseModel):
    """A member, as the others see them."""

    model_config = ConfigDict(frozen=True)

    id: str
    email: str
    name: str
    role: Role
    created_at: AwareDatetime


async def actor_of_member(session: AsyncSession, tenant_id: UUID, *, person_id: str) -> Actor:
    """A person as an actor in this tenant, with the scope of their role; `NotFound` unless they are a member."""
    member = await _load(session, tenant_id, person_id)
    return Actor(tenant_id, "person", person_id, frozenset({SCOPE_OF_ROLE[member.role]}))


async def list_members(session: AsyncSession, actor: Actor) -> list[MemberView]:
    """Every member, the longest-standing first; at most 500 by construction."""
    return (await page_of_members(session, actor, limit=MAX_MEMBERS)).data


async def page_of_members(
    session: AsyncSession, actor: Actor, *, limit: int, cursor: str | None = None
) -> Page[MemberView]:
    """Some of the members, the longest-standing first. Raises `InvalidCursor`."""
    actor.require("read")
    key = (Membership.created_at, Membership.person_id)
    chosen = (
        select(Membership, Person)
        .join(Person, Person.person_id == Membership.person_id)
        .where(Membership.tenant_id == actor.tenant_id)
        .order_by(*key)
        .limit(limit + 1)
    )
    if cursor is not None:
        chosen = chosen.where(tuple_(*key) > tuple_(*moment_and_id(cursor)))
    rows = [_view(membership, person) for membership, person in await session.execute(chosen)]
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(
        data=rows[:limit], next_cursor=encode_cursor(last.created_at.isoformat(), last.id) if last is not None else None
    )


async def get_member(session: AsyncSession, actor: Actor, *, person_id: str) -> MemberView:
    """One member, or `NotFound`."""
    actor.require("read")
    member = await _load(session, actor.tenant_id, person_id)
    return _view(member, await session.get_one(Person, person_id))


async def add_member(session: AsyncSession, actor: Actor, *, email: str, role: Role, name: str = "") -> MemberView:
    """Make the person with this address a member; they are created if nobody has it. Raises `AlreadyExists`."""
    actor.require("admin")
    check_role(role)
    await may_touch_owners(session, actor, role)
    held = await session.scalar(
        select(func.count()).select_from(Membership).where(Membership.tenant_id == actor.tenant_id)
    )
    if (held or 0) >= MAX_MEMBERS:
        raise Conflict(f"A tenant has at most {MAX_MEMBERS} members.")
    await require_seat(session, actor.tenant_id, invited=normalise_email(email))
    person, _ = await find_or_create_person(session, email=email, name=name)
    key = (actor.tenant_id, person.person_id)
    if await session.get(Membership, key) is not None:
        raise AlreadyExists("This person is a member already.")
    membership = Membership(tenant_id=actor.tenant_id, person_id=person.person_id, role=role)
    session.add_all([membership, DirectoryMembership(person_id=person.person_id, tenant_id=actor.tenant_id)])
    await session.flush()
    await session.refresh(membership)
    await record_audit(session, actor, "member.add", subject_id=person.person_id, detail={"role": role})
    return _view(membership, person)


async def require_seat(session: AsyncSession, tenant_id: UUID, *, invited: str | None = None) -> None:
    """Raise `PlanLimitReached` unless the plan has a seat left. An open invitation holds one, but not against who it is for."""
    await require_room(session, tenant_id, "seats", used=seats_taken(tenant_id, besides=invited or ""))


def seats_taken(tenant_id: UUID, *, besides: str = "") -> Select[int]:
    """The query that counts members and open invitations to others, but not to `besides`."""
    members = select(func.count()).select_from(Membership).where(Membership.tenant_id == tenant_id).scalar_subquery()
    joined = select(Person.email).join(Membership, Membership.person_id == Person.person_id)
    waiting = select(func.count()).where(
        Invitation.tenant_id == tenant_id,
        Invitation.accepted_at.is_(None),
        Invitation.revoked_at.is_(None),
        Invitation.expires_at > clock.now(),
        Invitation.email != besides,
        Invitation.email.not_in(joined.where(Membership.tenant_id == tenant_id)),
    )
    return select(members + waiting.scalar_subquery())


async def change_role(session: AsyncSession, actor: Actor, *, person_id: str, role: Role) -> MemberView:
    """Give a member another role. Raises `Conflict` for the last owner; the same role changes nothing."""
    actor.require("admin")
    check_role(role)
    owners = await _locked_owners(session, actor.tenant_id)
    member = await _load(session, actor.tenant_id, person_id)
    if member.role != role:
        await may_touch_owners(session, actor, role, member.role)
        _keep_an_owner(owners, person_id)
        await record_audit(
            session, actor, "member.change_role", subject_id=person_id, detail={"from": member.role, "to": role}
        )
        member.role = role
        await session.flush()
    person = await session.get_one(Person, person_id)
    return _view(member, person)


async def remove_member(session: AsyncSession, actor: Actor, *, person_id: str) -> None:
    """End a membership; anyone may end their own. Raises `Conflict` for the last owner."""
    leaving = actor.kind == "person" and actor.id == person_id
    actor.require("read" if leaving else "admin")
    owners = await _locked_owners(session, actor.tenant_id)
    member = await _load(session, actor.tenant_id, person_id)
    if not leaving:
        await may_touch_owners(session, actor, member.role)
    _keep_an_owner(owners, person_id)
    await session.execute(
        delete(DirectoryMembership).where(
            DirectoryMembership.person_id == person_id, DirectoryMembership.tenant_id == actor.tenant_id
        )
    )
    await session.delete(member)
    await record_audit(session, actor, "member.remove", subject_id=person_id, detail={"role": member.role})


async def _load(session: AsyncSession, tenant_id: UUID, person_id: str) -> Membership:
    chosen = select(Membership).where(Membership.tenant_id == tenant_id, Membership.person_id == person_id)
    member = await session.scalar(chosen.execution_options(populate_existing=True))
    if member is None:
        raise NotFound("There is no such member.")
    return member


async def _locked_owners(session: AsyncSession, tenant_id: UUID) -> set[str]:
    """The owners, locked until the transaction ends, so that two cannot remove each other at once."""
    chosen = select(Membership.person_id).where(Membership.tenant_id == tenant_id, Membership.role == "owner")
    return set(await session.scalars(chosen.order_by(Membership.person_id).with_for_update()))


def _keep_an_owner(owners: set[str], person_id: str) -> None:
    if owners == {person_id}:
        raise Conflict("A tenant needs an owner. Make someone else an owner first.")


async def may_touch_owners(session: AsyncSession, actor: Actor, *roles: Role) -> None:
    """Only owners (and the platform) make and unmake owners: an admin's key must not outrank its maker."""
    if "owner" not in roles or actor.kind in ("system", "operator"):
        return
    if actor.kind == "person" and actor.id is not None:
        own = await session.get(Membership, (actor.tenant_id, actor.id))
        if own is not None and own.role == "owner":
            return
    raise RoleTooLow("Only an owner can do this to an owner, or make one.")


def check_role(role: str) -> None:
    if role not in get_args(Role):
        raise InvalidInput(f"A role is one of {', '.join(get_args(Role))}.")


def _view(membership: Membership, person: Person) -> MemberView:
    return MemberView(
        id=person.person_id,
        email=person.email,
        name=person.name,
        role=membership.role,
        created_at=membership.created_at,
    )

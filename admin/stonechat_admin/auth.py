"""Who works in the console, in which tenant and role: what every page's view is handed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.accounts.memberships import SCOPE_OF_ROLE
from stonechat.accounts.models import Role
from stonechat.accounts.sessions import SignedIn, find_session
from stonechat.accounts.suspension import FOR_ITS_PEOPLE, is_open_to
from stonechat.api.dependencies import AppServices, Services
from stonechat.errors import Forbidden, RoleTooLow, TenantSuspended
from stonechat.limits.limiter import address_key
from stonechat.operator.bulletin import Notice
from stonechat.operator.sign_in import OperatorSession, find_looking, look_through
from stonechat.operator.support import Grant, forget_look, note_look, open_grant
from stonechat.web import client_address
from stonechat_admin.answering import Answering
from stonechat_admin.cookies import OPERATOR, read_cookie, session_token
from stonechat_admin.csrf import check_origin, check_token
from stonechat_admin.standing import NO_BILLING, Standing, membership_query, standing_of

_RANK: dict[Role, int] = {"viewer": 0, "editor": 1, "admin": 2, "owner": 3}


class Elsewhere(Exception):
    """Another page comes first; see `app.install_console`."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.url = url


SUSPENDED = Notice(
    "warning",
    "This account is suspended.",
    "Your visitors are told that the chat is paused. You can read, export and delete what there is; whoever runs this "
    "installation can open it again.",
)


@dataclass(frozen=True)
class Console(Answering):
    """A person at work in a tenant. `session` is one transaction: committed when the view returns, undone if it raises."""

    session: AsyncSession
    actor: Actor
    signed_in: SignedIn
    role: Role
    tenant_name: str
    notices: tuple[Notice, ...] = ()
    """What the platform tells everybody here, above the page."""
    support: Grant | None = None
    """The grant under which an operator, who is no member, looks at this tenant."""
    standing: Standing = NO_BILLING
    """Whether plans are sold here, and what is owed."""
    is_suspended: bool = False
    """Then this is to read, to export or to delete; what would ask a model is for the view to refuse."""

    @property
    def tenant_id(self) -> UUID:
        return self.actor.tenant_id

    def may(self, role: Role) -> bool:
        """Whether this person's role is at least `role`."""
        return _RANK[self.role] >= _RANK[role]

    def require(self, role: Role) -> None:
        """Raise `RoleTooLow` unless this person's role is at least `role`."""
        if not self.may(role):
            raise RoleTooLow(f"This needs the role {role}; yours is {self.role}. Ask an admin of {self.tenant_name}.")


async def signed_in(request: Request, services: AppServices) -> SignedIn:
    """Who is signed in, whatever the tenant. Raises `SignInNeeded`, or `ForgedRequest` for a form of another site."""
    check_origin(request, services.platform_origins)
    person = await find_session(services.database, session_token(request))
    await check_token(request, person.csrf)
    return person


def client_key(request: Request) -> str:
    """What the sender is counted by: see `limits.limiter.address_key`."""
    return address_key(client_address(request))


async def looking_operator(request: Request, services: Services) -> OperatorSession | None:
    """The operator who sends this, if they look into a tenant."""
    token = read_cookie(request, OPERATOR)
    if token is None:
        return None
    return await find_looking(services.database, token, address=client_key(request))


async def own_page(request: Request, services: AppServices) -> None:
    """For forms of people who are not signed in: they must come from our own pages."""
    check_origin(request, services.platform_origins)


SignedInPerson = Annotated[SignedIn, Depends(signed_in)]


@dataclass(frozen=True)
class AtWork:
    """Who works in a tenant: a member of it, or an operator under a grant."""

    person: SignedIn
    operator: OperatorSession | None = None


async def at_work(request: Request, services: AppServices) -> AtWork:
    """As `signed_in`; an operator who looks into a tenant comes before the person that the operator also is."""
    held = await looking_operator(request, services)
    if held is None:
        return AtWork(await signed_in(request, services))
    check_origin(request, services.platform_origins)
    await check_token(request, held.csrf)
    who = held.operator
    person = SignedIn("", b"", held.csrf, who.person_id, who.email, who.name or who.email, held.grant_tenant_id)
    return AtWork(person, held)


Worker = Annotated[AtWork, Depends(at_work)]


@asynccontextmanager
async def support_console(
    request: Request,
    services: Services,
    person: SignedIn,
    held: OperatorSession,
    notices: tuple[Notice, ...],
) -> AsyncIterator[Console]:
    """The tenant's console as an operator sees it: under an open grant, for reading unless the grant is for more.

    A suspended tenant is looked at as its own people look at it: to read, to export, to delete.
    """
    assert held.grant_tenant_id is not None and held.grant_id is not None  # noqa: S101, PT018
    tenant_id = held.grant_tenant_id
    try:
        async with services.database.tenant(tenant_id) as session:
            found = await open_grant(session, tenant_id, grant_id=held.grant_id, operator_id=held.operator.operator_id)
            if found is not None:
                grant, tenant = found
                if grant.access == "read" and request.method not in ("GET", "HEAD"):
                    raise Forbidden("This grant is for reading only.")
                is_suspended = tenant.status != "active"
                if is_suspended:
                    _require_open(request, tenant.name)
                    notices = (SUSPENDED, *notices)
                role: Role = "viewer" if grant.access == "read" else "editor"
                actor = Actor(tenant_id, "operator", held.operator.operator_id, frozenset({SCOPE_OF_ROLE[role]}))
                if request.method == "GET":
                    await note_look(session, held.operator, grant, page=request.url.path)
                yield Console(
                    request,
                    services,
                    session,
                    actor,
                    person,
                    role,
                    tenant.name,
                    notices,
                    grant,
                    is_suspended=is_suspended,
                )
                return
    except BaseException:
        forget_look(held.grant_id, page=request.url.path)
        raise
    await look_through(services.database, held, grant_id=None, tenant_id=None)
    raise Elsewhere(f"/operator/tenants/{tenant_id}?grant=over")


def _require_open(request: Request, name: str) -> None:
    """Raise `TenantSuspended` for what is neither to read nor to delete."""
    if not is_open_to(request.method, request.url.path):
        raise TenantSuspended(FOR_ITS_PEOPLE.format(name=name))


def require(role: Role) -> Callable[..., AsyncIterator[Console]]:
    """A dependency that yields the `Console` of a person whose role is at least `role`."""

    async def console(request: Request, services: AppServices, who: Worker) -> AsyncIterator[Console]:
        person = who.person
        if person.tenant_id is None:
            raise Elsewhere("/console/tenants")
        notices = await services.bulletin.notices(person.tenant_id)
        if who.operator is not None:
            async with support_console(request, services, person, who.operator, notices) as looking:
                request.state.console = looking
                looking.require(role)
                yield looking
            return
        async with services.database.tenant(person.tenant_id) as session:
            found = (await session.execute(membership_query(person.tenant_id, person.person_id))).one_or_none()
            if found is None:
                raise Elsewhere("/console/tenants")
            held, name, status, *_ = found
            is_suspended = status != "active"
            if is_suspended:
                _require_open(request, name)
                notices = (SUSPENDED, *notices)
            actor = Actor(person.tenant_id, "person", person.person_id, frozenset({SCOPE_OF_ROLE[held]}))
            standing = standing_of(found, through_stripe=services.billing.gateway is not None)
            working = Console(
                request,
                services,
                session,
                actor,
                person,
                held,
                name,
                notices,
                standing=standing,
                is_suspended=is_suspended,
            )
            request.state.console = working
            working.require(role)
            yield working

    return console


Viewer = Annotated[Console, Depends(require("viewer"), scope="function")]
Editor = Annotated[Console, Depends(require("editor"), scope="function")]
Admin = Annotated[Console, Depends(require("admin"), scope="function")]
Owner = Annotated[Console, Depends(require("owner"), scope="function")]

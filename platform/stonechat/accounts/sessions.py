"""Console sessions: kept by the server, named by a cookie whose hash alone is stored, ended at any time."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update

from stonechat import clock, ids
from stonechat.accounts.lockout import count_attempt, forgive
from stonechat.accounts.models import Membership, Role, Tenant
from stonechat.accounts.passwords import PASSWORDS, Passwords
from stonechat.accounts.people import normalise_email, verify_password
from stonechat.db.directory import ConsoleSession, DirectoryMembership, Person
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, SignInNeeded, SignInRefused

IDLE_LIFETIME, LIFETIME = timedelta(hours=12), timedelta(days=30)
SEEN_EVERY = timedelta(minutes=1)
MAX_SESSIONS = 50
"""Of one person; the oldest end first."""
MAX_TOKEN = 128


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A live session and its person."""

    session_id: str
    token_hash: bytes
    csrf: str
    """What forms of this session carry; derived from the cookie's secret, stored nowhere."""
    person_id: str
    email: str
    name: str
    tenant_id: UUID | None
    """The tenant chosen; whether the person still belongs to it is for the tenant to say."""


@dataclass(frozen=True, slots=True)
class TenantChoice:
    """A tenant that a person may work in."""

    tenant_id: UUID
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session, as its person sees it among the others."""

    id: str
    user_agent: str
    address: str
    created_at: datetime
    last_seen_at: datetime
    is_current: bool


async def sign_in(
    database: Database,
    email: str,
    *,
    password: str,
    address: str,
    user_agent: str = "",
    passwords: Passwords = PASSWORDS,
) -> str:
    """The token of a new session, for the cookie. Raises `SignInRefused` or `TooManyAttempts`.

    `address` is what one subscriber is counted by. The same work is done for addresses that nobody has.
    """
    try:
        email = normalise_email(email)
    except InvalidInput:
        email = email.strip().lower()[:254]
    await count_attempt(database, "sign-in", email=email, address=address)
    person = await verify_password(database, email, password=password, passwords=passwords)
    if person is None:
        raise SignInRefused("The e-mail address or the password is wrong.")
    await forgive(database, "sign-in", email=email, address=address)
    return await open_session(database, person.person_id, address=address, user_agent=user_agent)


async def open_session(
    database: Database, person_id: str, *, address: str, user_agent: str = "", tenant_id: UUID | None = None
) -> str:
    """The token of a new session of a person whose identity was just proved. Chooses the tenant if there is but one."""
    token, now = ids.new_secret("cs"), clock.now()
    async with database.directory() as session:
        mine = select(DirectoryMembership.tenant_id).where(DirectoryMembership.person_id == person_id)
        tenants = list(await session.scalars(mine.limit(2)))
        own = select(ConsoleSession.token_hash).where(ConsoleSession.person_id == person_id)
        oldest = own.order_by(ConsoleSession.created_at.desc()).offset(MAX_SESSIONS - 1)
        await session.execute(delete(ConsoleSession).where(ConsoleSession.token_hash.in_(oldest)))
        session.add(
            ConsoleSession(
                token_hash=_digest(token),
                session_id=ids.new_id("ses"),
                person_id=person_id,
                tenant_id=tenant_id or (tenants[0] if len(tenants) == 1 else None),
                user_agent=user_agent.replace("\x00", "")[:400],
                address=address[:64],
                created_at=now,
                last_seen_at=now,
                expires_at=now + LIFETIME,
            )
        )
    return token


async def find_session(database: Database, token: str | None) -> SignedIn:
    """The session of a cookie, and note that it was seen. Raises `SignInNeeded` for one that ended."""
    if not token or len(token) > MAX_TOKEN:
        raise SignInNeeded
    now, token_hash = clock.now(), _digest(token)
    async with database.directory() as session:
        live = ConsoleSession.token_hash == token_hash
        live &= (ConsoleSession.expires_at > now) & (ConsoleSession.last_seen_at > now - IDLE_LIFETIME)
        chosen = select(ConsoleSession, Person).join(Person, Person.person_id == ConsoleSession.person_id).where(live)
        row = (await session.execute(chosen)).one_or_none()
        if row is None:
            raise SignInNeeded
        found, person = row
        if found.last_seen_at < now - SEEN_EVERY:
            mine = update(ConsoleSession).where(ConsoleSession.token_hash == token_hash)
            await session.execute(mine.values(last_seen_at=now))
        return SignedIn(
            session_id=found.session_id,
            token_hash=token_hash,
            csrf=_csrf(token),
            person_id=person.person_id,
            email=person.email,
            name=person.name,
            tenant_id=found.tenant_id,
        )


async def choose_tenant(database: Database, signed_in: SignedIn, *, tenant_id: UUID) -> None:
    """Work in this tenant from now on. Raises `NotFound` unless the person belongs to it."""
    async with database.directory() as session:
        belongs = await session.get(DirectoryMembership, (signed_in.person_id, tenant_id))
        if belongs is None:
            raise NotFound("There is no such tenant.")
        mine = update(ConsoleSession).where(ConsoleSession.token_hash == signed_in.token_hash)
        await session.execute(mine.values(tenant_id=tenant_id))


async def tenants_to_choose(database: Database, person_id: str) -> list[TenantChoice]:
    """The tenants a person belongs to, by name."""
    async with database.platform() as session:
        rows = await session.execute(
            select(Tenant.tenant_id, Tenant.name, Membership.role)
            .join(Membership, Membership.tenant_id == Tenant.tenant_id)
            .where(Membership.person_id == person_id)
            .order_by(Tenant.name, Tenant.tenant_id)
            .limit(200)
        )
        return [TenantChoice(tenant_id, name, role) for tenant_id, name, role in rows]


async def end_session(database: Database, token: str | None) -> None:
    """Sign out. A session that ended already stays ended."""
    async with database.directory() as session:
        await session.execute(delete(ConsoleSession).where(ConsoleSession.token_hash == _digest(token or "")))


async def list_sessions(database: Database, signed_in: SignedIn) -> list[SessionView]:
    """The person's live sessions, the latest seen first."""
    now = clock.now()
    async with database.directory() as session:
        live = ConsoleSession.person_id == signed_in.person_id
        live &= (ConsoleSession.expires_at > now) & (ConsoleSession.last_seen_at > now - IDLE_LIFETIME)
        rows = await session.scalars(select(ConsoleSession).where(live).order_by(ConsoleSession.last_seen_at.desc()))
        return [
            SessionView(
                id=row.session_id,
                user_agent=row.user_agent,
                address=row.address,
                created_at=row.created_at,
                last_seen_at=row.last_seen_at,
                is_current=row.token_hash == signed_in.token_hash,
            )
            for row in rows
        ]


async def end_sessions(database: Database, signed_in: SignedIn, *, session_id: str | None = None) -> None:
    """End one of the person's other sessions, or all of them; the current one goes on.

    Raises `NotFound` for a session that is another person's, or ended already.
    """
    chosen = (ConsoleSession.person_id == signed_in.person_id) & (ConsoleSession.token_hash != signed_in.token_hash)
    if session_id is not None:
        chosen &= ConsoleSession.session_id == session_id
    async with database.directory() as session:
        ended = (await session.scalars(delete(ConsoleSession).where(chosen).returning(ConsoleSession.session_id))).all()
    if session_id is not None and not ended:
        raise NotFound("This session has ended already.")


async def change_password(
    database: Database,
    signed_in: SignedIn,
    *,
    current: str,
    password: str,
    address: str,
    user_agent: str = "",
    passwords: Passwords = PASSWORDS,
) -> str:
    """Set a new password and end every session; returns the token of a new one. Raises `InvalidInput`, `TooManyAttempts`."""
    await count_attempt(database, "sign-in", email=signed_in.email, address=address)
    if await verify_password(database, signed_in.email, password=current, passwords=passwords) is None:
        raise InvalidInput(
            "This is not your present password.",
            errors=[{"field": "current", "message": "This is not your present password."}],
        )
    await forgive(database, "sign-in", email=signed_in.email, address=address)
    hashed = await passwords.hash(password)
    await _replace_password(database, signed_in.person_id, hashed)
    return await open_session(
        database, signed_in.person_id, address=address, user_agent=user_agent, tenant_id=signed_in.tenant_id
    )


async def _replace_password(database: Database, person_id: str, hashed: str) -> None:
    async with database.directory() as session:
        await session.execute(update(Person).where(Person.person_id == person_id).values(password_hash=hashed))
        await session.execute(delete(ConsoleSession).where(ConsoleSession.person_id == person_id))


async def purge_sessions(database: Database) -> None:
    """Forget sessions that ended."""
    now = clock.now()
    ended = (ConsoleSession.expires_at <= now) | (ConsoleSession.last_seen_at <= now - IDLE_LIFETIME)
    async with database.directory() as session:
        await session.execute(delete(ConsoleSession).where(ended))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _csrf(token: str) -> str:
    mac = hmac.digest(token.encode(), b"stonechat console form", "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

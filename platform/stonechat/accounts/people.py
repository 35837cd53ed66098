"""People: addresses, passwords, and the one-time links by which a person sets the first password, or a new one."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Literal

import idna
from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.passwords import PASSWORDS, Passwords
from stonechat.db.directory import ConsoleSession, Person, SetupToken
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound

SETUP_LIFETIME = timedelta(days=7)
RESET_LIFETIME = timedelta(hours=1)
MAX_NAME = 200
_LOCAL = re.compile(r"[a-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}")
_DOMAIN = re.compile(r"(?=.{4,190}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")


def normalise_email(address: str) -> str:
    """One spelling per mailbox: trimmed, lower case, the domain in its ASCII form. Raises `InvalidInput`."""
    local, at, domain = address.strip().rpartition("@")
    local = local.lower()
    try:
        domain = domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        at = ""
    dotted = local.startswith(".") or local.endswith(".") or ".." in local
    if not at or dotted or not _LOCAL.fullmatch(local) or not _DOMAIN.fullmatch(domain):
        raise InvalidInput("This is not an e-mail address.", errors=[{"field": "email", "message": "not an address"}])
    return f"{local}@{domain}"


async def find_or_create_person(session: AsyncSession, *, email: str, name: str = "") -> tuple[Person, bool]:
    """The person with this address, and whether they are new. Any session of the application may ask."""
    email = normalise_email(email)
    name = (name.strip() or email.partition("@")[0])[:MAX_NAME]
    created = await session.scalar(
        insert(Person)
        .values(person_id=ids.new_id("per"), email=email, name=name)
        .on_conflict_do_nothing(index_elements=[Person.email])
        .returning(Person.person_id)
    )
    person = await session.scalar(select(Person).where(Person.email == email))
    if person is None:
        raise NotFound("This person was deleted just now.")
    return person, created is not None


async def set_password(database: Database, person_id: str, *, password: str, passwords: Passwords = PASSWORDS) -> None:
    """Give a person a new password. Raises `InvalidInput`, `NotFound` or `Unavailable`."""
    hashed = await passwords.hash(password)
    async with database.directory() as session:
        await _store(session, person_id, hashed)


async def verify_password(
    database: Database, email: str, *, password: str, passwords: Passwords = PASSWORDS
) -> Person | None:
    """The person, if address and password fit; None otherwise, after the same work, so that time tells nothing."""
    try:
        address = normalise_email(email)
    except InvalidInput:
        address = ""
    async with database.directory() as session:
        person = await session.scalar(select(Person).where(Person.email == address))
    stored = person.password_hash if person else None
    verdict = await passwords.verify(stored, password)
    if person is None or not verdict.matches:
        return None
    if verdict.outdated:
        hashed = await passwords.hash(password)
        async with database.directory() as session:
            # Only if nobody changed the password while this one was hashed.
            same = (Person.person_id == person.person_id) & (Person.password_hash == stored)
            await session.execute(update(Person).where(same).values(password_hash=hashed))
    return person


async def new_setup_token(session: AsyncSession, person_id: str, *, kind: Literal["setup", "reset"] = "setup") -> str:
    """A secret that lets its bearer set this person's password, once, within a week (`reset`: an hour); see `setup_url`.

    Whoever asks must be entitled to reset that person's password: the platform's own operators, or the person.
    """
    secret = ids.new_secret(kind)
    expires_at = clock.now() + (SETUP_LIFETIME if kind == "setup" else RESET_LIFETIME)
    session.add(SetupToken(token_hash=_digest(secret), person_id=person_id, kind=kind, expires_at=expires_at))
    await session.flush()
    return secret


def setup_url(public_url: str, *, token: str) -> str:
    """Where the person goes with the token."""
    return f"{public_url}/setup?token={token}"


async def redeem_setup_token(database: Database, token: str, *, password: str, passwords: Passwords = PASSWORDS) -> str:
    """Set the password of the person the token was made for, and return their id. The token is used up.

    Whoever was signed in as this person, on any device, no longer is.
    Raises `NotFound` for a token that is unknown, used or expired, `InvalidInput` for the password.
    """
    live = (SetupToken.token_hash == _digest(token)) & SetupToken.used_at.is_(None)
    live &= SetupToken.expires_at > clock.now()
    async with database.directory() as session:
        if await session.scalar(select(SetupToken.person_id).where(live)) is None:
            raise _spent()
    hashed = await passwords.hash(password)
    async with database.directory() as session:
        # The one that marks it used has it: two at once cannot both.
        used = update(SetupToken).where(live).values(used_at=clock.now()).returning(SetupToken.person_id)
        person_id = await session.scalar(used)
        if person_id is None:
            raise _spent()
        await _store(session, person_id, hashed)
        others = (SetupToken.person_id == person_id) & SetupToken.used_at.is_(None)
        await session.execute(update(SetupToken).where(others).values(used_at=clock.now()))
        await session.execute(delete(ConsoleSession).where(ConsoleSession.person_id == person_id))
    return person_id


async def _store(session: AsyncSession, person_id: str, hashed: str) -> None:
    changed = update(Person).where(Person.person_id == person_id).values(password_hash=hashed)
    if await session.scalar(changed.returning(Person.person_id)) is None:
        raise NotFound("There is no such person.")


def _spent() -> NotFound:
    return NotFound("This link was used already, or has expired. Ask for a new one.")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()

"""Signing up: a person nobody knew, and their tenant."""

from __future__ import annotations

from sqlalchemy import select, update

from stonechat.accounts.lockout import count_attempt
from stonechat.accounts.passwords import PASSWORDS, Passwords
from stonechat.accounts.people import MAX_NAME, normalise_email
from stonechat.accounts.tenants import CreatedTenant, checked_name, create_tenant
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists, InvalidInput

_TAKEN = "There is an account with this address already. Sign in, or reset your password."


async def sign_up(
    database: Database,
    *,
    company: str,
    name: str,
    email: str,
    password: str,
    address: str,
    passwords: Passwords = PASSWORDS,
) -> CreatedTenant:
    """A tenant and its owner, who has this password. Whether the installation wants that is for the caller to know.

    Raises `InvalidInput` naming each field at fault, `AlreadyExists`, or `TooManyAttempts` where one address (what one
    subscriber is counted by) makes many.
    """
    errors = []
    try:
        checked_name(company)
    except InvalidInput as error:
        errors.append({"field": "company", "message": str(error)})
    if not 1 <= len(name.strip()) <= MAX_NAME or "\x00" in name:
        errors.append({"field": "name", "message": f"A name has 1 to {MAX_NAME} characters."})
    try:
        email = normalise_email(email)
    except InvalidInput as error:
        errors.append({"field": "email", "message": str(error)})
    try:
        passwords.check(password)
    except InvalidInput as error:
        errors.append({"field": "password", "message": str(error)})
    if errors:
        raise InvalidInput("Correct what is marked below.", errors=errors)
    await count_attempt(database, "sign-up", email=email, address=address)
    async with database.directory() as session:
        if await session.scalar(select(Person.person_id).where(Person.email == email)) is not None:
            raise AlreadyExists(_TAKEN, errors=[{"field": "email", "message": _TAKEN}])
    hashed = await passwords.hash(password)
    made = await create_tenant(database, name=company, owner_email=email, owner_name=name)
    async with database.directory() as session:
        without = (Person.person_id == made.owner_id) & Person.password_hash.is_(None)
        changed = update(Person).where(without).values(password_hash=hashed).returning(Person.person_id)
        if not made.owner_is_new or await session.scalar(changed) is None:
            raise AlreadyExists(_TAKEN, errors=[{"field": "email", "message": _TAKEN}])
    return made

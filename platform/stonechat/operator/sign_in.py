"""How operators sign in: the password again, whoever is signed in to the console, then a code from the phone.

Their sessions are apart from the console's: short, named by a cookie of their own whose hash alone is stored, and ended by a
new password.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, select, update

from stonechat import clock, ids
from stonechat.accounts.lockout import count_attempt, forgive
from stonechat.accounts.people import normalise_email, verify_password
from stonechat.crypto.keyring import Keyring
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, OperatorSignInNeeded, SignInRefused
from stonechat.operator import second_factor
from stonechat.operator.models import OperatorRow, OperatorSessionRow
from stonechat.operator.operators import Operator, record

PENDING_LIFETIME = timedelta(minutes=10)
"""Between the password and the code."""
IDLE_LIFETIME, LIFETIME = timedelta(minutes=30), timedelta(hours=8)
SEEN_EVERY = timedelta(minutes=1)
MAX_TOKEN = 128
MAX_SESSIONS = 10
REFUSED = "The e-mail address or the password is wrong, or this person is not an operator."
Stage = Literal["password", "full"]


@dataclass(frozen=True, slots=True)
class OperatorSession:
    """A live session of an operator."""

    token_hash: bytes
    csrf: str
    operator: Operator
    stage: Stage
    is_enrolled: bool
    """Whether the phone is set up."""
    grant_id: str | None
    grant_tenant_id: UUID | None
    """The tenant whose console the operator looks at, under a grant; whether the grant still holds is for it to say."""


async def prove_password(database: Database, email: str, *, password: str, address: str) -> str:
    """The token of a session that still lacks the second factor. Raises `SignInRefused` or `TooManyAttempts`."""
    try:
        email = normalise_email(email)
    except InvalidInput:
        email = email.strip().lower()[:254]
    await count_attempt(database, "operator", email=email, address=address)
    person = await verify_password(database, email, password=password)
    found = await _operator_of(database, person) if person is not None else None
    if person is None or found is None:
        raise SignInRefused(REFUSED)
    await forgive(database, "operator", email=email, address=address)
    token, now = ids.new_secret("ops"), clock.now()
    async with database.platform() as session:
        own = select(OperatorSessionRow.token_hash).where(OperatorSessionRow.operator_id == found)
        oldest = own.order_by(OperatorSessionRow.created_at.desc()).offset(MAX_SESSIONS - 1)
        over = OperatorSessionRow.token_hash.in_(oldest) | (OperatorSessionRow.expires_at <= now)
        await session.execute(delete(OperatorSessionRow).where(over))
        session.add(
            OperatorSessionRow(
                token_hash=_digest(token),
                operator_id=found,
                stage="password",
                address=address[:64],
                password_mark=_mark(person),
                created_at=now,
                last_seen_at=now,
                expires_at=now + PENDING_LIFETIME,
            )
        )
        await record(
            session, Operator(found, person.person_id, person.email, person.name, address), "operator.password"
        )
    return token


async def find_session(
    database: Database, token: str | None, *, address: str, stage: Stage = "full"
) -> OperatorSession:
    """The session of a cookie, if it has come as far as `stage`. Raises `OperatorSignInNeeded`."""
    if not token or len(token) > MAX_TOKEN:
        raise OperatorSignInNeeded
    now, row = clock.now(), OperatorSessionRow
    live = (row.token_hash == _digest(token)) & (row.expires_at > now) & (row.last_seen_at > now - IDLE_LIFETIME)
    async with database.platform() as session:
        chosen = (
            select(row, OperatorRow, Person)
            .join(OperatorRow, OperatorRow.operator_id == row.operator_id)
            .join(Person, Person.person_id == OperatorRow.person_id)
            .where(live, OperatorRow.disabled_at.is_(None))
        )
        found = (await session.execute(chosen)).one_or_none()
        if found is None:
            raise OperatorSignInNeeded
        kept, operator, person = found
        if kept.password_mark != _mark(person) or (stage == "full" and kept.stage != "full"):
            raise OperatorSignInNeeded
        if kept.last_seen_at < now - SEEN_EVERY:
            await session.execute(update(row).where(row.token_hash == kept.token_hash).values(last_seen_at=now))
        return OperatorSession(
            token_hash=kept.token_hash,
            csrf=_csrf(token),
            operator=Operator(operator.operator_id, person.person_id, person.email, person.name, address),
            stage="full" if kept.stage == "full" else "password",
            is_enrolled=operator.totp_confirmed_at is not None,
            grant_id=kept.grant_id,
            grant_tenant_id=kept.grant_tenant_id,
        )


async def find_looking(database: Database, token: str, *, address: str) -> OperatorSession | None:
    """The full session of a cookie, if the operator looks into a tenant just now."""
    try:
        held = await find_session(database, token, address=address)
    except OperatorSignInNeeded:
        return None
    return held if held.grant_tenant_id is not None and held.grant_id is not None else None


async def enrolment_secret(database: Database, keyring: Keyring, held: OperatorSession) -> str:
    """The secret for the phone of an operator who has none yet: the same until a code of it has fitted."""
    operator_id = held.operator.operator_id
    async with database.platform() as session:
        row = await session.get_one(OperatorRow, operator_id, with_for_update=True)
        if row.totp_confirmed_at is not None:
            raise OperatorSignInNeeded
        if row.totp_sealed is not None:
            return second_factor.unseal(keyring, row.totp_sealed, operator_id=operator_id)
        secret = second_factor.new_secret()
        row.totp_sealed = second_factor.seal(keyring, secret, operator_id=operator_id)
        return secret


async def prove_code(
    database: Database, keyring: Keyring, held: OperatorSession, *, code: str
) -> tuple[str, list[str]]:
    """The token of a full session, and recovery codes to be shown once, if this was the first sign-in.

    `code` is of the phone, or a recovery code, which is used up. Raises `SignInRefused` or `TooManyAttempts`.
    """
    operator = held.operator
    # Counted wherever they come from: who has got this far knows the password, and six digits bear few guesses.
    counted_by = {"email": operator.email, "address": operator.operator_id}
    await count_attempt(database, "operator-code", **counted_by)
    token, now, codes = ids.new_secret("ops"), clock.now(), list[str]()
    refused = False
    async with database.platform() as session:
        row = await session.get_one(OperatorRow, operator.operator_id, with_for_update=True)
        if row.totp_sealed is None or row.disabled_at is not None:
            raise OperatorSignInNeeded
        secret = second_factor.unseal(keyring, row.totp_sealed, operator_id=operator.operator_id)
        step = second_factor.fitting_step(secret, code, after=row.totp_last_step)
        hashed = second_factor.recovery_hash(code)
        if step is not None:
            row.totp_last_step = step
        elif row.totp_confirmed_at is not None and hashed in row.recovery_hashes:
            row.recovery_hashes = [kept for kept in row.recovery_hashes if kept != hashed]
            await record(session, operator, "operator.recovery_code", detail={"left": len(row.recovery_hashes)})
        else:
            refused = True
            await record(session, operator, "operator.code_refused")
        if not refused:
            if row.totp_confirmed_at is None:
                row.totp_confirmed_at, codes = now, second_factor.new_recovery_codes()
                row.recovery_hashes = [second_factor.recovery_hash(each) for each in codes]
                await record(session, operator, "operator.enrol")
            await session.execute(
                update(OperatorSessionRow)
                .where(OperatorSessionRow.token_hash == held.token_hash)
                # Counted from the password: a code alone does not make the day longer.
                .values(
                    token_hash=_digest(token),
                    stage="full",
                    last_seen_at=now,
                    expires_at=OperatorSessionRow.created_at + LIFETIME,
                )
            )
            await record(session, operator, "operator.sign_in")
    if refused:  # said after the log's entry is kept
        raise SignInRefused("This code does not fit, or was used already. Wait for the next one.")
    await forgive(database, "operator-code", **counted_by)
    return token, codes


async def end_session(database: Database, held: OperatorSession) -> None:
    """Sign out. A session that ended already stays ended."""
    async with database.platform() as session:
        mine = delete(OperatorSessionRow).where(OperatorSessionRow.token_hash == held.token_hash)
        if await session.scalar(mine.returning(OperatorSessionRow.operator_id)) is not None:
            await record(session, held.operator, "operator.sign_out")


async def look_through(
    database: Database, held: OperatorSession, *, grant_id: str | None, tenant_id: UUID | None
) -> None:
    """From now on this session sees the tenant's console, under the grant; None to see it no more."""
    action = "support.enter" if grant_id is not None else "support.leave"
    async with database.platform() as session:
        mine = update(OperatorSessionRow).where(OperatorSessionRow.token_hash == held.token_hash)
        await session.execute(mine.values(grant_id=grant_id, grant_tenant_id=tenant_id))
        subject, where = grant_id or held.grant_id, tenant_id or held.grant_tenant_id
        await record(session, held.operator, action, tenant_id=where, subject_id=subject)


async def purge_sessions(database: Database) -> None:
    """Forget sessions that ended."""
    now, row = clock.now(), OperatorSessionRow
    async with database.platform() as session:
        await session.execute(delete(row).where((row.expires_at <= now) | (row.last_seen_at <= now - IDLE_LIFETIME)))


async def _operator_of(database: Database, person: Person) -> str | None:
    async with database.platform() as session:
        mine = (OperatorRow.person_id == person.person_id) & OperatorRow.disabled_at.is_(None)
        found: str | None = await session.scalar(select(OperatorRow.operator_id).where(mine))
        return found


def _mark(person: Person) -> str:
    return hashlib.sha256(f"operator session\x00{person.password_hash or ''}".encode()).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _csrf(token: str) -> str:
    mac = hmac.digest(token.encode(), b"stonechat operator form", "sha256")
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode()

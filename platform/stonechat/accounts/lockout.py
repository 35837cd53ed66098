"""Failed attempts slow down whoever fails, and nobody else.

Failures are counted per address, and per e-mail address *as tried from one address*: a stranger who guesses at somebody's
password from elsewhere never keeps that person from signing in. An attempt counts before the password is compared and
is taken back when it fits, so that a hundred guesses sent at once count as a hundred.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from math import ceil

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from stonechat import clock
from stonechat.db.directory import SignInFailures
from stonechat.db.session import Database
from stonechat.errors import TooManyAttempts

FREE_PER_EMAIL, LONGEST_PER_EMAIL = 5, timedelta(minutes=15)
FREE_PER_ADDRESS, LONGEST_PER_ADDRESS = 30, timedelta(minutes=1)
"""After the free failures each further one costs a wait: 2 seconds, 4, 8, up to the longest."""
FORGOTTEN_AFTER = timedelta(hours=1)


async def count_attempt(database: Database, purpose: str, *, email: str, address: str) -> None:
    """Count one attempt; raises `TooManyAttempts`, with `Retry-After`, while earlier failures still weigh.

    `address` is what one subscriber is counted by (see `limits.limiter.address_key`).
    """
    now = clock.now()
    own, shared = _keys(purpose, email, address)
    async with database.directory() as session:
        fresh = [{"key_hash": key, "failures": 0, "blocked_until": now, "forget_at": now} for key in (own, shared)]
        await session.execute(insert(SignInFailures).values(fresh).on_conflict_do_nothing())
        chosen = select(SignInFailures).where(SignInFailures.key_hash.in_((own, shared)))
        rows = list(await session.scalars(chosen.order_by(SignInFailures.key_hash).with_for_update()))
        blocked = max((row.blocked_until for row in rows), default=now)
        if blocked <= now:
            for row in rows:
                mine = row.key_hash == own
                free, longest = (FREE_PER_EMAIL, LONGEST_PER_EMAIL) if mine else (FREE_PER_ADDRESS, LONGEST_PER_ADDRESS)
                row.failures = row.failures + 1 if row.forget_at > now else 1
                if row.failures >= free:
                    row.blocked_until = now + min(timedelta(seconds=2 ** min(row.failures - free + 1, 20)), longest)
                row.forget_at = now + FORGOTTEN_AFTER
            return
    wait = max(ceil((blocked - now).total_seconds()), 1)
    spelled = f"{wait} second{'s' if wait > 1 else ''}" if wait < 120 else f"{ceil(wait / 60)} minutes"
    raise TooManyAttempts(
        f"Too many attempts failed. Wait {spelled}, then try again, or reset your password.",
        headers={"Retry-After": str(wait)},
    )


async def forgive(database: Database, purpose: str, *, email: str, address: str) -> None:
    """The attempt succeeded: forget the failures of this e-mail from this address, and take one back from the address."""
    own, shared = _keys(purpose, email, address)
    async with database.directory() as session:
        await session.execute(delete(SignInFailures).where(SignInFailures.key_hash == own))
        less = {"failures": func.greatest(SignInFailures.failures - 1, 0), "blocked_until": clock.now()}
        await session.execute(update(SignInFailures).where(SignInFailures.key_hash == shared).values(less))


async def purge_failures(database: Database) -> None:
    """Forget what no longer weighs."""
    async with database.directory() as session:
        await session.execute(delete(SignInFailures).where(SignInFailures.forget_at <= clock.now()))


def _keys(purpose: str, email: str, address: str) -> tuple[bytes, bytes]:
    return _digest(purpose, email, address), _digest(purpose, "", address)


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\x00".join(parts).encode()).digest()

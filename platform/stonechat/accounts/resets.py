"""A forgotten password: asked for by anybody, mailed to its owner, and the same to see whoever asks."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select

from stonechat import clock
from stonechat.accounts.lockout import count_attempt
from stonechat.accounts.people import new_setup_token, normalise_email, setup_url
from stonechat.db.directory import Person, SetupToken
from stonechat.db.session import Database
from stonechat.errors import InvalidInput
from stonechat.jobs import Handler, enqueue
from stonechat.mail import PLATFORM_TENANT, compose, send_mail

RESET_JOB = "accounts.reset_password"
ONE_MAIL_EVERY = timedelta(minutes=2)


async def request_reset(database: Database, email: str, *, address: str) -> None:
    """Have a link mailed, if somebody has this address. Whether anybody does is looked up later, by the worker.

    Raises `TooManyAttempts` for whoever asks too often.
    """
    try:
        email = normalise_email(email)
    except InvalidInput:
        return
    await count_attempt(database, "reset", email=email, address=address)
    async with database.directory() as session:
        await enqueue(session, PLATFORM_TENANT, RESET_JOB, {"email": email}, dedupe_key=email)


def job_handlers(database: Database, *, public_url: str) -> dict[str, Handler]:
    """Handler of `accounts.reset_password`, for the worker."""

    async def reset(_tenant_id: UUID, payload: dict[str, Any]) -> None:
        async with database.directory() as session:
            person = await session.scalar(select(Person).where(Person.email == payload["email"]).with_for_update())
            if person is None:
                return
            recent = (SetupToken.person_id == person.person_id) & (SetupToken.kind == "reset")
            recent &= SetupToken.created_at > clock.now() - ONE_MAIL_EVERY
            if await session.scalar(select(SetupToken.person_id).where(recent).limit(1)) is not None:
                return
            token = await new_setup_token(session, person.person_id, kind="reset")
            url = setup_url(public_url, token=token)
            mail = compose("reset", to=person.email, name=person.name, email=person.email, url=url)
            await send_mail(session, PLATFORM_TENANT, mail)

    return {RESET_JOB: reset}

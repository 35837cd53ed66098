"""Operators in the tests: made, signed in, with a phone of their own."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import httpx
import pyotp
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.people import set_password
from stonechat.operator import second_factor, sign_in
from stonechat.operator.operators import Operator, create_operator
from support.console import Answer, Browser, ConsoleWorld
from support.identity import PLATFORM

PASSWORD = "a long enough password"
OPERATOR_COOKIE = "__Host-stonechat_operator"


async def make_operator(world: ConsoleWorld) -> Operator:
    """A new operator whose password is `PASSWORD`; the phone is still to be set up."""
    email = f"operator-{uuid4().hex[:10]}@example.com"
    database = world.services.database
    made = await create_operator(database, email, public_url=PLATFORM)
    async with database.platform() as session:
        found = await session.execute(text("select person_id, name from people where email = :email"), {"email": email})
        person_id, name = found.one()
    await set_password(database, person_id, password=PASSWORD)
    assert made["operator_id"] is not None
    return Operator(made["operator_id"], person_id, email, name, "198.51.100.20")


async def at_desk(world: ConsoleWorld, operator: Operator | None = None) -> Browser:
    """The browser of an operator who proved everything."""
    operator = operator or await make_operator(world)
    services = world.services
    address = f"198.51.100.{uuid4().int % 200}"
    token = await sign_in.prove_password(services.database, operator.email, password=PASSWORD, address=address)
    held = await sign_in.find_session(services.database, token, address=address, stage="password")
    secret = await sign_in.enrolment_secret(services.database, services.keyring, held)
    token, _ = await sign_in.prove_code(services.database, services.keyring, held, code=code_of(secret))
    browser = world.stranger(person_id=operator.person_id, email=operator.email)
    browser.http.cookies.set(OPERATOR_COOKIE, token, domain=httpx.URL(PLATFORM).host, path="/")
    browser.token = sign_in._csrf(token)
    return browser


def code_of(secret: str, *, steps: int = 0) -> str:
    """What the phone shows now, or so many half minutes later."""
    return pyotp.TOTP(secret).at(clock.now() + timedelta(seconds=steps * second_factor.STEP_SECONDS))


async def press(browser: Browser, path: str, data: dict[str, str] | None = None, *, status: int = 303) -> Answer:
    """A plain form of the operators' room."""
    token = browser.token
    answer = await browser.request("POST", path, data={"csrf": token, **(data or {})})
    browser.token = browser.token or token
    assert answer.status == status, f"POST {path}: {answer.status} {answer.toast or answer.text[:600]}"
    return answer

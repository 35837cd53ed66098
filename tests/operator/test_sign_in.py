"""The operators' door: the password again, then a code that serves once; sessions that are short and apart."""

from __future__ import annotations

from datetime import timedelta

import pytest

from stonechat import clock
from stonechat.accounts.people import set_password
from stonechat.errors import OperatorSignInNeeded, SignInRefused, TooManyAttempts
from stonechat.operator import sign_in
from stonechat.operator.dismissal import disable_operator
from stonechat.operator.operators import Operator, create_operator, list_operators
from support.console import ConsoleWorld
from support.identity import PLATFORM
from support.operators import OPERATOR_COOKIE, PASSWORD, at_desk, code_of, make_operator, press

HOME = "/operator/tenants"


async def half_way(world: ConsoleWorld, operator: Operator, address: str = "203.0.113.9") -> sign_in.OperatorSession:
    token = await sign_in.prove_password(world.services.database, operator.email, password=PASSWORD, address=address)
    return await sign_in.find_session(world.services.database, token, address=address, stage="password")


async def test_the_first_sign_in_sets_up_the_phone_and_hands_out_codes(world: ConsoleWorld) -> None:
    operator = await make_operator(world)
    browser = world.stranger(address="203.0.113.20")
    asked = await browser.page("/operator/tenants", status=303)
    assert asked.response.headers["location"] == "/operator/login?next=/operator/tenants"
    form = {"email": operator.email, "password": PASSWORD, "next": HOME}
    answer = await press(browser, "/operator/login", form)
    page = await browser.page(answer.response.headers["location"])
    assert (page.one("img").attributes["src"] or "").startswith("data:image/svg+xml")
    await browser.page(HOME, status=303)  # the password alone opens nothing
    wrong = await press(browser, "/operator/code", {"code": "000000", "next": HOME}, status=401)
    assert "does not fit" in wrong.text
    secret = page.one("#secret").text()
    codes = await press(browser, "/operator/code", {"code": code_of(secret), "next": HOME}, status=200)
    kept = codes.one("#codes").text().split()
    assert len(kept) == 10
    assert (await browser.page(HOME)).one("h1").text() == "Tenants"
    again = world.stranger(address="203.0.113.21")
    await press(again, "/operator/login", form)
    assert not (await again.page("/operator/code")).all("img"), "the secret is shown once"
    await press(again, "/operator/code", {"code": kept[0], "next": HOME})
    await again.page(HOME)
    once = world.stranger(address="203.0.113.22")
    await press(once, "/operator/login", form)
    refused = await press(once, "/operator/code", {"code": kept[0], "next": HOME}, status=401)
    assert "does not fit" in refused.text


async def test_who_is_no_operator_learns_nothing(world: ConsoleWorld) -> None:
    member = await world.signed_in("owner")
    await set_password(world.services.database, member.person_id, password=PASSWORD)
    browser = world.stranger(address="203.0.113.30")
    answers = [
        await press(browser, "/operator/login", {"email": email, "password": PASSWORD}, status=401)
        for email in (member.email, "nobody@example.com")
    ]
    assert answers[0].one(".alert").text() == answers[1].one(".alert").text()
    assert OPERATOR_COOKIE not in browser.http.cookies
    await member.page(HOME, status=303)  # the console's own cookie opens nothing here


async def test_a_code_serves_once(world: ConsoleWorld) -> None:
    operator = await make_operator(world)
    services = world.services
    held = await half_way(world, operator)
    secret = await sign_in.enrolment_secret(services.database, services.keyring, held)
    code = code_of(secret)
    await sign_in.prove_code(services.database, services.keyring, held, code=code)
    second = await half_way(world, operator)
    with pytest.raises(SignInRefused):
        await sign_in.prove_code(services.database, services.keyring, second, code=code)
    token, codes = await sign_in.prove_code(services.database, services.keyring, second, code=code_of(secret, steps=1))
    assert (bool(token), codes) == (True, [])


async def test_guesses_at_the_code_count_wherever_they_come_from(world: ConsoleWorld) -> None:
    operator, services = await make_operator(world), world.services
    await sign_in.enrolment_secret(services.database, services.keyring, await half_way(world, operator))
    for number in range(5):
        held = await half_way(world, operator, address=f"203.0.113.{100 + number}")
        with pytest.raises(SignInRefused):
            await sign_in.prove_code(services.database, services.keyring, held, code="no code")
    held = await half_way(world, operator, address="203.0.113.110")
    with pytest.raises(TooManyAttempts):
        await sign_in.prove_code(services.database, services.keyring, held, code="no code")


async def test_a_new_password_and_the_end_of_ones_rights_end_the_session(world: ConsoleWorld) -> None:
    operator, other = await make_operator(world), await make_operator(world)
    browser, second = await at_desk(world, operator), await at_desk(world, other)
    await browser.page(HOME)
    await set_password(world.services.database, operator.person_id, password="another long password")
    await browser.page(HOME, status=303)
    async with world.services.database.platform() as session:
        await disable_operator(session, operator, database=world.services.database, operator_id=other.operator_id)
        listed = {view.email: view for view in await list_operators(session)}
    assert listed[other.email].disabled_at is not None
    await second.page(HOME, status=303)


async def test_a_session_ends_by_itself(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = await at_desk(world)
    token = browser.http.cookies[OPERATOR_COOKIE]
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(minutes=31))
    with pytest.raises(OperatorSignInNeeded):
        await sign_in.find_session(world.services.database, token, address="")


async def test_the_day_ends_eight_hours_after_the_password_whatever_code_is_typed(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, services, start, address = await make_operator(world), world.services, clock.now(), "203.0.113.77"

    def let_pass(minutes: int) -> None:
        monkeypatch.setattr(clock, "now", lambda: start + timedelta(minutes=minutes))

    let_pass(0)
    held = await half_way(world, operator, address)
    secret = await sign_in.enrolment_secret(services.database, services.keyring, held)
    token, _ = await sign_in.prove_code(services.database, services.keyring, held, code=code_of(secret))
    for minutes in range(25, 8 * 60, 25):  # never half an hour of rest, and a code now and then
        let_pass(minutes)
        held = await sign_in.find_session(services.database, token, address=address)
        token, _ = await sign_in.prove_code(services.database, services.keyring, held, code=code_of(secret))
    let_pass(8 * 60 - 1)
    await sign_in.find_session(services.database, token, address=address)
    let_pass(8 * 60)
    with pytest.raises(OperatorSignInNeeded):
        await sign_in.find_session(services.database, token, address=address)
    held = await half_way(world, operator, address)  # the password again
    token, _ = await sign_in.prove_code(services.database, services.keyring, held, code=code_of(secret))
    await sign_in.find_session(services.database, token, address=address)


async def test_made_again_an_operator_sets_the_phone_up_anew(world: ConsoleWorld) -> None:
    operator = await make_operator(world)
    browser = await at_desk(world, operator)
    again = await create_operator(world.services.database, operator.email, public_url=PLATFORM)
    assert again["operator_id"] == operator.operator_id
    assert again["setup_url"] is None
    await browser.page(HOME, status=303)
    assert not (await half_way(world, operator)).is_enrolled


async def test_a_form_of_another_site_is_refused(world: ConsoleWorld) -> None:
    browser = await at_desk(world)
    path = f"/operator/tenants/{world.tenant_id}/suspend"
    forged = await browser.request("POST", path, data={"csrf": "made up", "reason": "x"})
    assert forged.status == 403
    elsewhere = await browser.request(
        "POST", path, data={"csrf": browser.token, "reason": "x"}, headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert elsewhere.status == 403

"""Signing in: who may, who must wait, what ends a session, and where forms may come from."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.memberships import add_member, remove_member
from stonechat.accounts.people import set_password
from support.console import COOKIE, Browser, ConsoleWorld

PASSWORD = "correct horse battery"
LOGIN = "/console/login"


async def person(world: ConsoleWorld) -> tuple[str, str]:
    """A person with a password: id and address."""
    person_id, email = await world.person()
    await set_password(world.services.database, person_id, password=PASSWORD)
    return person_id, email


async def member(world: ConsoleWorld) -> Browser:
    """Somebody with a password who owns a tenant of their own, signed in."""
    browser = await world.signed_in("owner", tenant_id=await world.another_tenant())
    await set_password(world.services.database, browser.person_id, password=PASSWORD)
    return browser


def wait(monkeypatch: pytest.MonkeyPatch, how_long: timedelta) -> None:
    now = clock.now()

    def later() -> datetime:
        return now + how_long

    monkeypatch.setattr(clock, "now", later)


async def test_a_person_signs_in_and_comes_where_they_wanted(world: ConsoleWorld) -> None:
    known = await member(world)
    browser = world.stranger()
    answer = await browser.request("GET", "/console/api-keys?x=1")
    assert (answer.status, answer.response.headers["location"]) == (
        303,
        "/console/login?next=/console/api-keys%3Fx%3D1",
    )
    page = await browser.page(answer.response.headers["location"])
    form = {
        "email": known.email.upper(),
        "password": PASSWORD,
        "next": page.one("input[name=next]").attributes["value"],
    }
    signed_in = await browser.submit(LOGIN, form)
    assert signed_in.response.headers["location"] == "/console/api-keys?x=1"
    cookie = signed_in.response.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=cs_")
    for part in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"):
        assert part in cookie
    assert "Domain" not in cookie
    await browser.page("/console/api-keys?x=1")


@pytest.mark.parametrize(
    "target",
    ["https://evil.example/console", "//evil.example/console", "/console\\@evil.example", "/consoles", "javascript:alert(1)",
     "/console/\nx", "https:/console"],
)  # fmt: skip
async def test_no_link_sends_people_elsewhere(world: ConsoleWorld, target: str) -> None:
    known = await member(world)
    answer = await known.request("GET", LOGIN, params={"next": target})
    assert answer.response.headers["location"] == "/console"


async def test_the_sentence_is_the_same_for_everybody(world: ConsoleWorld) -> None:
    _, email = await person(world)
    browser = world.stranger(address="198.51.100.61")
    wrong = await browser.submit(LOGIN, {"email": email, "password": "wrong password"}, status=401)
    unknown = await browser.submit(LOGIN, {"email": "nobody@example.com", "password": "wrong password"}, status=401)
    assert wrong.one("[role=alert]").text() == unknown.one("[role=alert]").text()
    assert wrong.one("#email").attributes["value"] == email


async def test_guesses_slow_down_the_guesser_and_nobody_else(world: ConsoleWorld) -> None:
    _, email = await person(world)
    guesser, owner = world.stranger(address="203.0.113.5"), world.stranger(address="198.51.100.62")
    for _ in range(5):
        await guesser.submit(LOGIN, {"email": email, "password": "a wrong guess"}, status=401)
    refused = await guesser.submit(LOGIN, {"email": email, "password": PASSWORD}, status=429)
    assert int(refused.response.headers["retry-after"]) >= 1
    assert "Wait" in refused.one("[role=alert]").text()
    await owner.submit(LOGIN, {"email": email, "password": PASSWORD})


async def test_waiting_lets_the_guesser_try_again_and_each_failure_waits_longer(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, email = await person(world)
    browser = world.stranger(address="203.0.113.6")
    for _ in range(5):
        await browser.submit(LOGIN, {"email": email, "password": "a wrong guess"}, status=401)
    waits = []
    for _ in range(3):
        refused = await browser.submit(LOGIN, {"email": email, "password": "x"}, status=429)
        waits.append(int(refused.response.headers["retry-after"]))
        wait(monkeypatch, timedelta(seconds=waits[-1] + 1))
        await browser.submit(LOGIN, {"email": email, "password": "a wrong guess"}, status=401)
    assert waits == sorted(waits)
    assert waits[-1] > waits[0]
    wait(monkeypatch, timedelta(minutes=20))
    await browser.submit(LOGIN, {"email": email, "password": PASSWORD})


async def test_one_address_cannot_try_everybodys_password(world: ConsoleWorld) -> None:
    browser = world.stranger(address="203.0.113.7")
    statuses = []
    for number in range(32):
        form = {"email": f"somebody-{number}@example.com", "password": "summer2026!"}
        statuses.append((await browser.request("POST", LOGIN, data=form)).status)
    assert statuses[:30] == [401] * 30
    assert 429 in statuses[30:]


async def test_a_session_ends_when_idle_and_after_a_month(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    idle, busy = await member(world), await member(world)
    wait(monkeypatch, timedelta(hours=11))
    await busy.page("/console")
    wait(monkeypatch, timedelta(hours=2))
    assert (await idle.request("GET", "/console")).status == 303
    await busy.page("/console")
    for _ in range(72):
        wait(monkeypatch, timedelta(hours=10))
        answer = await busy.request("GET", "/console")
    assert answer.status == 303


async def test_signing_out_ends_the_session_itself(world: ConsoleWorld) -> None:
    browser = await member(world)
    stolen = world.stranger()
    stolen.http.cookies.update(browser.http.cookies)
    await browser.submit("/console/logout", {})
    assert (await stolen.request("GET", "/console")).status == 303


async def test_a_new_password_ends_the_other_sessions(world: ConsoleWorld) -> None:
    browser = await member(world)
    elsewhere = world.stranger()
    await world.sign_in(elsewhere, browser.person_id)
    form = {"current": "not this one", "password": "another long password"}
    refused = await browser.submit("/console/account/password", form, status=422)
    assert "not your present password" in refused.one("#current-error").text()
    await browser.submit("/console/account/password", form | {"current": PASSWORD})
    assert (await elsewhere.request("GET", "/console")).status == 303
    assert "Your password was changed" in (await browser.page("/console/account")).response.text


async def test_a_person_ends_a_session_elsewhere(world: ConsoleWorld) -> None:
    browser = await member(world)
    elsewhere = world.stranger()
    await world.sign_in(elsewhere, browser.person_id)
    page = await browser.page("/console/account")
    action = page.one("form[action^='/console/account/sessions/ses_']").attributes["action"]
    await (await member(world)).submit(str(action), {}, status=404)
    await elsewhere.page("/console")
    await browser.submit(str(action), {})
    assert (await elsewhere.request("GET", "/console")).status == 303


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_forms_of_other_sites_are_refused(world: ConsoleWorld, headers: dict[str, str]) -> None:
    browser = await member(world)
    await browser.page("/console")
    answer = await browser.submit("/console/logout", {}, headers=headers, status=403)
    assert answer.one("h1").text() == "This form was not sent from a page of the console"
    await browser.page("/console")
    await browser.submit(LOGIN, {"email": "x@example.com", "password": "x"}, headers=headers, status=403)


async def test_a_form_without_this_sessions_token_is_refused(world: ConsoleWorld) -> None:
    browser, other = await member(world), await member(world)
    await other.page("/console")
    for token in ("", other.token):
        await browser.submit("/console/logout", {"csrf": token}, status=403)
        browser.token = token or "x"
        answer = await browser.htmx("POST", "/console/api-keys", {"name": "x", "scopes": "read"}, status=403)
        assert answer.told == {"keep": True}
        assert answer.response.headers["hx-redirect"] == "/console/api-keys"
    await browser.page("/console")


async def test_a_lost_session_leads_to_signing_in_and_keeps_what_was_typed(world: ConsoleWorld) -> None:
    browser = await member(world)
    await browser.page("/console/api-keys")
    browser.http.cookies.clear()
    answer = await browser.htmx("POST", "/console/api-keys", {"name": "x", "scopes": "read"}, status=401)
    assert answer.response.headers["hx-redirect"] == "/console/login?next=/console/api-keys"
    assert answer.told == {"keep": True}


async def test_people_in_several_tenants_choose(world: ConsoleWorld) -> None:
    browser = await member(world)
    second = await world.another_tenant("Second company")
    async with world.services.database.tenant(second) as session:
        await add_member(session, system(second), email=browser.email, role="viewer")
    await world.sign_in(browser, browser.person_id)
    assert (await browser.request("GET", "/console")).response.headers["location"] == "/console/tenants"
    page = await browser.page("/console/tenants")
    assert "Second company" in page.text
    foreign = await browser.submit("/console/tenants", {"tenant": str(world.tenant_id)}, status=404)
    assert "There is no such tenant." in foreign.text
    await browser.submit("/console/tenants", {"tenant": str(second)})
    assert "Second company" in (await browser.page("/console")).text
    assert "Viewer" in (await browser.page("/console")).text
    menu = await browser.htmx("GET", "/console/tenants/menu")
    assert len(menu.all("button[name=tenant]")) == 2


async def test_whoever_is_removed_sees_nothing_more(world: ConsoleWorld) -> None:
    browser = await world.signed_in("editor")
    await browser.page("/console")
    async with world.services.database.tenant(world.tenant_id) as session:
        await remove_member(session, world.actor, person_id=browser.person_id)
    assert (await browser.request("GET", "/console")).response.headers["location"] == "/console/tenants"
    assert "You belong to no company yet" in (await browser.page("/console/tenants")).text


async def test_errors_are_pages_in_sentences(world: ConsoleWorld) -> None:
    browser = await member(world)
    missing = await browser.page("/console/nothing-here", status=404)
    assert "Check the address" in missing.text
    assert (await browser.request("GET", "/console/assets/0000/console.css")).status == 404


async def test_assets_are_kept_for_ever_under_an_address_that_changes_with_them(world: ConsoleWorld) -> None:
    page = await world.stranger().page(LOGIN)
    for link in (*page.all("link[rel=stylesheet]"), *page.all("script")):
        url = link.attributes.get("href") or link.attributes.get("src") or ""
        answer = await world.stranger().request("GET", url)
        assert answer.status == 200
        assert "immutable" in answer.response.headers["cache-control"]


async def test_the_theme_comes_from_the_cookie(world: ConsoleWorld) -> None:
    browser = world.stranger()
    assert "data-theme" not in (await browser.page(LOGIN)).one("html").attributes
    browser.http.cookies.set("stonechat_theme", "dark")
    assert (await browser.page(LOGIN)).one("html").attributes["data-theme"] == "dark"
    browser.http.cookies.set("stonechat_theme", '"><script>')
    assert "data-theme" not in (await browser.page(LOGIN)).one("html").attributes

"""An operator at work in a real browser: signs in with a phone, suspends, makes exceptions, explains, replays; and every page of
the room is clean by axe, in light and dark, and no wider than a phone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
import httpx
import pytest
from playwright.async_api import Browser, Page, expect

from stonechat.db.embedded import EmbeddedPostgres
from support.api import Tenant, new_tenant
from support.browser import AXE, PASSWORD, complaints_of, profile, settled, violations_by_scheme
from support.operators import code_of
from support.running import Running, Site
from support.widget import open_chat, say

pytestmark = pytest.mark.browser

PHONE = {"width": 360, "height": 740}


@dataclass
class Operator:
    running: Running
    email: str
    secret: str = ""
    codes: tuple[str, ...] = ()

    def url(self, path: str) -> str:
        return self.running.url + path


@pytest.fixture(scope="module")
async def operator(stonechat: Running) -> Operator:
    """Made by `stonechat operator create`; has followed the link that it prints."""
    email = f"operator-{uuid4().hex[:8]}@example.com"
    made = json.loads(await stonechat.command("operator", "create", email, "--json"))
    token = httpx.URL(made["setup_url"]).params["token"]
    async with httpx.AsyncClient(trust_env=False) as client:
        form = {"token": token, "password": PASSWORD}
        answer = await client.post(f"{stonechat.url}/setup", data=form, headers={"Origin": stonechat.url})
        assert answer.status_code == 303, answer.text
    return Operator(stonechat, email)


@pytest.fixture(scope="module")
async def tenant(stonechat: Running) -> AsyncIterator[Tenant]:
    async with new_tenant(stonechat, "A customer with a rather long name, Ltd.") as tenant:
        yield tenant


async def come_in(page: Page, operator: Operator) -> None:
    """Through the door: the first time with the picture, later with a recovery code."""
    await page.goto(operator.url("/operator"))
    await page.get_by_label("E-mail").fill(operator.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Continue").click()
    if not operator.secret:
        await expect(page.get_by_alt_text("A QR code")).to_be_visible()
        operator.secret = await page.locator("#secret").text_content() or ""
        await page.get_by_label("Code").fill(code_of(operator.secret))
        await page.get_by_role("button", name="Sign in").click()
        operator.codes = tuple((await page.locator("#codes").text_content() or "").split())
        await page.get_by_role("link", name="I kept them").click()
    else:
        code, *left = operator.codes
        operator.codes = tuple(left)
        await page.get_by_label("Code").fill(code)
        await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Tenants")


async def test_an_operator_suspends_excepts_explains_and_replays(
    browser: Browser, page: Page, stonechat: Running, operator: Operator, tenant: Tenant, site: Site
) -> None:
    agent = await tenant.agent(name="Robin")
    key = await tenant.domain_key(agent, site.origin)
    script = f'<script async src="{stonechat.url}/embed.js" data-domain-key="{key}"></script>'
    async with profile(browser) as visitors:
        visitor = await visitors.new_page()
        chat = await open_chat(visitor, site.paste("/suspended", script))
        await say(chat, "Hello?", answers=1)

        complaints = complaints_of(page)
        await come_in(page, operator)
        await page.get_by_label("Find").fill("a customer with")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("link", name="A customer with a rather long name").click()
        await page.get_by_role("button", name="Suspend").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Why").fill("Unpaid for three months")
        await dialog.get_by_role("button", name="Suspend").click()
        await expect(page.get_by_text("Unpaid for three months").first).to_be_visible()

        await say(chat, "And now?")  # in the chat that was open all the time
        await expect(chat.get_by_text("paused at the moment")).to_be_visible()
        again = await visitors.new_page()
        fresh = await open_chat(again, site.origin + "/suspended")
        await expect(fresh.get_by_text("paused at the moment")).to_be_visible()

        await page.get_by_role("button", name="Open again").click()
        await page.get_by_role("dialog").get_by_label("Why").fill("Paid")
        await page.get_by_role("dialog").get_by_role("button", name="Open again").click()
        await expect(page.get_by_role("button", name="Suspend")).to_be_visible()
        await say(chat, "Hello again?", answers=2)

    await page.get_by_role("button", name="Change the plan").click()
    await page.get_by_role("dialog").get_by_label("Plan", exact=True).select_option("free")
    await page.get_by_role("dialog").get_by_label("Why").fill("As agreed")
    await page.get_by_role("dialog").get_by_role("button", name="Change the plan").click()
    limit = page.locator("#explain tr", has_text="Seats")
    await expect(limit).to_contain_text("Free: 1")
    await page.get_by_role("button", name="Make an exception").click()
    dialog = page.get_by_role("dialog")
    await dialog.get_by_label("Of what").select_option("seats")
    await dialog.get_by_label("What holds instead").fill("lots")
    await dialog.get_by_label("Why").fill("A friend of the house")
    await dialog.get_by_role("button", name="Make the exception").click()
    await expect(dialog.get_by_text("Write a whole number")).to_be_visible()
    await dialog.get_by_label("What holds instead").fill("5")
    await dialog.get_by_role("button", name="Make the exception").click()
    await expect(limit).to_contain_text("5")
    await expect(limit).to_contain_text("A friend of the house")

    event = f"evt_{uuid4().hex[:12]}"
    await failed_event(stonechat, tenant, event)
    await page.goto(operator.url("/operator/events?state=failed"))
    row = page.locator(f"#e-{event}")
    await expect(row).to_contain_text("Stripe was away")
    await row.get_by_role("button", name="Take up again").click()
    await expect(page.locator("#toasts").get_by_text("The event is taken up again.")).to_be_visible()
    for _ in range(100):
        await page.goto(operator.url("/operator/events?state=done"))
        if await row.count():
            break
        await page.wait_for_timeout(100)
    await expect(row).to_be_visible()
    assert [each for each in complaints if "422" not in each] == []


async def failed_event(running: Running, tenant: Tenant, event_id: str) -> None:
    """An event of Stripe's that was given up, as the log of events has it."""
    with EmbeddedPostgres(running.data_dir / "postgres") as address:
        connection = await asyncpg.connect(address.url("stonechat"))
        try:
            await connection.execute(
                "insert into billing_events (event_id, kind, thin, tenant_id, livemode, happened_at, received_at, state,"
                " error) values ($1, 'invoice.paid', false, $2, false, now(), now(), 'failed', 'Stripe was away')",
                event_id,
                tenant.id,
            )
        finally:
            await connection.close()


def pages_about(tenant: Tenant) -> list[str]:
    return [
        "/operator/tenants",
        "/operator/tenants?q=nobody",
        f"/operator/tenants/{tenant.id}",
        "/operator/announcements",
        "/operator/revenue",
        "/operator/plans",
        "/operator/plans/new?like=pro",
        "/operator/replay",
        "/operator/replay?on=pro",
        "/operator/events",
        "/operator/deliveries",
        "/operator/jobs",
        "/operator/mail",
        "/operator/flags",
        "/operator/settings",
        "/operator/operators",
        "/operator/audit",
        "/operator/tenants/not-a-tenant",
    ]


async def test_axe_finds_nothing_in_the_room(browser: Browser, operator: Operator, tenant: Tenant) -> None:
    """In light and in dark, wherever there is something to see."""
    async with profile(browser, bypass_csp=True, color_scheme="light", reduced_motion="reduce") as context:
        await context.add_init_script(path=AXE)
        page = await context.new_page()
        async with settled(page):
            await page.goto(operator.url("/operator/login"))
        found = await violations_by_scheme(page)
        await come_in(page, operator)
        for path in pages_about(tenant):
            async with settled(page):
                await page.goto(operator.url(path))
            found += await violations_by_scheme(page)
            openers = page.locator('main button[command="show-modal"]')
            for name in {await opener.get_attribute("commandfor") for opener in await openers.all()}:
                async with settled(page):
                    await page.locator(f'main button[commandfor="{name}"]').first.click()
                    await expect(page.locator(f"dialog#{name}")).to_be_visible()
                found += await violations_by_scheme(page, dialog=f"dialog#{name}")
                await page.keyboard.press("Escape")
    assert not found, "\n".join(found)


async def test_no_page_of_the_room_scrolls_sideways_on_a_phone(
    browser: Browser, operator: Operator, tenant: Tenant
) -> None:
    wide: list[str] = []
    async with profile(browser, viewport=PHONE, reduced_motion="reduce") as context:
        page = await context.new_page()
        complaints = complaints_of(page, answers=(404,))
        await come_in(page, operator)
        for path in pages_about(tenant):
            await page.goto(operator.url(path))
            wide += await too_wide(page)
    assert not wide, "\n".join(wide)
    assert complaints == []


async def too_wide(page: Page) -> list[str]:
    width, elements = await page.evaluate("""() => {
        const root = document.scrollingElement, edge = document.documentElement.clientWidth;
        const over = [...document.querySelectorAll("main *")].filter((each) => each.getBoundingClientRect().right > edge + 1);
        return [root.scrollWidth - edge, over.slice(0, 3).map((each) => each.outerHTML.slice(0, 120))];
    }""")
    return [f"{page.url} is {width} pixels too wide: {elements}"] if width > 0 else []

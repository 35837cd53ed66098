"""A tenant upgrades on its own: compares, is told what changes, pays on Checkout's page, sees the invoice, changes and leaves;
and the pages of that are clean by axe, in light and dark, and no wider than a phone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from secrets import randbits
from uuid import UUID

import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr
from sqlalchemy import delete

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.people import set_password
from stonechat.accounts.tenants import create_tenant
from stonechat.app import create_app
from stonechat.assistant.agents import create_agent
from stonechat.billing.models import BillingCustomerRow
from stonechat.billing.service import BillingService
from stonechat.db.directory import SignInFailures
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.settings import Settings
from stonechat.usage.ledger import ledger_entry, settle
from support.browser import AXE, PASSWORD, complaints_of, profile, settled, sign_in, violations_by_scheme
from support.plans import platform_put_back, set_platform
from support.postgres import TestDatabase
from support.running import free_port
from support.stripe_double import StripeDouble

pytestmark = pytest.mark.browser

SECRET = "whsec_of_the_billing_journey_0123456789"
DESK = {"width": 1280, "height": 860}
PHONE = {"width": 360, "height": 740}
WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@dataclass
class Shop:
    """The platform with plans to sell, and one tenant."""

    url: str
    double: StripeDouble
    database: Database
    tenant_id: UUID
    email: str
    billing: BillingService

    async def buys(self, plan: str) -> str:
        """The plan is bought and paid, without a browser; the customer's id at Stripe."""
        url = await self.billing.checkout(system(self.tenant_id), plan, return_url=f"{self.url}/console/billing")
        self.double.pay(url)
        await self.billing.sync(self.tenant_id)
        async with self.database.tenant(self.tenant_id) as session:
            found = await session.get(BillingCustomerRow, self.tenant_id)
        assert found is not None
        assert found.customer_id is not None
        return found.customer_id

    async def uses(self, tokens: int) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            entry = ledger_entry(
                self.tenant_id, "usr_1", agent_id=None, provider="openai", model="gpt-4.1", input_tokens=tokens
            )
            await settle(session, self.tenant_id, run_id=f"run_{tokens}", entries=[entry])

    async def plan(self) -> str:
        async with self.database.tenant(self.tenant_id) as session:
            return (await entitlements(session, self.tenant_id)).plan.key


@pytest.fixture
async def shop(test_database: TestDatabase, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    # Of its own, so that no two tests have a customer in common; and a test moves the clock.
    double = StripeDouble(webhook_secret=SECRET, clock=lambda: clock.now(), seed=randbits(32))  # noqa: PLW0108
    with double.served() as stripe_url:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = Settings().model_copy(
            update={
                "database_url": test_database.web_url,
                "secret_keys": (SecretStr("a secret of forty-two characters for tests"),),
                "configured_public_url": url,
                "port": port,
                "data_dir": tmp_path,
                "stripe_secret_key": SecretStr("sk_test_journey"),
                "stripe_webhook_secret": SecretStr(SECRET),
                "stripe_api_base": stripe_url,
            }
        )
        app = create_app(settings)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
        serving = asyncio.create_task(server.serve())
        async with platform_put_back(database):
            await set_platform(database, default_plan="free")
            while not server.started:
                assert not serving.done(), "the platform did not start"
                await asyncio.sleep(0.02)
            email = f"owner-{port}@harbourwool.example"
            made = await create_tenant(database, name="Harbour Wool", owner_email=email, owner_name="Maria")
            await set_password(database, made.owner_id, password=PASSWORD)
            async with database.tenant(made.tenant_id) as session:
                robin = await create_agent(session, system(made.tenant_id), config={"name": "Robin"})
                for number in range(7):
                    entry = ledger_entry(
                        made.tenant_id,
                        "usr_1",
                        agent_id=robin.id,
                        provider="openai",
                        model="gpt-4.1",
                        input_tokens=900,
                        output_tokens=100,
                    )
                    await settle(session, made.tenant_id, run_id=f"run_{number}", entries=[entry])
            yield Shop(url, double, database, made.tenant_id, email, app.state.services.billing)
        server.should_exit = True
        await serving


async def test_a_tenant_upgrades_pays_and_sees_the_invoice(browser: Browser, shop: Shop) -> None:
    async with profile(browser) as context:
        page = await context.new_page()
        complaints = complaints_of(page, answers=(402,))
        await sign_in(page, shop.url, shop.email)
        await page.get_by_role("link", name="Plan and billing").click()
        await expect(page.locator("#plan-head")).to_have_text("Free")
        await expect(page.locator("#use-head ~ div").first).to_contain_text("7 of 100")
        await expect(page.locator("#period svg[role=img]")).to_be_visible()

        await page.get_by_role("link", name="Choose a plan").click()
        await page.get_by_role("link", name="Choose Business").click()
        await expect(page.get_by_role("row", name=re.compile("Agents"))).to_contain_text("50")
        await expect(page.locator("#cost")).to_contain_text("$399")
        assert await shop.plan() == "free"
        await page.get_by_role("button", name="Go on to checkout").click()

        await page.wait_for_url(f"{shop.double.base_url}/**")
        await page.get_by_label("Card number").fill("4000000000000002")
        await page.get_by_role("button", name="Subscribe").click()
        await expect(page.get_by_role("alert")).to_contain_text("declined")
        assert await shop.plan() == "free"
        await page.get_by_label("Card number").fill("4242424242424242")
        await page.get_by_role("button", name="Subscribe").click()

        await page.wait_for_url(f"{shop.url}/console/billing")
        await expect(page.locator("#toasts").get_by_text("Your plan is up to date")).to_be_visible()
        await expect(page.locator("#plan-head")).to_have_text("Business")
        assert await shop.plan() == "business"
        invoice = page.locator("#invoice-rows tr")
        await expect(invoice).to_have_count(1)
        await expect(invoice).to_contain_text("$399")
        await expect(invoice).to_contain_text("Paid")
        await invoice.get_by_role("link").click()
        await expect(page.locator("#invoice-total")).to_have_text("$399.00")
        await expect(page.get_by_role("link", name="PDF")).to_be_visible()

        await change_down_and_keep(page, shop)
        await leave(page, shop)
        assert complaints == []


async def change_down_and_keep(page: Page, shop: Shop) -> None:
    """What is lost is said first; nothing changes before the period ends; and it can be taken back."""
    await page.goto(f"{shop.url}/console/billing/change?plan=starter")
    await expect(page.get_by_role("row", name=re.compile("Tools of MCP servers"))).to_contain_text("no")
    await expect(page.locator("#cost")).to_contain_text("Nothing now")
    await page.get_by_role("button", name=re.compile("Change at the period")).click()
    await page.wait_for_url(f"{shop.url}/console/billing")
    await expect(page.locator("#plan-sentence")).to_contain_text("changes to Starter")
    assert await shop.plan() == "business"
    await page.get_by_role("button", name="Keep Business").click()
    await expect(page.locator("#plan-sentence")).not_to_contain_text("Starter")


async def leave(page: Page, shop: Shop) -> None:
    """With the data offered first; the plan holds until it ends, and a banner says so."""
    await page.get_by_role("button", name="End the plan").click()
    dialog = page.get_by_role("dialog")
    async with page.expect_download() as download:
        await dialog.get_by_role("link", name="All conversations").click()
    assert (await download.value).suggested_filename == "conversations.jsonl"
    await dialog.get_by_role("button", name="End it with the period").click()
    await expect(page.locator("#billing-notice")).to_contain_text("Your plan ends on")
    assert await shop.plan() == "business"
    await page.goto(f"{shop.url}/console/agents")
    await expect(page.locator("#billing-notice")).to_be_visible()
    await page.goto(f"{shop.url}/console/billing")
    await page.get_by_role("button", name="Keep Business").click()
    await expect(page.locator("#billing-notice")).to_be_hidden()


async def test_the_card_is_changed_and_the_plan_ended_on_the_portal(browser: Browser, shop: Shop) -> None:
    await shop.buys("business")
    async with profile(browser) as context:
        page = await context.new_page()
        complaints = complaints_of(page)
        await sign_in(page, shop.url, shop.email)
        await page.goto(f"{shop.url}/console/billing")
        await page.get_by_role("button", name="Payment method").click()
        await page.wait_for_url(f"{shop.double.base_url}/portal/**")
        await page.get_by_label("Card number").fill("5555555555554444")
        await page.get_by_role("button", name="Change card").click()
        await expect(page.get_by_role("status")).to_have_text("Your card was changed.")
        await page.get_by_role("button", name="Cancel subscription").click()
        await page.get_by_role("link", name="Return").click()

        await page.wait_for_url(f"{shop.url}/console/billing")
        await expect(page.locator("#toasts").get_by_text("Business ends on")).to_be_visible()
        await expect(page.locator("#billing-notice")).to_contain_text("Your plan ends on")
        await expect(page.locator("#plan-sentence")).to_contain_text("nothing is charged after that")
        assert await shop.plan() == "business"
        await page.get_by_role("button", name="Payment method").click()
        await page.get_by_role("button", name="Don't cancel").click()
        await page.get_by_role("link", name="Return").click()
        await expect(page.locator("#toasts").get_by_text("Your plan is up to date")).to_be_visible()
        await expect(page.locator("#billing-notice")).to_be_hidden()
        assert complaints == []


async def test_going_on_beyond_the_plan_is_chosen_capped_and_left(browser: Browser, shop: Shop) -> None:
    await shop.buys("business")
    async with profile(browser) as context:
        page = await context.new_page()
        complaints = complaints_of(page, answers=(422,))
        await sign_in(page, shop.url, shop.email)
        await page.goto(f"{shop.url}/console/billing")
        form = page.locator("#overage-form")
        await form.get_by_label("Go on, and charge").check()
        await form.get_by_label("At most so much a period").fill("a little")
        await form.get_by_role("button", name="Save").click()
        await expect(form).to_contain_text("Write an amount")
        await form.get_by_label("At most so much a period").fill("3")
        await form.get_by_role("button", name="Save").click()
        await expect(page.locator("#toasts").get_by_text("Your agents go on beyond the plan")).to_be_visible()

        await shop.uses(300_000_000)  # all that is included
        await page.reload()
        await expect(page.get_by_text("your agents go on, for $1.50")).to_be_visible()
        await shop.uses(2_000_000)  # three dollars' worth
        await page.reload()
        await expect(page.get_by_text("Your cap of $3 is reached")).to_be_visible()
        await form.get_by_label("At most so much a period").fill("10")
        await form.get_by_role("button", name="Save").click()
        await expect(page.locator("#toasts").get_by_text("Your agents go on beyond the plan")).to_be_visible()
        await page.reload()
        await expect(page.get_by_text(re.compile(r"So far that is \$3"))).to_be_visible()

        await form.get_by_label("Go on, and charge").uncheck()
        await form.get_by_role("button", name="Save").click()
        await expect(page.locator("#toasts").get_by_text("Nothing beyond the plan is charged")).to_be_visible()
        await page.reload()
        await expect(form.get_by_label("Go on, and charge")).not_to_be_checked()
        await expect(page.get_by_text("All that is included is used")).to_be_visible()
        assert complaints == []


@pytest.fixture
async def next_month(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[[], None]]:
    """Lets a month pass."""
    now = clock.now

    def pass_by() -> None:
        monkeypatch.setattr(clock, "now", lambda: now() + timedelta(days=32))
        shop.double.tick()

    yield pass_by
    async with shop.database.directory() as session:  # nobody shall wait until then to sign in
        await session.execute(delete(SignInFailures))


async def test_a_card_that_fails_is_told_of_until_it_is_paid(
    browser: Browser, shop: Shop, next_month: Callable[[], None]
) -> None:
    customer = await shop.buys("business")
    shop.double.decline(customer)
    next_month()
    await shop.billing.sync(shop.tenant_id)
    async with profile(browser) as context:
        page = await context.new_page()
        complaints = complaints_of(page)
        await sign_in(page, shop.url, shop.email)
        await expect(page.locator("#billing-notice")).to_contain_text("did not go through")
        await page.locator("#billing-notice").get_by_role("link", name="Check the payment").click()
        await expect(page.locator("#plan-sentence")).to_contain_text("Everything goes on until")
        assert await shop.plan() == "business"
        await page.get_by_role("button", name="Pay, or change the card").click()
        await page.get_by_role("link", name="Return").click()
        await expect(page.locator("#toasts").get_by_text("The payment is still open")).to_be_visible()

        shop.double.decline(customer, None)
        await page.get_by_role("button", name="Pay, or change the card").click()
        await page.get_by_role("button", name="Pay").click()
        await page.get_by_role("link", name="Return").click()
        await expect(page.locator("#toasts").get_by_text("Your plan is up to date")).to_be_visible()
        await expect(page.locator("#billing-notice")).to_be_hidden()
        await expect(page.locator("#invoice-rows tr")).to_have_count(2)
        assert complaints == []


@pytest.mark.parametrize("plan", ["free", "pro"])
async def test_the_pages_are_clean_and_fit_a_phone(browser: Browser, shop: Shop, plan: str) -> None:
    """In light and in dark."""
    paths = ["", "/usage", "/plans", "/change?plan=business", "/invoices"]
    if plan == "pro":  # which is not paid, so that the banner is there, too
        async with shop.database.tenant(shop.tenant_id) as session:
            until = clock.now() + timedelta(days=3)
            await set_subscription(
                session, shop.tenant_id, plan_key=plan, provider="stripe", status="past_due", grace_until=until
            )
            await add_override(
                session, shop.tenant_id, field="seats", value=20, reason="A pilot.", expires_at=until, by="opr_test"
            )
    found: list[str] = []
    async with profile(browser, bypass_csp=True, color_scheme="light", reduced_motion="reduce") as context:
        await context.add_init_script(path=AXE)
        page = await context.new_page()
        await sign_in(page, shop.url, shop.email)
        for path in (*(f"/console/billing{path}" for path in paths), "/console/plan"):
            await page.set_viewport_size(DESK)
            async with settled(page):
                await page.goto(shop.url + path)
            for size in (DESK, PHONE):
                async with settled(page):
                    await page.set_viewport_size(size)
                found += [f"{path} at {size['width']}: {each}" for each in await violations_by_scheme(page)]
                if await page.evaluate(WIDE):
                    found.append(f"{path} is wider than {size['width']}")
                if path == "/console/billing" and plan == "pro":
                    async with settled(page):
                        await page.get_by_role("button", name="End the plan").click()
                    ending = await violations_by_scheme(page, dialog="dialog[open]")
                    found += [f"ending at {size['width']}: {each}" for each in ending]
                    await page.keyboard.press("Escape")
    assert not found, "\n".join(found)

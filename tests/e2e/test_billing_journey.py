"""A tenant upgrades on its own: compares, is told what changes, pays on Checkout's page, sees the invoice, changes and leaves;
and the pages of that are clean by axe, in light and dark, and no wider than a phone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.people import set_password
from stonechat.accounts.tenants import create_tenant
from stonechat.app import create_app
from stonechat.assistant.agents import create_agent
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.settings import Settings
from stonechat.usage.ledger import ledger_entry, settle
from support.browser import PASSWORD, complaints_of, profile, sign_in
from support.plans import platform_put_back, set_platform
from support.postgres import TestDatabase
from support.running import free_port
from support.stripe_double import StripeDouble
from support.widget import violations

pytestmark = pytest.mark.browser

SECRET = "whsec_of_the_billing_journey_0123456789"
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

    async def plan(self) -> str:
        async with self.database.tenant(self.tenant_id) as session:
            return (await entitlements(session, self.tenant_id)).plan.key


@pytest.fixture
async def shop(test_database: TestDatabase, database: Database, tmp_path: Path) -> AsyncIterator[Shop]:
    double = StripeDouble(webhook_secret=SECRET, clock=clock.now)
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
        server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_level="error"))
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
            yield Shop(url, double, database, made.tenant_id, email)
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
        await expect(page.locator("#invoice-total")).to_have_text("$399")
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


@pytest.mark.parametrize(("scheme", "plan"), [("light", "free"), ("dark", "free"), ("light", "pro"), ("dark", "pro")])
async def test_the_pages_are_clean_and_fit_a_phone(browser: Browser, shop: Shop, scheme: str, plan: str) -> None:
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
    async with profile(browser, bypass_csp=True, color_scheme=scheme, reduced_motion="reduce") as context:
        page = await context.new_page()
        await sign_in(page, shop.url, shop.email)
        for path in (*(f"/console/billing{path}" for path in paths), "/console/plan"):
            for size in ({"width": 1280, "height": 860}, PHONE):
                await page.set_viewport_size(size)
                await page.goto(shop.url + path)
                await page.wait_for_load_state("networkidle")
                found += await violations(page.main_frame, f"{path} at {size['width']}")
                if await page.evaluate(WIDE):
                    found.append(f"{path} is wider than {size['width']}")
                if path == "/console/billing" and plan == "pro":
                    await page.get_by_role("button", name="End the plan").click()
                    found += await violations(page.main_frame, f"ending at {size['width']}")
    assert not found, "\n".join(found)

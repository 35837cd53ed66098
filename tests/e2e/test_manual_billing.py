"""Selling by hand, from both sides: an operator puts a tenant on a plan and marks its invoice paid; its owner sees each step."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import uvicorn
from playwright.async_api import Browser, Page, expect
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.people import set_password
from stonechat.accounts.tenants import create_tenant
from stonechat.app import create_app
from stonechat.db.session import Database
from stonechat.operator.operators import create_operator
from stonechat.settings import Settings
from support.browser import PASSWORD, complaints_of, profile, sign_in
from support.operators import code_of
from support.plans import platform_put_back
from support.postgres import TestDatabase
from support.running import free_port

pytestmark = pytest.mark.browser


@dataclass
class House:
    """A platform that sells by hand, its operator, and one tenant."""

    url: str
    database: Database
    tenant_id: UUID
    owner: str
    operator: str

    async def let_it_fall_due(self) -> None:
        """The open invoice was payable until yesterday."""
        async with self.database.tenant(self.tenant_id) as session:
            await session.execute(
                text("update invoices set due_at = :then where tenant_id = :tenant and status = 'open'"),
                {"then": clock.now() - timedelta(days=1), "tenant": self.tenant_id},
            )


@pytest.fixture
async def house(test_database: TestDatabase, database: Database, tmp_path: Path) -> AsyncIterator[House]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = Settings().model_copy(
        update={
            "database_url": test_database.web_url,
            "secret_keys": (SecretStr("a secret of forty-two characters for tests"),),
            "configured_public_url": url,
            "port": port,
            "data_dir": tmp_path,
        }
    )
    server = uvicorn.Server(uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_level="error"))
    serving = asyncio.create_task(server.serve())
    async with platform_put_back(database):
        while not server.started:
            assert not serving.done(), "the platform did not start"
            await asyncio.sleep(0.02)
        owner, operator = f"owner-{port}@harbourwool.example", f"operator-{uuid4().hex[:8]}@example.com"
        made = await create_tenant(database, name="Harbour Wool", owner_email=owner, owner_name="Maria")
        await set_password(database, made.owner_id, password=PASSWORD)
        await create_operator(database, operator, public_url=url)
        async with database.directory() as session:
            found = text("select person_id from people where email = :email")
            person_id = str(await session.scalar(found, {"email": operator}))
        await set_password(database, person_id, password=PASSWORD)
        yield House(url, database, made.tenant_id, owner, operator)
    server.should_exit = True
    await serving


async def come_in(page: Page, house: House) -> None:
    await page.goto(f"{house.url}/operator/settings")
    await page.get_by_label("E-mail").fill(house.operator)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Continue").click()
    secret = await page.locator("#secret").text_content() or ""
    await page.get_by_label("Code").fill(code_of(secret))
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_role("link", name="I kept them").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Settings")


async def test_a_plan_is_sold_by_hand(browser: Browser, house: House) -> None:
    async with profile(browser) as operators, profile(browser) as tenants:
        desk, owner = await operators.new_page(), await tenants.new_page()
        complaints = [complaints_of(desk), complaints_of(owner)]
        await come_in(desk, house)
        await desk.get_by_label("Plan of new tenants").select_option("free")
        await desk.get_by_label("How plans are paid").select_option("manual")
        await desk.get_by_label("Days of grace").fill("3")
        await desk.get_by_role("button", name="Save").click()
        await expect(desk.locator("#toasts")).to_contain_text("Saved")

        await sign_in(owner, house.url, house.owner)
        await owner.get_by_role("link", name="Plan and billing").click()
        await expect(owner.locator("#plan-head")).to_have_text("Free")
        await expect(owner.get_by_role("link", name="Compare plans")).to_be_visible()  # nothing is bought here

        await desk.goto(f"{house.url}/operator/tenants/{house.tenant_id}")
        await desk.get_by_role("button", name="Change the plan").click()
        dialog = desk.get_by_role("dialog")
        await dialog.get_by_label("Plan", exact=True).select_option("pro")
        await dialog.get_by_label("Why").fill("Signed on paper")
        await dialog.get_by_role("button", name="Change the plan").click()
        await expect(desk.locator("#rights")).to_contain_text("Plan Pro")
        row = desk.locator("#billing tbody tr")
        await expect(row).to_have_count(1)
        await expect(row).to_contain_text("99.00 USD")
        await expect(row).to_contain_text("open")

        await owner.reload()
        await expect(owner.locator("#plan-head")).to_have_text("Pro")
        invoice = owner.locator("#invoice-rows tr")
        await expect(invoice).to_contain_text("$99")
        await expect(invoice).not_to_contain_text("Paid")
        assert await owner.get_by_role("button", name=re.compile("card|Payment", re.IGNORECASE)).count() == 0
        await invoice.get_by_role("link").click()
        await expect(owner.locator("#invoice-total")).to_have_text("$99.00")
        await expect(owner.get_by_text(re.compile("Pro, .* to "))).to_be_visible()

        await house.let_it_fall_due()
        await desk.get_by_role("button", name="Look anew").click()
        await expect(desk.locator("#rights")).to_contain_text("past due")
        await owner.goto(f"{house.url}/console/agents")
        await expect(owner.locator("#billing-notice")).to_be_visible()

        await desk.get_by_role("button", name="Mark paid").click()
        await desk.get_by_role("dialog").get_by_role("button", name="Mark paid").click()
        await expect(desk.locator("#toasts")).to_contain_text("Marked as paid")
        await expect(row).to_contain_text("paid")
        await expect(desk.get_by_role("button", name="Mark paid")).to_have_count(0)
        await expect(desk.locator("#rights")).to_contain_text("active")
        await owner.goto(f"{house.url}/console/billing")
        await expect(owner.locator("#invoice-rows tr")).to_contain_text("Paid")
        await expect(owner.locator("#billing-notice")).to_be_hidden()

        await desk.goto(f"{house.url}/operator/audit")
        for deed in ("invoice.mark_paid", "plan.assign", "setting.change"):
            await expect(desk.get_by_text(deed, exact=True).first).to_be_visible()
        await owner.goto(f"{house.url}/console/audit-log")
        await expect(owner.get_by_text("Signed on paper").first).to_be_visible()
        assert complaints == [[], []]

"""Haste, two editors, a session that ends, and pages of things that are gone: a clear message, and nothing lost."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import PASSWORD, Company, company, complaints_of, profile, sign_in
from support.running import Running

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
async def shop(stonechat: Running) -> AsyncIterator[Company]:
    async with company(stonechat, "Hasty", email="owner@hasty.example") as shop:
        yield shop


@pytest.fixture
async def page(browser: Browser, shop: Company) -> AsyncIterator[Page]:
    """The owner's browser. Statuses that the tests bring about are no complaints."""
    async with profile(browser) as context:
        page = await context.new_page()
        complaints = complaints_of(page, answers=(401, 404, 409, 422))
        await sign_in(page, shop.running.url, shop.email)
        yield page
        assert complaints == []


async def versions(shop: Company, agent: str) -> list[int]:
    return [each["version"] for each in (await shop.tenant.call("GET", f"/agents/{agent}/versions"))["data"]]


async def test_a_double_click_on_publish_makes_one_version(page: Page, shop: Company) -> None:
    agent = await shop.tenant.agent(name="Robin")
    await shop.tenant.call("PATCH", f"/agents/{agent}", json={"greeting": "Good day!"})
    await page.goto(shop.url(f"/console/agents/{agent}/publish"))
    await page.get_by_role("button", name=re.compile("^Publish")).dblclick()
    await expect(page.get_by_text("Version 2 is live.").first).to_be_visible()
    await page.wait_for_load_state("networkidle")
    assert sorted(await versions(shop, agent)) == [1, 2]


async def test_two_editors_of_one_agent(page: Page, shop: Company) -> None:
    agent = await shop.tenant.agent(name="Robin")
    other = await page.context.new_page()
    for tab in (page, other):
        await tab.goto(shop.url(f"/console/agents/{agent}"))
    await page.get_by_label("Greeting").fill("Written first")
    await page.get_by_role("button", name="Save draft").click()
    await expect(page.locator("#toasts")).to_contain_text("Saved")

    await other.get_by_label("Greeting").fill("Written second")
    await other.get_by_label("Instructions").fill("Be kind.")
    await other.get_by_role("button", name="Save draft").click()
    clash = other.get_by_role("alert", name="Someone else changed this agent meanwhile")
    await expect(clash).to_contain_text("Written first")
    await expect(other.get_by_label("Greeting")).to_have_value("Written second")
    await expect(other.get_by_label("Instructions")).to_have_value("Be kind.")
    assert (await shop.tenant.call("GET", f"/agents/{agent}"))["draft"]["greeting"] == "Written first"

    await clash.get_by_role("button", name="Save mine over it").click()
    await expect(clash).to_be_hidden()
    draft = (await shop.tenant.call("GET", f"/agents/{agent}"))["draft"]
    assert (draft["greeting"], draft["instructions"]) == ("Written second", "Be kind.")


async def test_a_publish_that_somebody_overtook(page: Page, shop: Company) -> None:
    agent = await shop.tenant.agent(name="Robin")
    await shop.tenant.call("PATCH", f"/agents/{agent}", json={"greeting": "Looked at"})
    await page.goto(shop.url(f"/console/agents/{agent}/publish"))
    await shop.tenant.call("PATCH", f"/agents/{agent}", json={"greeting": "Changed since"})
    await page.get_by_role("button", name=re.compile("^Publish")).click()
    await expect(page.get_by_role("alert")).to_contain_text("Someone else changed this agent while you looked")
    await expect(page.locator("#publish")).to_contain_text("Changed since")
    assert await versions(shop, agent) == [1]


async def test_a_session_that_ended_loses_nothing(page: Page, shop: Company) -> None:
    agent = await shop.tenant.agent(name="Robin")
    await page.goto(shop.url(f"/console/agents/{agent}"))
    text = "Answer in two sentences.\nSend complaints to Maria."
    await page.get_by_label("Instructions").fill(text)
    await page.context.clear_cookies()
    await page.get_by_role("button", name="Save draft").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Sign in")
    await page.get_by_label("E-mail").fill(shop.email)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_label("Instructions")).to_have_value(text)
    await expect(page.get_by_text("What you had typed is still here.")).to_be_visible()
    await page.get_by_role("button", name="Save draft").click()
    await expect(page.get_by_text("You have changes that are not saved.")).to_be_hidden()
    saved = (await shop.tenant.call("GET", f"/agents/{agent}"))["draft"]["instructions"]
    assert saved.replace("\r\n", "\n") == text


async def test_back_to_what_was_deleted(page: Page, shop: Company) -> None:
    document = await shop.tenant.document("old.md", b"# Old\n\nWords.", title="Old words")
    await page.goto(shop.url("/console/knowledge"))
    await page.get_by_role("link", name="Old words").click()
    await page.get_by_role("button", name="Delete").first.click()
    await page.get_by_role("dialog").get_by_role("button", name=re.compile("^Delete")).click()
    await expect(page).to_have_url(re.compile("/console/knowledge$"))
    await expect(page.get_by_role("link", name="Old words")).to_have_count(0)
    await page.go_back()
    await page.reload()
    await expect(page.get_by_role("main")).to_contain_text(re.compile("no such document|was deleted", re.IGNORECASE))
    await page.get_by_role("main").get_by_role("link").first.click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert await shop.tenant.call("GET", f"/knowledge/documents/{document['id']}", 404)


async def test_deleting_what_somebody_deleted_says_so(page: Page, shop: Company) -> None:
    await shop.tenant.document("twice.md", b"# Twice\n\nWords.", title="Twice deleted")
    await page.goto(shop.url("/console/knowledge"))
    row = page.get_by_role("row", name=re.compile("Twice deleted"))
    await expect(row).to_be_visible()
    for document in (await shop.tenant.call("GET", "/knowledge/documents"))["data"]:
        await shop.tenant.call("DELETE", f"/knowledge/documents/{document['id']}", 204)
    await row.get_by_role("button", name=re.compile("^Delete")).click()
    await page.get_by_role("dialog").get_by_role("button", name=re.compile("^Delete")).click()
    await expect(page.locator("#toasts")).to_contain_text(re.compile("no such document|deleted", re.IGNORECASE))

"""The straight line: a pasted script on somebody else's page, a question, a cited answer, and it is there tomorrow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import FrameLocator, Page, expect

from support.api import Tenant, new_tenant
from support.browser import hasten
from support.running import Running, Site, customer_site

pytestmark = pytest.mark.browser

RETURNS = """# Returns

## How long you have

You may return anything unused within 45 days of delivery.

## Refunds

Refunds are paid to the original payment method within five working days of the parcel's arrival.
"""


@dataclass
class Shop:
    tenant: Tenant
    key: str
    snippet: str


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with new_tenant(stonechat, "Corner shop") as tenant:
        document = await tenant.document(
            "returns.md", RETURNS.encode(), title="Returns", url=f"{site.origin}/returns-policy"
        )
        assert document["status"] == "ready", document
        agent = await tenant.agent(name="Corner helper", greeting="Good day! What are you looking for?")
        key = await tenant.domain_key(agent, site.origin)
        script = f'<script async src="{stonechat.url}/embed.js" data-domain-key="{key}"></script>'
        yield Shop(tenant, key, script)


async def open_chat(page: Page) -> FrameLocator:
    await page.locator("[data-stonechat] button").first.click()
    return page.frame_locator("[data-stonechat] iframe")


async def ask(chat: FrameLocator, question: str, *, answers: int) -> None:
    await chat.get_by_role("textbox", name="Your message").fill(question)
    await chat.get_by_role("button", name="Send").click()
    await expect(chat.locator("[data-role=assistant][data-status=done]")).to_have_count(answers)


async def test_a_visitor_asks_reads_the_source_and_finds_the_conversation_again(
    page: Page, shop: Shop, site: Site
) -> None:
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    site.pages["/favicon.ico"] = "-"
    url = site.paste("/", shop.snippet)
    site.paste("/returns-policy", "", title="Returns policy")
    await page.goto(url)

    chat = await open_chat(page)
    await expect(chat.get_by_text("Good day! What are you looking for?")).to_be_visible()
    await ask(chat, "How many days do I have to return something?", answers=1)
    answer = chat.locator("[data-role=assistant]").last
    await expect(answer).to_contain_text("45 days")
    source = chat.get_by_role("list", name="Sources").get_by_role("link").first
    assert await source.get_attribute("href") == f"{site.origin}/returns-policy"
    async with page.context.expect_page() as opened:
        await source.click()
    await expect((await opened.value).locator("h1")).to_have_text("Returns policy")

    await page.reload()
    chat = await open_chat(page)
    await expect(chat.locator("[data-role=user]")).to_contain_text("How many days do I have to return something?")
    await expect(chat.locator("[data-role=assistant]").last).to_contain_text("45 days")

    await ask(chat, "When is a refund paid?", answers=2)
    await expect(chat.locator("[data-role=assistant]").last).to_contain_text("five working days")

    conversations = (await shop.tenant.call("GET", "/conversations"))["data"]
    assert len(conversations) == 1, "the second question belongs to the same thread"
    thread = await shop.tenant.call("GET", f"/conversations/{conversations[0]['id']}")
    assert [item["type"] for item in thread["items"] if item["type"].endswith("_message")] == [
        "user_message",
        "assistant_message",
        "user_message",
        "assistant_message",
    ]
    assert complaints == []


async def test_nothing_is_fetched_before_a_visitor_shows_interest(page: Page, shop: Shop, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.goto(site.paste("/quiet", shop.snippet))
    await expect(page.locator("[data-stonechat] button").first).to_be_visible()
    assert [url for url in asked if not url.startswith(site.origin)] == [f"{shop.tenant.url}/embed.js"]


async def test_a_page_on_an_unlisted_origin_cannot_show_the_frame(page: Page, shop: Shop) -> None:
    refused: list[str] = []
    page.on("console", lambda line: refused.append(line.text) if "frame-ancestors" in line.text else None)
    await page.clock.install()
    with customer_site() as stranger:
        await page.goto(stranger.paste("/", shop.snippet))
        chat = await open_chat(page)
        await hasten(page, page.locator("[data-stonechat]").get_by_text("could not be opened"))
        assert await chat.get_by_role("textbox").count() == 0
    assert refused, "the browser itself refuses, by the frame's own policy"


async def test_pasting_the_script_twice_makes_one_launcher(page: Page, shop: Shop, site: Site) -> None:
    await page.goto(site.paste("/twice", shop.snippet + shop.snippet))
    await expect(page.locator("[data-stonechat]")).to_have_count(1)


@pytest.mark.parametrize("name", ["shop", "docs"])
async def test_the_demo_answers_with_a_source(page: Page, stonechat: Running, name: str) -> None:
    await page.goto(f"{stonechat.url}/demo/{name}")
    chat = await open_chat(page)
    prompt = chat.get_by_role("button", name="?").first
    await prompt.click()
    await expect(chat.locator("[data-role=assistant][data-status=done]")).to_have_count(1)
    await expect(chat.get_by_role("list", name="Sources").get_by_role("link").first).to_be_visible()

"""OpenAI's front end, by a double of its script: in our frame, on customers' own pages, and where it does not come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Browser, Page, expect

from support.api import Tenant, new_tenant
from support.browser import complaints_of, profile
from support.running import Running, Site
from support.stock import CDN, Stock, built, own_page, own_pages, say

pytestmark = pytest.mark.browser
FRAME = "[data-stonechat] iframe"
BEFORE_LONG = 30_000
"""Milliseconds for what takes a moment, however loaded the machine is."""


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return built(tmp_path_factory.mktemp("stock"))


@dataclass
class Shop:
    tenant: Tenant
    agent: str
    url: str

    async def key(self, origin: str, *, openai: str | None = "domain_pk_double") -> str:
        body = {"name": "Site", "environment": "development", "origins": [origin], "openai_domain_key": openai}
        made = await self.tenant.call("POST", f"/agents/{self.agent}/domain-keys", 201, json=body)
        return str(made["key"])

    def snippet(self, key: str) -> str:
        return f'<script async src="{self.url}/embed.js" data-domain-key="{key}" data-locale="de"></script>'


@pytest.fixture(scope="module")
async def shop(stonechat: Running) -> AsyncIterator[Shop]:
    async with new_tenant(stonechat, "Stock shop") as tenant:
        agent = await tenant.agent(
            name="Stock helper",
            model="scripted",
            renderer="chatkit",
            greeting="Good day",
            prompts=[{"label": "Hours", "prompt": "When are you open?"}],
            disclaimer="May err.",
            attachments={"enabled": True},
            model_choices=[{"id": "extractive", "label": "Quick"}],
            theme={"accent": "#be123c", "radius": "small"},
            guardrails={"output": {"images": "listed", "link_hosts": ["img.example.com"]}},
        )
        yield Shop(tenant, agent, stonechat.url)


async def open_chat(page: Page, site: Site, path: str, snippet: str) -> None:
    await page.goto(site.paste(path, snippet))
    await page.locator("[data-stonechat] .launcher").click()


async def test_the_frame_draws_it_with_valid_options_and_it_converses(
    browser: Browser, shop: Shop, site: Site, stock: Stock
) -> None:
    key = await shop.key(site.origin)
    site.pages["/favicon.ico"] = "-"
    async with profile(browser) as context:
        asked = await stock.serve(context)
        page = await context.new_page()
        complaints = complaints_of(page)
        await open_chat(page, site, "/stock", shop.snippet(key))
        chat = page.frame_locator(FRAME)
        element = chat.locator("openai-chatkit")
        await expect(element).to_have_attribute("data-faults", "")
        options = json.loads(await element.get_attribute("data-options") or "null")
        assert options["api"]["url"] == f"{shop.url}/chatkit"
        assert options["api"]["domainKey"] == "domain_pk_double"
        assert options["locale"] == "de"
        assert options["theme"]["radius"] == "soft"
        assert options["startScreen"]["prompts"] == [{"label": "Hours", "prompt": "When are you open?"}]
        assert options["composer"]["models"] == [{"id": "extractive", "label": "Quick"}]
        assert options["disclaimer"] == {"text": "May err."}

        await say(page, "Hello there", within=FRAME)
        await expect(chat.locator("li.assistant_message")).to_contain_text("word")
        await expect(element).to_have_attribute("data-pictures", '["img.example.com"]')
        await say(page, "And again", within=FRAME)
        await expect(chat.locator("li.assistant_message")).to_have_count(2)
        # Whoever comes back finds the conversation, and can take it away or have it erased.
        await page.reload()
        await page.locator("[data-stonechat] .launcher").click()
        await expect(chat.locator("li.user_message")).to_have_count(2)
        await expect(element).to_have_attribute("data-pictures", '["img.example.com"]')
        await chat.get_by_role("button", name="settings-cog").click()
        await expect(chat.get_by_role("dialog").locator(".thread-open")).to_have_count(1)
        await page.keyboard.press("Escape")
        await expect(chat.get_by_role("dialog")).to_have_count(0)
        await chat.get_by_role("button", name="close", exact=True).click()
        await expect(page.locator("[data-stonechat] dialog")).to_be_hidden()
        assert set(asked) == {f"{CDN}chatkit.js", f"{CDN}index.html"}
        assert complaints == []


@pytest.mark.parametrize("how", ["refused", "hanging", "silent"])
async def test_ours_stands_in_where_it_does_not_come_and_the_console_is_told(
    browser: Browser, shop: Shop, site: Site, stock: Stock, how: str
) -> None:
    key = await shop.key(site.origin)
    async with profile(browser) as context:
        await stock.serve(context, how)
        await context.clock.install()
        page = await context.new_page()
        await page.goto(site.paste(f"/{how}", shop.snippet(key)))
        async with page.expect_request("**/embed/stock-trouble", timeout=BEFORE_LONG) as told:
            async with page.expect_request(f"{CDN}chatkit.js", timeout=BEFORE_LONG):
                await page.locator("[data-stonechat] .launcher").click()
            chat = page.frame_locator(FRAME)
            if how != "refused":  # then five seconds have to pass, which widget/test/stock.test.ts counts
                await context.clock.fast_forward(5_000)
            await expect(chat.locator("textarea")).to_be_visible(timeout=BEFORE_LONG)
        request = await told.value
        assert request.post_data_json == {"reason": "refused" if how == "refused" else "timeout"}
        answer = await request.response()
        assert answer is not None
        assert answer.status == 204
        await expect(chat.locator("openai-chatkit")).to_have_count(0)
        await chat.locator("textarea").fill("Hello")
        await chat.locator("textarea").press("Enter")
        await expect(chat.locator("[data-role=assistant][data-status=done]")).to_have_count(1)


async def test_without_openais_key_nothing_is_asked_of_openai(
    browser: Browser, shop: Shop, site: Site, stock: Stock
) -> None:
    key = await shop.key(site.origin, openai=None)
    async with profile(browser) as context:
        asked = await stock.serve(context)
        page = await context.new_page()
        await open_chat(page, site, "/keyless", shop.snippet(key))
        await expect(page.frame_locator(FRAME).locator("textarea")).to_be_visible()
        assert asked == []


@pytest.mark.parametrize("example", ["vanilla", "react"])
async def test_the_examples_work_from_a_customers_own_page(
    browser: Browser, shop: Shop, stock: Stock, example: str
) -> None:
    files: dict[str, tuple[str, bytes]] = {
        "/dist/main.js": ("text/javascript", getattr(stock, example)),
        "/chat.css": ("text/css", b""),
    }
    with own_pages(files) as origin:
        key = await shop.key(origin)
        files["/"] = ("text/html", own_page(example, platform=shop.url, domain_key=key))
        async with profile(browser) as context:
            await stock.serve(context)
            page = await context.new_page()
            complaints = complaints_of(page, answers=(404,))
            await page.goto(origin)
            element = page.locator("openai-chatkit")
            await expect(element).to_have_attribute("data-faults", "")
            await expect(page.get_by_text("Good day")).to_be_visible()
            file = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"Lamps are on the third floor."}
            await page.get_by_label("Files").set_input_files(file)  # type: ignore[arg-type]
            await expect(page.get_by_text("attached note.txt")).to_be_visible()
            await say(page, "What does it say?")
            await expect(page.locator("li.user_message")).to_contain_text("[note.txt]")
            await expect(page.locator("li.assistant_message")).to_contain_text("word")
            if example == "react":
                await page.get_by_role("button", name="Ask for the opening hours").click()
                await expect(page.locator("li.assistant_message")).to_have_count(2)
            await page.get_by_role("button", name="history").click()
            await expect(page.locator("nav button")).to_have_count(1)
            assert complaints == []

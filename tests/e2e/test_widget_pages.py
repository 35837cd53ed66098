"""Pages that the chat has to live in: isolated ones, shadow roots, an element of its own, and those that open it themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from playwright.async_api import Page, Route, expect

from support.api import new_tenant
from support.browser import complaints_of
from support.running import Running, Site
from support.widget import FRAME, LAUNCHER, SETTLED, open_chat, say

pytestmark = pytest.mark.browser


@dataclass
class Shop:
    site: Site
    url: str
    key: str

    def tag(self, more: str = "") -> str:
        return f'<script async src="{self.url}/embed.js" data-domain-key="{self.key}" {more}></script>'


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with new_tenant(stonechat, "Housed shop") as tenant:
        agent = await tenant.agent(name="Housed helper", model="scripted")
        site.pages["/favicon.ico"] = "-"
        yield Shop(site, stonechat.url, await tenant.domain_key(agent, site.origin))


async def test_an_isolated_page_can_hold_the_chat(page: Page, shop: Shop) -> None:
    """`Cross-Origin-Embedder-Policy: require-corp` keeps out every frame and script that does not agree to it."""

    shop.site.headers["/isolated"] = {
        "Cross-Origin-Embedder-Policy": "require-corp",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
    complaints = complaints_of(page)
    url = shop.site.paste("/isolated", shop.tag())
    chat = await open_chat(page, url)
    assert await page.evaluate("crossOriginIsolated")
    await say(chat, "Hello", answers=1)
    assert complaints == []


SHADOWS = """<style>
  * { all: revert; } button, iframe, dialog, div { width: 1px; height: 1px; color: red; opacity: .2; transform: rotate(9deg); }
</style>
<script>
customElements.define("a-shop", class extends HTMLElement {
  connectedCallback() {
    const root = this.attachShadow({ mode: "open" });
    root.append(document.createElement("an-aisle"));
  }
});
customElements.define("an-aisle", class extends HTMLElement {
  connectedCallback() {
    const root = this.attachShadow({ mode: "open" });
    const button = Object.assign(document.createElement("button"), { textContent: "Help", onclick: () => Stonechat("open") });
    root.append(button);
  }
});
</script><a-shop></a-shop>"""


async def test_a_page_of_shadow_roots_opens_it_has_its_focus_back_and_does_not_spoil_its_look(
    page: Page, shop: Shop
) -> None:
    await page.goto(shop.site.paste("/shadows", SHADOWS + shop.tag()))
    launcher = page.locator(LAUNCHER)
    box = await launcher.bounding_box()
    assert box == {"x": 1280 - 20 - 56, "y": 860 - 20 - 56, "width": 56, "height": 56}
    help_ = page.get_by_role("button", name="Help")
    await help_.click()
    chat = page.frame_locator(FRAME)
    await say(chat, "Hello", answers=1)
    frame = await page.locator(FRAME).bounding_box()
    assert frame is not None
    assert (frame["width"], frame["height"]) == (400, 700)
    await chat.get_by_role("button", name="Close chat").click()
    await expect(help_).to_be_focused()
    await launcher.press("Enter")
    await expect(chat.locator("textarea")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(launcher).to_be_focused()


async def test_it_fills_an_element_that_comes_later(page: Page, shop: Shop) -> None:
    complaints = complaints_of(page)
    await page.goto(shop.site.paste("/inline", shop.tag('data-target="#chat"')))
    await page.wait_for_function("window.Stonechat?.live")
    await expect(page.locator("[data-stonechat]")).to_have_count(0)
    await page.evaluate("""() => {
      const place = Object.assign(document.createElement("section"), { id: "chat" });
      place.style.cssText = "height: 600px; width: 420px";
      document.body.append(place);
    }""")
    chat = page.frame_locator("#chat [data-stonechat] iframe")
    await expect(chat.locator("textarea")).to_be_visible()
    await expect(page.locator(LAUNCHER)).to_have_count(0)
    assert await page.evaluate("document.activeElement === document.body"), "the page keeps its focus"
    await expect(chat.get_by_role("button", name="Close chat")).to_have_count(0)
    await say(chat, "Hello", answers=1)
    place, frame = await page.locator("#chat").bounding_box(), await page.locator(FRAME).bounding_box()
    assert place == frame
    assert complaints == []


async def test_a_page_opens_it_and_keeps_its_focus(page: Page, shop: Shop) -> None:
    tag = shop.tag("data-open")
    await page.goto(shop.site.paste("/open", f"<label>Search <input autofocus></label>{tag}"))
    chat = page.frame_locator(FRAME)
    await expect(chat.locator("textarea")).to_be_visible()
    await expect(page.get_by_label("Search")).to_be_focused()
    await expect(page.locator(LAUNCHER)).to_have_attribute("aria-expanded", "true")
    await page.keyboard.type("lamps")
    await expect(page.get_by_label("Search")).to_have_value("lamps")


async def test_an_answer_that_comes_while_it_is_closed_is_marked_on_the_launcher(page: Page, shop: Shop) -> None:
    may_answer = asyncio.Event()

    async def wait(route: Route) -> None:
        if '"threads.create"' in (route.request.post_data or ""):
            await may_answer.wait()
        await route.continue_()

    await page.route("**/chatkit", wait)
    chat = await open_chat(page, shop.site.paste("/unread", shop.tag()))
    await say(chat, "Hello")
    await chat.get_by_role("button", name="Close chat").click()
    launcher = page.locator(LAUNCHER)
    await expect(launcher).not_to_have_attribute("data-unread", "")
    may_answer.set()
    await expect(launcher).to_have_attribute("data-unread", "")
    await launcher.click()
    await expect(launcher).not_to_have_attribute("data-unread", "")
    await expect(chat.locator(SETTLED)).to_be_visible()

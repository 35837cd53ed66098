"""The widget where it is hard: connections that break, other tabs, strict pages, small screens, and visitors who leave."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, FrameLocator, Page, Route, expect

from support.api import Tenant, new_tenant
from support.running import Running, Site
from support.slow_model import WORDS, slow_model

pytestmark = pytest.mark.browser
LAUNCHER = {
    "label": "Ask the shop",
    "icon": "question",
    "teaser": {"text": "Can I help?", "delay_seconds": 0},
    "hidden_paths": ["/checkout/*"],
}


@dataclass
class Shop:
    tenant: Tenant
    url: str
    key: str

    @property
    def snippet(self) -> str:
        return f'<script async src="{self.url}/embed.js" data-domain-key="{self.key}"></script>'


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with new_tenant(stonechat, "Robust shop") as tenant:
        agent = await tenant.agent(name="Robust helper", model="scripted", launcher=LAUNCHER)
        yield Shop(tenant, stonechat.url, await tenant.domain_key(agent, site.origin))


async def open_chat(page: Page) -> FrameLocator:
    await page.locator("[data-stonechat] .launcher").click()
    return page.frame_locator("[data-stonechat] iframe")


async def ask(chat: FrameLocator, question: str, *, answers: int) -> None:
    await chat.locator("textarea").fill(question)
    await chat.locator("textarea").press("Enter")
    await expect(chat.locator("[data-role=assistant][data-status=done]")).to_have_count(answers)


async def test_conversations_are_found_renamed_deleted_taken_away_and_erased(
    page: Page, shop: Shop, site: Site, tmp_path: Path
) -> None:
    await page.goto(site.paste("/history", shop.snippet))
    chat = await open_chat(page)
    await ask(chat, "First about apples", answers=1)
    await chat.get_by_role("button", name="New conversation").click()
    await ask(chat, "Second about pears", answers=1)

    menu = chat.get_by_role("button", name="Conversations and privacy")
    await menu.click()
    panel = chat.get_by_role("dialog", name="Your conversations")
    rows = panel.locator(".thread-open")
    await expect(rows).to_have_count(2)
    await expect(panel.get_by_role("button", name="Back to the conversation")).to_be_focused()
    await panel.get_by_role("searchbox").fill("APPLES")
    await expect(rows).to_have_count(1)
    await panel.get_by_role("searchbox").fill("nothing like it")
    await expect(panel.get_by_text("No conversation is called that.")).to_be_visible()
    await panel.get_by_role("searchbox").fill("")

    await panel.get_by_role("button", name="Rename: First about apples").click()
    await page.keyboard.type("Orchard")
    await page.keyboard.press("Enter")
    await expect(rows.nth(1)).to_contain_text("Orchard")
    await rows.nth(1).click()
    await expect(chat.locator("[data-role=user]")).to_have_text("You said:First about apples")
    await expect(menu).to_be_focused()

    await menu.click()
    await panel.get_by_role("button", name="Delete: Second about pears").click()
    await expect(panel.get_by_role("button", name="Cancel")).to_be_focused()
    await panel.get_by_role("button", name="Delete", exact=True).click()
    await expect(rows).to_have_count(1)

    async with page.expect_download() as download:
        await panel.get_by_role("button", name="Save my conversations").click()
    await (await download.value).save_as(tmp_path / "mine.json")
    saved = json.loads((tmp_path / "mine.json").read_bytes())
    assert [each["title"] for each in saved["conversations"]] == ["Orchard"]

    await panel.get_by_role("button", name="Delete everything of mine").click()
    await expect(panel.get_by_text("This cannot be undone.")).to_be_visible()
    await panel.locator(".erase-ask .danger").click()
    await expect(panel.get_by_text("Everything was deleted.")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(panel).to_have_count(0)
    await expect(chat.locator("[data-role=user]")).to_have_count(0)
    assert (await shop.tenant.call("GET", "/conversations"))["data"] == []


async def test_an_answer_whose_connection_is_cut_arrives_whole(page: Page, shop: Shop, site: Site) -> None:
    resumed: list[str] = []

    async def cut(route: Route) -> None:
        if '"threads.create"' not in (route.request.post_data or ""):
            return await route.continue_()
        answer = await route.fetch()
        body = await answer.body()
        return await route.fulfill(response=answer, body=body[: len(body) // 2])

    page.on("request", lambda request: resumed.append(request.url) if "/events" in request.url else None)
    await page.goto(site.paste("/cut", shop.snippet))
    chat = await open_chat(page)
    await page.route("**/chatkit", cut)
    await ask(chat, "Tell me all of it", answers=1)
    assert len(resumed) == 1
    whole = await chat.locator("[data-role=assistant] .prose").inner_text()
    await page.reload()
    chat = await open_chat(page)
    assert await chat.locator("[data-role=assistant] .prose").inner_text() == whole


async def test_an_answer_goes_on_after_a_reload_and_in_another_tab(page: Page, shop: Shop, site: Site) -> None:
    with slow_model(pace=0.004) as model:
        provider = {"name": "slow", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await shop.tenant.call("POST", "/model-providers", 201, json=provider)
        agent = await shop.tenant.agent(name="Slow helper", model="slow/slow", knowledge={"enabled": False})
        key = await shop.tenant.domain_key(agent, site.origin)
        url = site.paste(
            "/slow", f'<script async src="{shop.url}/embed.js" data-domain-key="{key}" data-open></script>'
        )
        await page.goto(url)
        chat = page.frame_locator("[data-stonechat] iframe")
        await chat.locator("textarea").fill("A long story")
        await chat.locator("textarea").press("Enter")
        await expect(chat.locator("[data-role=assistant]")).to_contain_text("word9 ", timeout=20_000)
        await page.reload()
        other = await page.context.new_page()
        await other.goto(url)
        beside = other.frame_locator("[data-stonechat] iframe")
        for each in (chat, beside):
            await expect(each.locator("[data-role=assistant][data-status=done]")).to_contain_text(
                " ".join(WORDS[-3:]), timeout=20_000
            )
            await expect(each.locator("[data-role=assistant]")).to_have_count(1)
        # What is asked in one tab is seen in the other.
        await beside.locator("textarea").fill("And then?")
        await beside.locator("textarea").press("Enter")
        await expect(chat.locator("[data-role=user]").nth(1)).to_contain_text("And then?", timeout=20_000)
        await other.close()


async def test_it_works_where_storage_is_blocked(browser: Browser, shop: Shop, site: Site) -> None:
    context = await browser.new_context()
    await context.add_init_script(
        "for (const name of ['localStorage', 'sessionStorage'])"
        " Object.defineProperty(window, name, { get() { throw new DOMException('blocked', 'SecurityError') } })"
    )
    page = await context.new_page()
    await page.goto(site.paste("/blocked", shop.snippet))
    chat = await open_chat(page)
    await ask(chat, "Hello", answers=1)
    await ask(chat, "Again", answers=2)
    # A cookie of the platform's within this site remembers who was here, and where.
    [kept, *_] = [cookie for cookie in await context.cookies(shop.url) if cookie["name"].endswith(".visitor")]
    assert (kept["secure"], kept["sameSite"], kept["path"]) == (True, "None", "/")
    await page.reload()
    chat = await open_chat(page)
    await expect(chat.locator("[data-role=user]")).to_have_count(2)
    await context.clear_cookies()
    await page.reload()
    chat = await open_chat(page)
    await ask(chat, "Somebody else", answers=1)
    await context.close()


async def test_a_strict_policy_needs_two_directives(page: Page, shop: Shop, site: Site) -> None:
    complaints: list[str] = []
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    policy = (
        f"default-src 'none'; script-src 'nonce-abc'; frame-src {shop.url}; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    site.pages["/favicon.ico"] = "-"
    site.pages["/strict"] = (
        f'<!doctype html><meta http-equiv="Content-Security-Policy" content="{policy}"><title>x</title>'
        f'<script async nonce="abc" src="{shop.url}/embed.js" data-domain-key="{shop.key}"></script><p>A strict page'
    )
    await page.goto(f"{site.origin}/strict")
    await ask(await open_chat(page), "Hello", answers=1)
    assert complaints == []


async def test_a_tag_manager_a_second_copy_and_an_application_that_replaces_its_body(
    page: Page, shop: Shop, site: Site
) -> None:
    inject = f"""<script>for (const at of [1, 2]) {{
      const tag = document.createElement('script');
      tag.src = '{shop.url}/e/{shop.key}.js';
      document.head.append(tag);
    }}</script>"""
    await page.goto(site.paste("/app", inject))
    launcher = page.locator("[data-stonechat] .launcher")
    await expect(launcher).to_have_count(1)
    await expect(launcher).to_have_accessible_name("Ask the shop")
    teaser = page.locator("[data-stonechat] .teaser")
    await expect(teaser).to_contain_text("Can I help?")
    await teaser.get_by_role("button", name="Close").click()
    await expect(teaser).to_have_count(0)
    await page.evaluate("history.pushState(null, '', '/checkout/pay'); document.body.replaceChildren('Pay here')")
    await expect(launcher).to_be_hidden()
    await page.evaluate("history.pushState(null, '', '/app'); document.body.replaceChildren('Back')")
    await expect(launcher).to_be_visible()
    await ask(await open_chat(page), "Hello", answers=1)
    assert len(page.frames) == 2


async def test_a_phone_gets_the_whole_screen_and_keeps_the_composer_above_its_keyboard(
    browser: Browser, shop: Shop, site: Site
) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 780}, has_touch=True)
    page = await context.new_page()
    await page.goto(site.paste("/phone", shop.snippet))
    chat = await open_chat(page)
    await expect(chat.locator("textarea")).to_be_visible()
    box = await page.locator("[data-stonechat] iframe").bounding_box()
    assert box == {"x": 0, "y": 0, "width": 390, "height": 780}
    # As the keyboard of a phone does it: what is to be seen shrinks, the layout does not.
    await page.evaluate(
        "Object.defineProperty(visualViewport, 'height', { value: 420 }); visualViewport.dispatchEvent(new Event('resize'))"
    )
    await expect(page.locator("[data-stonechat] dialog")).to_have_js_property("offsetHeight", 420)
    field = await chat.locator("textarea").bounding_box()
    assert field is not None
    assert field["y"] + field["height"] < 420
    await context.close()


async def test_words_and_layout_follow_the_language(page: Page, shop: Shop, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "words-" in request.url else None)
    await page.goto(site.paste("/ar", shop.snippet.replace("data-domain-key", 'data-locale="ar-EG" data-domain-key')))
    chat = await open_chat(page)
    await expect(chat.locator("html")).to_have_attribute("dir", "rtl")
    await expect(chat.locator("html")).to_have_attribute("lang", "ar")
    assert len(asked) == 1, "only the language that is needed"
    close, name = chat.locator("header .tool").last, chat.locator("h1")
    close_box, name_box = await close.bounding_box(), await name.bounding_box()
    assert close_box is not None
    assert name_box is not None
    assert close_box["x"] < name_box["x"]
    await chat.locator("header .tool").first.click()
    await chat.locator("#language").select_option("en")
    await expect(chat.locator("html")).to_have_attribute("dir", "ltr")
    await expect(chat.get_by_role("button", name="Close chat")).to_be_visible()


async def test_being_offline_is_said(page: Page, shop: Shop, site: Site) -> None:
    await page.goto(site.paste("/offline", shop.snippet))
    chat = await open_chat(page)
    await expect(chat.locator("textarea")).to_be_visible()
    await page.context.set_offline(True)
    await expect(chat.get_by_text("You are offline.")).to_be_visible()
    await page.context.set_offline(False)
    await expect(chat.get_by_text("You are offline.")).to_have_count(0)
    await ask(chat, "Back again", answers=1)

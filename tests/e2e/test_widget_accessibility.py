"""The chat for everyone: clean by axe in every state, whole by keyboard, quiet for the ear, and large, still or in few colours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import Browser, Frame, FrameLocator, Page, Route, expect

from support.api import Tenant, new_tenant
from support.browser import profile
from support.fake_openai import HANG, Reply, chat_text, fake_openai
from support.loopback import Received
from support.running import ROOT, Running, Site
from support.widget import FRAME, LAUNCHER, open_chat, say, streamed, violations

pytestmark = pytest.mark.browser

RECORDED: list[dict[str, Any]] = json.loads((ROOT / "widget/test/fixtures/every-item.json").read_text("utf-8"))
PASSAGE = {
    "message": "The document has changed since.",
    "headings": ["Returns", "How long you have"],
    "page": 3,
    "before": "Anything unused can be returned.",
    "text": "You may return it within 45 days of delivery.",
    "highlights": [[25, 32]],
    "after": "Refunds take five days.",
}
CONFIG: dict[str, Any] = {
    "name": "Lamp helper",
    "model": "fake/lamp",
    "knowledge": {"enabled": False},
    "attachments": {"enabled": True, "max_bytes": 1_024, "max_files": 2},
    "dictation": {"enabled": True, "model": "fake/ears"},
    "model_choices": [{"id": "scripted", "label": "Quick"}],
    "prompts": [{"label": "Which lamp?", "prompt": "Which lamp is best?"}],
    "disclaimer": "Answers may be wrong.",
    "launcher": {"label": "Ask about lamps", "teaser": {"text": "Can I help?", "delay_seconds": 0}},
}


@dataclass
class Shop:
    tenant: Tenant
    site: Site
    key: str
    unready: str
    """The key of an agent that was never published."""

    def page(self, path: str, more: str = "", *, key: str = "") -> str:
        self.site.pages["/favicon.ico"] = "-"
        tag = f'<script async src="{self.tenant.url}/e/{key or self.key}.js" {more}></script>'
        return self.site.paste(path, tag)


def answer(request: Received) -> Reply:
    said = json.loads(request.body)["messages"][-1]["content"]
    if "story" in said:
        return [*chat_text("Once **upon** a time", "never")[:-3], HANG]
    return chat_text("Gladly: ", "**lamps** are on the third floor.")


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with fake_openai(choose=answer) as model, new_tenant(stonechat, "Accessible shop") as tenant:
        provider = {"name": "fake", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
        key = await tenant.domain_key(await tenant.agent(**CONFIG), site.origin)
        made = await tenant.call("POST", "/agents", 201, json={"name": "Not ready", "model": "scripted"})
        yield Shop(tenant, site, key, await tenant.domain_key(made["id"], site.origin))


class Look:
    """Runs axe wherever the walk stands, in light and in dark, and keeps what it finds."""

    def __init__(self, page: Page, schemes: tuple[str, ...]) -> None:
        self.page = page
        self.schemes = schemes
        self.found: list[str] = []

    async def at(self, where: str, frame: Frame | None = None) -> None:
        for scheme in self.schemes:
            await self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            self.found += await violations(frame or self.page.frames[1], f"{where} ({scheme})")


@pytest.mark.parametrize("look", ["wide", "phone"])
async def test_axe_finds_nothing_in_any_state(browser: Browser, shop: Shop, look: str) -> None:
    """Wide in light and dark; on a phone with a finger, from right to left."""
    size = {"width": 360, "height": 740} if look == "phone" else {"width": 1280, "height": 900}
    tongue = 'data-locale="ar"' if look == "phone" else ""
    async with profile(browser, viewport=size, has_touch=look == "phone", reduced_motion="reduce") as context:
        page = await context.new_page()
        axe = Look(page, ("light", "dark") if look == "wide" else ("light",))
        await page.goto(shop.page("/axe", tongue))
        await page.locator("[data-stonechat] .teaser").wait_for()
        await axe.at("launcher and teaser", page.main_frame)
        await page.locator(LAUNCHER).click()
        await axe.at("open, around the frame", page.main_frame)
        await states(page, page.frame_locator(FRAME), axe, shop)
    assert not axe.found, "\n".join(axe.found)


async def states(page: Page, chat: FrameLocator, axe: Look, shop: Shop) -> None:
    """Through all that can be on the screen; by class, as the words are of several languages."""
    field, send = chat.locator("textarea").first, chat.locator(".send:not(.stop)")
    await chat.locator(".c-mic").wait_for()
    await axe.at("start screen")

    note = {"mimeType": "text/plain", "buffer": b"A note"}
    await chat.locator("input[type=file]").set_input_files([note | {"name": "note.txt"}])  # type: ignore[list-item]
    await chat.locator("input[type=file]").set_input_files([note | {"name": "x", "buffer": b"x" * 2_000}])  # type: ignore[list-item]
    await field.fill("x" * 8_001)
    await axe.at("a file, a complaint, too long")
    await chat.locator(".c-file .c-remove").click()

    await field.fill("A story")
    await send.click()
    await expect(chat.locator("[data-role=assistant]")).to_contain_text("upon")
    await axe.at("streaming")
    await chat.locator(".stop").click()
    await expect(chat.locator("[data-status=stopped]")).to_be_visible()
    await axe.at("stopped")
    await chat.locator(".deed-bad").click()
    await chat.locator(".why textarea").fill("Too long")
    await axe.at("why it was disliked")
    await chat.locator(".why button").last.click()
    await axe.at("judged")

    await page.route("**/chatkit", lambda route: route.abort())
    await field.fill("Lost")
    await send.click()
    await chat.get_by_role("alert").wait_for()
    await axe.at("not sent")
    await page.unroute("**/chatkit")
    await page.context.set_offline(True)
    await expect(chat.locator(".banner")).not_to_be_empty()
    await axe.at("offline")
    await page.context.set_offline(False)
    await limit(page, chat, axe)

    await chat.locator("header .tool").first.click()
    panel = chat.get_by_role("dialog")
    await panel.locator(".thread").first.wait_for()
    await axe.at("conversations")
    await panel.locator(".thread .tool").first.click()
    await panel.locator(".thread-form").wait_for()
    await axe.at("renaming")
    await page.keyboard.press("Escape")
    await panel.locator(".thread .tool").nth(1).click()
    await panel.locator(".mine-deeds .danger").click()
    await axe.at("deleting one and all")
    await panel.locator(".erase-ask button").first.click()
    await panel.locator(".thread-form button").first.click()
    await panel.get_by_role("searchbox").fill("nothing like it")
    await axe.at("nothing found")
    await panel.locator("header .tool").click()

    await everything(page, chat, axe)
    [thread, *_] = (await shop.tenant.call("GET", "/conversations"))["data"]
    await shop.tenant.call("POST", f"/conversations/{thread['id']}/lock", json={"reason": "We are having a break."})
    await chat.locator("header .tool").first.click()
    await chat.locator(".thread-open").first.click()
    await chat.locator(".locked:not([hidden])").wait_for()
    await axe.at("locked")
    await shop.tenant.call("DELETE", f"/conversations/{thread['id']}", 204)

    await page.goto(shop.page("/unready", key=shop.unready))
    await page.locator(LAUNCHER).click()
    await chat.locator(".unavailable").wait_for()
    await axe.at("not published")


async def limit(page: Page, chat: FrameLocator, axe: Look) -> None:
    problem = {
        "status": 429,
        "code": "rate_limited",
        "title": "Slow down",
        "detail": "You are sending messages very quickly.",
    }

    async def refuse(route: Route) -> None:
        headers = {"Content-Type": "application/problem+json", "Retry-After": "40"}
        await route.fulfill(status=429, headers=headers, body=json.dumps(problem))

    await page.route("**/chatkit", refuse)
    await chat.get_by_role("alert").get_by_role("button").click()
    await expect(chat.get_by_role("alert").get_by_role("button")).to_be_disabled()
    await axe.at("limited")
    await page.unroute("**/chatkit")


async def everything(page: Page, chat: FrameLocator, axe: Look) -> None:
    """One of each item, the forms with their errors, and a passage."""
    await page.route("**/chatkit/sources*", lambda route: route.fulfill(json=PASSAGE))
    await page.route("**/chatkit", streamed(RECORDED))
    await chat.locator("header .tool").nth(1).click()
    await chat.locator("textarea").first.fill("Everything, please")
    await chat.locator(".send:not(.stop)").click()
    await chat.locator(".w-card").first.wait_for()
    await expect(chat.locator(".later")).to_have_count(0)
    await page.unroute("**/chatkit")
    await page.set_viewport_size({"width": (page.viewport_size or {})["width"], "height": 6_000})
    await chat.locator(".s-pending button[type=submit]").first.click()
    await chat.locator(".w-card form button[type=submit]").first.click()
    for summary in await chat.locator("summary").all():
        await summary.click()
    await axe.at("everything")
    await chat.locator("button.source").first.click()
    await chat.locator(".cited-text").wait_for()
    await axe.at("a passage")
    await page.keyboard.press("Escape")
    await page.set_viewport_size({"width": (page.viewport_size or {})["width"], "height": 800})


async def test_enlarged_four_times_nothing_is_lost_or_scrolls_sideways(browser: Browser, shop: Shop) -> None:
    """1280 by 1024 at 400 % is 320 by 256; at 200 %, 640 by 512."""
    for width, height in ((320, 256), (640, 512)):
        async with profile(browser, viewport={"width": width, "height": height}) as context:
            page = await context.new_page()
            chat = await open_chat(page, shop.page("/large"))
            await chat.locator(".c-mic").wait_for()
            where = f"at {width} by {height}"
            await fits(page, f"start {where}")
            await page.route("**/chatkit", streamed(RECORDED))
            await say(chat, "Everything, please")
            await chat.get_by_role("button", name="Yes, do it").wait_for()
            await fits(page, f"everything {where}")
            field = chat.get_by_role("textbox", name="Your message")
            await field.fill("One\nTwo\nThree\nFour\nFive\nSix\nSeven\nEight")
            await fits(page, f"a long message {where}")
            await chat.get_by_role("button", name="Conversations and privacy").click()
            await chat.locator(".panel").wait_for()
            await fits(page, f"conversations {where}")


FITS = """() => {
  const wrong = [];
  const over = (e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".wide, .w-wide, .hidden");
  for (const each of document.querySelectorAll("body *")) if (over(each)) wrong.push(each.outerHTML.slice(0, 120));
  const inside = (name) => {
    const { top, bottom, height } = document.querySelector(name).getBoundingClientRect();
    if (top < -1 || bottom > innerHeight + 1 || height < 24) wrong.push(`${name} from ${top} to ${bottom}`);
  };
  for (const name of document.querySelector(".panel") ? [".panel .tool"] : [".header .tool", ".send:not([hidden])", ".composer textarea"]) inside(name);
  const seen = document.querySelector(document.querySelector(".panel") ? ".panel-body" : ".log").clientHeight;
  if (seen < innerHeight / 3.5) wrong.push(`of ${innerHeight} pixels, ${seen} are left to read in`);
  return wrong;
}"""


async def fits(page: Page, where: str) -> None:
    wrong = await page.frames[1].evaluate(FITS)
    assert not wrong, f"{where}: {wrong}"


STILL = "() => document.getAnimations().filter((each) => each.playState === 'running').map((each) => each.animationName ?? each.transitionProperty)"
EDGES = """() => {
  const seen = (each) => each.checkVisibility() && (each.matches("a, .thread-open, .w-press, .link, .w-more") || [each, each.closest(".field, label")].some((box) => {
    if (!box) return false;
    const style = getComputedStyle(box);
    return parseFloat(style.borderTopWidth) > 0 || style.outlineStyle !== "none" || box.querySelector("svg");
  }));
  return [...document.querySelectorAll("button, input:not([type=radio], [type=checkbox]), textarea, select")]
    .filter((each) => each.checkVisibility() && !seen(each)).map((each) => each.outerHTML.slice(0, 120));
}"""


async def test_nothing_moves_for_who_wants_it_still_and_few_colours_are_enough(browser: Browser, shop: Shop) -> None:
    async with profile(browser, reduced_motion="reduce", forced_colors="active") as context:
        page = await context.new_page()
        chat = await open_chat(page, shop.page("/still"))
        await chat.locator(".c-mic").wait_for()
        frame = page.frames[1]
        await say(chat, "A story")
        await expect(chat.locator("[data-role=assistant]")).to_contain_text("upon")
        assert await frame.evaluate(STILL) == []
        field = chat.get_by_role("textbox", name="Your message")
        await field.focus()
        outline = "each => getComputedStyle(each.closest('.field')).outlineStyle"
        assert await field.evaluate(outline) == "solid", "a shadow shows no focus where shadows are not drawn"
        await chat.get_by_role("button", name="Stop").click()
        await chat.get_by_role("button", name="Good answer").click()
        await expect(chat.get_by_role("button", name="Good answer")).to_have_css("border-top-width", "1px")
        await page.route("**/chatkit", streamed(RECORDED))
        await chat.get_by_role("button", name="New conversation").click()
        await say(chat, "Everything, please")
        await chat.get_by_role("button", name="Yes, do it").wait_for()
        assert await frame.evaluate(EDGES) == [], "what can be pressed has an edge or a drawing"
        assert await frame.evaluate(STILL) == []


@pytest.mark.parametrize("accent", ["#ffee00", "#808080"])
async def test_any_accent_can_be_read(browser: Browser, shop: Shop, accent: str) -> None:
    agent = await shop.tenant.agent(**CONFIG | {"theme": {"accent": accent}})
    key = await shop.tenant.domain_key(agent, shop.site.origin)
    async with profile(browser, viewport={"width": 420, "height": 6_000}, reduced_motion="reduce") as context:
        page = await context.new_page()
        axe = Look(page, ("light", "dark"))
        chat = await open_chat(page, shop.page("/accent", key=key))
        await axe.at(f"{accent}, around the frame", page.main_frame)
        await page.route("**/chatkit", streamed(RECORDED))
        await say(chat, "Everything, please")
        await chat.get_by_role("button", name="Yes, do it").wait_for()
        await axe.at(accent)
    assert not axe.found, "\n".join(axe.found)

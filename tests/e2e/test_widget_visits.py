"""What visitors do with answers: stop, judge, copy, retry; and what becomes of one whose server is cut off."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import Page, expect

from support.api import Tenant, new_tenant
from support.browser import complaints_of
from support.fake_openai import Reply, chat_text, fake_openai
from support.loopback import Received, plain
from support.running import Running, Site
from support.slow_model import WORDS, slow_model
from support.widget import SETTLED, open_chat, relay, say

pytestmark = pytest.mark.browser


@dataclass
class Shop:
    """A customer whose model answers `Answer 1`, `Answer 2`, ..."""

    tenant: Tenant
    site: Site
    key: str = ""
    asked: list[str] = field(default_factory=list)

    def page(self, path: str, *, server: str = "", key: str = "") -> str:
        tag = f'<script async src="{server or self.tenant.url}/embed.js" data-domain-key="{key or self.key}"></script>'
        self.site.pages["/favicon.ico"] = "-"
        return self.site.paste(path, tag)

    def answer(self, request: Received) -> Reply:
        if request.path.endswith("/audio/transcriptions"):
            return [plain(json.dumps({"text": f"{len(request.body)} bytes heard"}).encode(), headers=JSON)]
        self.asked.append(json.loads(request.body)["messages"][-1]["content"])
        return chat_text(f"Answer **{len(self.asked)}**\n\n", "```\ncode\n```")


JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with new_tenant(stonechat, "Visited shop") as tenant:
        shop = Shop(tenant, site)
        async with fake_openai(choose=shop.answer) as model:
            provider = {"name": "fake", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
            await tenant.call("POST", "/model-providers", 201, json=provider)
            agent = await tenant.agent(
                name="Visited helper",
                model="fake/lamp",
                knowledge={"enabled": False},
                attachments={"enabled": True, "max_bytes": 200_000, "max_files": 3},
                dictation={"enabled": True, "model": "fake/ears"},
            )
            shop.key = await tenant.domain_key(agent, site.origin)
            yield shop


async def slow_key(shop: Shop, url: str, name: str, *origins: str) -> str:
    provider = {"name": name, "kind": "openai_compatible", "base_url": url, "api_key": "sk-test"}
    await shop.tenant.call("POST", "/model-providers", 201, json=provider)
    agent = await shop.tenant.agent(name="Slow helper", model=f"{name}/slow", knowledge={"enabled": False})
    return await shop.tenant.domain_key(agent, shop.site.origin, *origins)


async def copied(page: Page, text: str) -> None:
    """Wait until the browser has put it on the clipboard, where something else may have been."""
    async with asyncio.timeout(15):
        while (found := await page.evaluate("navigator.clipboard.readText()")) != text:
            assert not found.startswith("Answer"), found
            await asyncio.sleep(0.02)


@pytest.mark.chromium_only
async def test_an_answer_is_copied_judged_with_a_reason_and_written_again(page: Page, shop: Shop) -> None:
    complaints = complaints_of(page)
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    chat = await open_chat(page, shop.page("/judged"))
    await say(chat, "A lamp?", answers=1)
    answer = chat.locator(SETTLED)
    shop.asked[:] = ["A lamp?"]

    copy = answer.get_by_role("button", name="Copy").last
    await copy.click()
    await copied(page, "Answer **1**\n\n```\ncode\n```")

    await answer.get_by_role("button", name="Good answer").click()
    await expect(answer.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "true")
    await expect(answer.get_by_text("Thank you. That helps.")).to_be_visible()
    bad = answer.get_by_role("button", name="Bad answer")
    await bad.click()
    why = answer.get_by_role("textbox", name="What was wrong with it?")
    await expect(why).to_be_focused()
    await why.fill("It was about pears.")
    await answer.get_by_role("button", name="Send").click()
    await expect(bad).to_be_focused()
    await expect(bad).to_have_attribute("aria-pressed", "true")
    await expect(answer.get_by_role("button", name="Good answer")).to_have_attribute("aria-pressed", "false")
    conversations = (await shop.tenant.call("GET", "/conversations"))["data"]
    [judged] = (await shop.tenant.call("GET", f"/conversations/{conversations[0]['id']}/feedback"))["data"]
    assert (judged["kind"], judged["reason"]) == ("negative", "It was about pears.")

    await answer.get_by_role("button", name="Try again").click()
    await expect(answer).to_contain_text("Answer 2")
    await expect(chat.locator("[data-role=user]")).to_have_count(1)
    await expect(answer.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")
    await say(chat, "And now?", answers=2)
    again = chat.get_by_role("button", name="Try again")
    await expect(again).to_have_count(1)
    assert complaints == []


async def test_who_may_not_judge_sees_no_thumbs(page: Page, shop: Shop) -> None:
    agent = await shop.tenant.agent(name="Unjudged", model="fake/lamp", feedback={"enabled": False})
    key = await shop.tenant.domain_key(agent, shop.site.origin)
    chat = await open_chat(page, shop.page("/unjudged", key=key))
    await say(chat, "A lamp?", answers=1)
    await expect(chat.locator(SETTLED).get_by_role("button", name="Copy").last).to_be_visible()
    await expect(chat.get_by_role("button", name="Bad answer")).to_have_count(0)


async def test_an_answer_that_failed_is_tried_again_and_not_asked_twice(page: Page, shop: Shop) -> None:
    chat = await open_chat(page, shop.page("/failed"))
    shop.asked.clear()
    await page.route("**/chatkit", lambda route: route.abort())
    await say(chat, "Are you there?")
    await expect(chat.get_by_role("alert")).to_contain_text("could not be sent")
    await expect(chat.get_by_text("Not sent")).to_be_visible()
    await page.unroute("**/chatkit")
    await chat.get_by_role("alert").get_by_role("button", name="Try again").click()
    await expect(chat.locator(SETTLED)).to_contain_text("Answer 1")
    await expect(chat.get_by_role("alert")).to_have_count(0)
    await expect(chat.locator("[data-role=user]")).to_have_count(1)
    assert shop.asked == ["Are you there?"]


async def test_an_answer_is_stopped_and_the_conversation_goes_on(page: Page, shop: Shop) -> None:
    with slow_model(pace=0.02) as model:
        chat = await open_chat(page, shop.page("/stopped", key=await slow_key(shop, model.url, "stopped")))
        await say(chat, "A long story")
        await expect(chat.locator("[data-role=assistant]")).to_contain_text("word9 ")
        await chat.get_by_role("button", name="Stop").click()
        await expect(chat.get_by_text("Stopped", exact=True)).to_be_visible()
        await expect(chat.get_by_role("button", name="Send", exact=True)).to_be_visible()
        said = await chat.locator("[data-role=assistant] .prose").inner_text()
        assert said.split() == WORDS[: len(said.split())]
        assert model.hung_up.wait(10), "the model goes on writing for nobody"
        await page.reload()
        chat = await open_chat(page)
        await expect(chat.locator("[data-role=assistant] .prose")).to_have_text(said)


async def test_an_answer_goes_on_where_it_was_after_the_server_was_cut_off(page: Page, shop: Shop) -> None:
    async with relay(shop.tenant.url) as way:
        with slow_model(pace=0.006) as model:
            key = await slow_key(shop, model.url, "cut", way.url)
            chat = await open_chat(page, shop.page("/cut-off", server=way.url, key=key))
            await say(chat, "A long story")
            answer = chat.locator("[data-role=assistant]")
            await expect(answer).to_contain_text("word20 ")
            way.cut()
            await expect(chat.get_by_text("Connection lost. Reconnecting")).to_be_visible()
            way.is_cut = False
            await expect(answer).to_have_attribute("data-status", "done", timeout=20_000)
            await expect(answer.locator(".prose")).to_have_text(" ".join(WORDS))
            await expect(answer).to_have_count(1)
            await expect(chat.get_by_text("Reconnecting")).to_have_count(0)


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNg+M8AAAICAQB7CYF4AAAAAElFTkSuQmCC")
BRING = """async ([kind, name, type, bytes]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(bytes), (each) => each.charCodeAt(0))], name, { type }));
  const field = document.querySelector("textarea");
  if (kind === "paste") return field.dispatchEvent(new ClipboardEvent(kind, { clipboardData: transfer, bubbles: true, cancelable: true }));
  const dropped = (step) => document.body.dispatchEvent(new DragEvent(step, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  dropped("dragenter");
  const isOffered = !document.querySelector(".c-drop").hidden;
  dropped("dragover");
  dropped("drop");
  return isOffered && document.querySelector(".c-drop").hidden;
}"""


async def test_files_are_pasted_and_dropped(page: Page, shop: Shop) -> None:
    chat = await open_chat(page, shop.page("/dropped"))
    await chat.get_by_role("button", name="Attach files").wait_for()
    bytes_ = base64.b64encode(PNG).decode()
    await page.frames[1].evaluate(BRING, ["paste", "pasted.png", "image/png", bytes_])
    await expect(chat.get_by_role("button", name="Remove pasted.png")).to_be_visible()
    assert await page.frames[1].evaluate(
        BRING, ["drop", "dropped.txt", "text/plain", base64.b64encode(b"A note").decode()]
    )
    await expect(chat.get_by_role("button", name="Remove dropped.txt")).to_be_visible()
    await expect(chat.get_by_role("progressbar")).to_have_count(0)
    await say(chat, "Look", answers=1)
    await expect(chat.locator("[data-role=user]").get_by_role("img", name="pasted.png")).to_be_visible()
    await expect(chat.locator("[data-role=user]").get_by_text("dropped.txt")).to_be_visible()


@pytest.mark.chromium_only
async def test_the_browsers_own_microphone_is_heard(page: Page, shop: Shop) -> None:
    """Chromium's made-up device beeps; what is recorded reaches the transcriber."""
    await page.context.grant_permissions(["microphone"])
    chat = await open_chat(page, shop.page("/heard"))
    await chat.get_by_role("button", name="Dictate").click()
    await expect(chat.get_by_role("button", name="Stop recording")).to_be_visible()
    await page.wait_for_timeout(300)
    await chat.get_by_role("button", name="Stop recording").click()
    field = chat.get_by_role("textbox", name="Your message")
    await expect(field).to_have_value(re.compile(r"\d{3,} bytes heard"))


async def test_what_is_left_of_a_limit_and_when_it_is_new_is_said(page: Page, shop: Shop) -> None:
    limits = await shop.tenant.call("GET", "/limits")
    few = limits | {"visitor": limits["visitor"] | {"messages_per_minute": 2}}
    await shop.tenant.call("PUT", "/limits", json=few)
    try:
        chat = await open_chat(page, shop.page("/limited"))
        await say(chat, "One", answers=1)
        await expect(chat.locator(".banner")).to_have_text(re.compile(r"^1 more message in the next \d+ seconds\.$"))
        await say(chat, "Two", answers=2)
        await expect(chat.locator(".banner")).to_contain_text("You can write again in")
        await say(chat, "Three")
        refused = chat.get_by_role("alert")
        await expect(refused).to_contain_text("Try again in")
        await expect(refused.get_by_role("button", name="Try again")).to_be_disabled()
    finally:
        await shop.tenant.call("PUT", "/limits", json=limits)

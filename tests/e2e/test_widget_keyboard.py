"""A whole conversation by keyboard alone, what it sounds like, and whom the browser talks to meanwhile."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.async_api import FrameLocator, Locator, Page, expect

from support.api import Tenant, new_tenant
from support.browser import complaints_of
from support.fake_openai import HANG, Reply, chat_call, chat_text, fake_openai
from support.loopback import Received
from support.running import ROOT, Running, Site
from support.slow_model import slow_model
from support.widget import FRAME, LAUNCHER, SETTLED, frame_of, open_chat, say, streamed

pytestmark = pytest.mark.browser

RECORDED: list[dict[str, Any]] = json.loads((ROOT / "widget/test/fixtures/every-item.json").read_text("utf-8"))
TRANSCRIPTS = ROOT / "tests" / "e2e" / "transcripts"
CARD = {
    "type": "Card",
    "children": [
        {"type": "Title", "value": "Order {order}"},
        {
            "type": "Form",
            "onSubmitAction": {"type": "order.track", "handler": "client", "payload": {"order": "{order}"}},
            "children": [
                {"type": "Label", "value": "Postcode", "fieldName": "postcode"},
                {"type": "Input", "name": "postcode", "required": True},
                {"type": "Button", "label": "Track it", "submit": True},
            ],
        },
    ],
}
CONFIG: dict[str, Any] = {
    "name": "Lamp helper",
    "model": "fake/lamp",
    "knowledge": {"enabled": False},
    "attachments": {"enabled": True, "max_bytes": 10_000, "max_files": 2},
    "dictation": {"enabled": True, "model": "fake/ears"},
    "prompts": [{"label": "Which lamp?", "prompt": "Which lamp is best?"}],
    "disclaimer": "Answers may be wrong.",
    "tools": [
        {
            "kind": "widget",
            "name": "show_order",
            "description": "Shows an order.",
            "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]},
            "template": CARD,
        }
    ],
}


def answer(request: Received) -> Reply:
    said = json.loads(request.body)["messages"][-1]
    text = json.dumps(said["content"])
    if said["role"] == "tool":
        return chat_text("There it is.")
    if "story" in text:
        return [*chat_text("Once **upon** a time", "never")[:-3], HANG]
    return (
        chat_call("show_order", '{"order": 7}') if "order" in text else chat_text("Gladly: ", "**lamps** are upstairs.")
    )


@dataclass
class Shop:
    tenant: Tenant
    site: Site
    key: str

    def page(self, path: str, more: str = "", *, key: str = "") -> str:
        self.site.pages["/favicon.ico"] = "-"
        tag = f'<script async src="{self.tenant.url}/embed.js" data-domain-key="{key or self.key}" {more}></script>'
        return self.site.paste(path, tag)


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with fake_openai(choose=answer) as model, new_tenant(stonechat, "Keyboard shop") as tenant:
        provider = {"name": "fake", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
        yield Shop(tenant, site, await tenant.domain_key(await tenant.agent(**CONFIG), site.origin))


FOCUSED = """() => {
  let at = document.activeElement;
  while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement;
  const ring = (node) => { const s = getComputedStyle(node); return s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0; };
  const box = at.closest(".field");
  const name = at.ariaLabel ?? at.labels?.[0]?.textContent ?? at.textContent;
  return [name.trim(), ring(at) || Boolean(box && getComputedStyle(box).boxShadow.includes("3px"))];
}"""


async def focused(page: Page) -> str:
    """The name of what has the focus, which must be seen to have it."""
    main = await page.evaluate(FOCUSED)
    inside = await page.evaluate(
        "document.activeElement?.matches('[data-stonechat]') && document.activeElement.shadowRoot.activeElement?.localName === 'iframe'"
    )
    name, seen = await page.frames[1].evaluate(FOCUSED) if inside else main
    assert seen, f"nothing shows that “{name}” has the focus"
    return str(name)


async def go_to(page: Page, name: str, *, back: bool = False, at_most: int = 30) -> None:
    """Press Tab until what is called so has the focus."""
    passed = []
    for _ in range(at_most):
        await page.keyboard.press("Shift+Tab" if back else "Tab")
        passed.append(await focused(page))
        if re.fullmatch(name, passed[-1]):
            return
    raise AssertionError(f"“{name}” is not reached: {passed}")


async def write(page: Page, text: str) -> None:
    await page.keyboard.type(text)
    await page.keyboard.press("Enter")


async def test_a_keyboard_is_enough_and_nobody_else_is_asked(page: Page, shop: Shop) -> None:
    complaints, abroad = complaints_of(page), []
    await page.emulate_media(reduced_motion="reduce")  # what shows the focus does not fade in
    ours = (shop.site.origin, shop.tenant.url, "blob:", "data:")
    page.on("request", lambda request: None if request.url.startswith(ours) else abroad.append(request.url))
    await page.goto(shop.page("/keyboard"))
    chat = page.frame_locator(FRAME)
    field, answers = chat.get_by_role("textbox", name="Your message"), chat.locator(SETTLED)
    await go_to(page, "Open chat|Ask a question")
    await page.keyboard.press("Enter")
    await expect(field).to_be_focused()

    await write(page, "Where are the lamps?")
    await expect(answers).to_have_count(1)
    await expect(field).to_be_focused()
    await go_to(page, "Copy: .*", back=True)
    await page.keyboard.press("Enter")
    await go_to(page, "Bad answer: .*")
    await page.keyboard.press("Enter")
    await expect(chat.get_by_role("textbox", name="What was wrong with it?")).to_be_focused()
    await write(page, "Which floor?")
    await expect(chat.locator(".state").get_by_text("Thank you.")).to_be_visible()
    assert (await focused(page)).startswith("Bad answer: ")
    await go_to(page, "Try again")
    await page.keyboard.press("Enter")
    await expect(chat.locator("[data-role=log], [role=log]")).to_be_focused()
    await expect(answers.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "false")
    await go_to(page, "Your message")

    await write(page, "A story")
    await expect(chat.get_by_text("upon")).to_be_visible()
    await go_to(page, "Stop")
    await page.keyboard.press("Enter")
    await expect(chat.get_by_text("Stopped", exact=True)).to_be_visible()
    await expect(field).to_be_focused()

    await go_to(page, "Attach files")
    async with page.expect_file_chooser() as chooser:
        await page.keyboard.press("Enter")
    await (await chooser.value).set_files({"name": "note.txt", "mimeType": "text/plain", "buffer": b"A note"})
    await expect(chat.get_by_role("progressbar")).to_have_count(0)
    await expect(field).to_be_focused()
    await write(page, "Show my order")
    card = chat.get_by_role("textbox", name="Postcode")
    await expect(card).to_be_visible()
    await expect(chat.get_by_role("button", name="Send", exact=True)).to_be_visible()
    await go_to(page, "Postcode", back=True)
    await write(page, "3511 AB")

    await a_source_and_the_menu(page, chat, field)
    await page.keyboard.press("Escape")
    await expect(page.locator(LAUNCHER)).to_be_focused()
    await focused(page)
    assert complaints == []
    assert abroad == []


async def a_source_and_the_menu(page: Page, chat: FrameLocator, field: Locator) -> None:
    await page.route("**/chatkit/sources*", lambda route: route.fulfill(json={"text": "Within 45 days."}))
    await page.route("**/chatkit", streamed(CITED))
    await go_to(page, "Your message")
    await write(page, "How long?")
    source = chat.get_by_role("button", name="Returns")
    await expect(source).to_be_visible()
    await page.unroute("**/chatkit")
    await go_to(page, ".*Returns.*", back=True)
    await page.keyboard.press("Enter")
    await expect(chat.get_by_text("Within 45 days.", exact=True)).to_be_visible()
    assert await focused(page) == "Back to the conversation"
    await page.keyboard.press("Escape")
    await expect(source).to_be_focused()

    await go_to(page, "Conversations and privacy", back=True, at_most=60)
    await page.keyboard.press("Enter")
    panel = chat.get_by_role("dialog", name="Your conversations")
    await expect(panel.locator(".thread")).to_have_count(1)
    await go_to(page, "Rename: .*")
    await page.keyboard.press("Enter")
    await page.keyboard.type("Lamps")
    await page.keyboard.press("Enter")
    await expect(panel.get_by_role("button", name="Rename: Lamps")).to_be_visible()
    await focused(page)
    await go_to(page, "Delete: Lamps")
    await page.keyboard.press("Enter")
    assert await focused(page) == "Cancel"
    await go_to(page, "Delete")
    await page.keyboard.press("Enter")
    await expect(panel.get_by_text("There are no conversations yet")).to_be_visible()
    await focused(page)
    await page.keyboard.press("Escape")
    await expect(panel).to_have_count(0)
    assert await focused(page) == "Conversations and privacy"
    await go_to(page, "Your message", at_most=60)
    await expect(field).to_be_focused()


def message(item_id: str, text: str, *sources: dict[str, Any]) -> dict[str, Any]:
    """The end of an answer that cites `sources` where it ends."""
    notes = [{"type": "annotation", "index": len(text) - 1, "source": source} for source in sources]
    content = [{"type": "output_text", "text": text, "annotations": notes}]
    base = {"id": item_id, "thread_id": "thr_1", "created_at": "2026-11-22T10:00:00Z", "type": "assistant_message"}
    return {"type": "thread.item.done", "item": base | {"content": content}}


def asked(text: str) -> list[dict[str, Any]]:
    """The beginning of a conversation with this question."""
    base = {"id": "msg_q", "thread_id": "thr_1", "created_at": "2026-11-22T10:00:00Z", "type": "user_message"}
    said = {"content": [{"type": "input_text", "text": text}], "attachments": [], "inference_options": {}}
    return [
        {"type": "thread.created", "thread": RECORDED[0]["thread"]},
        {"type": "thread.item.done", "item": base | said},
    ]


CITED = [
    *asked("How long?"),
    message(
        "msg_c",
        "You may return it within 45 days. Refunds take five.",
        {"type": "file", "filename": "returns.pdf", "title": "Returns"},
        {"type": "url", "url": "https://shop.example/refunds", "title": "Refunds", "attribution": "shop.example"},
    ),
]


async def test_what_a_screen_reader_meets(page: Page, shop: Shop) -> None:
    """The transcripts beside this file were read by a person; `STONECHAT_UPDATE_TRANSCRIPTS=1` writes them anew."""
    await page.goto(shop.page("/read"))
    await compare("launcher", page.locator("body"))
    chat = await open_chat(page)
    body = chat.locator("body")
    await chat.get_by_role("button", name="Dictate").wait_for()
    await compare("start", body)
    await page.route("**/chatkit", streamed(CITED))
    await say(chat, "How long?", answers=1)
    await compare("answered", body)
    await chat.get_by_role("button", name="Bad answer").wait_for()
    await page.unroute("**/chatkit")
    await page.route("**/chatkit", lambda route: route.abort())
    await say(chat, "Hello?")
    await chat.get_by_role("alert").wait_for()
    await compare("not-sent", body)
    await page.unroute("**/chatkit")
    await chat.get_by_role("button", name="New conversation").click()
    await say(chat, "Where are the lamps?", answers=1)
    await chat.get_by_role("button", name="Conversations and privacy").click()
    await chat.locator(".thread").wait_for()
    await compare("conversations", body)
    await page.keyboard.press("Escape")
    await page.route("**/chatkit", streamed(RECORDED))
    await chat.get_by_role("button", name="New conversation").click()
    await say(chat, "Everything, please")
    await chat.get_by_role("button", name="Yes, do it").wait_for()
    await expect(chat.locator(".later")).to_have_count(0)
    await chat.get_by_role("log").evaluate("each => each.scrollTo(0, each.scrollHeight)")
    await expect(chat.get_by_role("button", name="Jump to the latest message")).to_have_count(0)
    await compare("everything", body)


async def compare(name: str, place: Locator) -> None:
    """The accessibility tree against its transcript; dates are left out."""
    read = re.sub(r"\w{3} \d{1,2}, \d{4}", "DATE", await place.aria_snapshot()) + "\n"
    file = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("STONECHAT_UPDATE_TRANSCRIPTS") == "1":
        file.write_text(read, encoding="utf-8")
    assert read == file.read_text(encoding="utf-8"), f"what a screen reader meets in “{name}” has changed"


LISTEN = """() => {
  window.announced = [];
  const live = (node) => (node.nodeType === 1 ? node : node.parentElement)?.closest("[role=status], [role=alert], [aria-live]");
  new MutationObserver((changes) => {
    for (const place of new Set(changes.map(({ target }) => live(target)))) {
      if (!place || place.closest("[aria-live=off]") === place) continue;
      announced.push(place.textContent.trim());
    }
  }).observe(document.body, { subtree: true, childList: true, characterData: true });
}"""


async def test_a_long_answer_is_announced_once_and_whole(page: Page, shop: Shop) -> None:
    with slow_model(pace=0.004, words=[f"word{number}" for number in range(200)]) as model:
        provider = {"name": "slow", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await shop.tenant.call("POST", "/model-providers", 201, json=provider)
        agent = await shop.tenant.agent(name="Slow helper", model="slow/slow", knowledge={"enabled": False})
        chat = await open_chat(page, shop.page("/loud", key=await shop.tenant.domain_key(agent, shop.site.origin)))
        frame = await frame_of(page)
        await frame.evaluate(LISTEN)
        await say(chat, "A long story")
        log = chat.get_by_role("log")
        await expect(log).to_have_attribute("aria-busy", "true")
        await expect(log).to_have_attribute("aria-live", "off")
        await expect(chat.locator(SETTLED)).to_contain_text("word199")
        await expect(log).to_have_attribute("aria-busy", "false")
        announced = [text for text in await frame.evaluate("announced") if text]
    assert len(announced) == 1
    assert announced[0].startswith("Slow helper answered: word0 word1 ")
    assert announced[0].endswith("word199")

"""The widget in a real browser: one of everything that the protocol has, and what visitors do besides writing."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from chatkit.types import ThreadItemUpdate, ThreadStreamEvent
from PIL import Image
from playwright.async_api import Browser, FilePayload, FrameLocator, Page, Request, Route, expect
from pydantic import TypeAdapter

from support.api import Tenant, new_tenant
from support.browser import complaints_of, profile
from support.fake_openai import FakeOpenAI, Reply, chat_call, chat_text, fake_openai
from support.loopback import Received, plain
from support.running import ROOT, Running, Site

pytestmark = pytest.mark.browser

AXE = ROOT / "widget" / "node_modules" / "axe-core" / "axe.min.js"
RECORDED: list[dict[str, Any]] = json.loads((ROOT / "widget/test/fixtures/every-item.json").read_text("utf-8"))
SETTLED = "[data-role=assistant][data-status=done]"
HOST_PAGE = """<script>
window.heard = [];
window.Stonechat = function () { (Stonechat.q = Stonechat.q || []).push(arguments) };
Stonechat('on', 'effect', (effect) => heard.push(effect));
Stonechat('on', 'action', (action) => heard.push(action));
Stonechat('on', 'tool', async ({ name, arguments: given }) => {
  if (name !== 'read_basket') throw new Error('no such tool');
  return { lines: ['3 lamps'], asked: given };
});
</script>"""
TRACKED = {
    "type": "Card",
    "children": [{"type": "Text", "value": "It is in Utrecht."}],
}
TOOLS: list[dict[str, Any]] = [
    {
        "kind": "client",
        "name": "read_basket",
        "description": "Reads the basket.",
        "parameters": {"type": "object", "properties": {"full": {"type": "boolean"}}},
    },
    {
        "kind": "widget",
        "name": "show_order",
        "description": "Shows an order.",
        "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]},
        "template": {
            "type": "Card",
            "children": [
                {"type": "Title", "value": "Order {order}"},
                {
                    "type": "Form",
                    "onSubmitAction": {"type": "order.track", "payload": {"order": "{order}"}},
                    "children": [
                        {"type": "Label", "value": "Postcode", "fieldName": "postcode"},
                        {"type": "Input", "name": "postcode", "required": True},
                        {"type": "Button", "label": "Track it", "submit": True},
                    ],
                },
            ],
        },
        "copy_text": "Order {order}",
        "actions": {"order.track": "track"},
    },
]


def shop_tools(url: str) -> list[dict[str, Any]]:
    """The tools, of which some ask the shop at `url`."""
    order = {"order": {"type": "integer"}}
    track = {"type": "object", "properties": order | {"postcode": {"type": "string"}}}
    web = {"kind": "http", "description": "Asks the shop."}
    return [
        *TOOLS,
        web | {"name": "track", "url": f"{url}/shop/track", "parameters": track, "offered_as": "Track an order"},
        web
        | {
            "name": "cancel_order",
            "method": "POST",
            "url": f"{url}/shop/cancel",
            "parameters": {"type": "object", "properties": order},
        },
    ]


def answer(request: Received) -> Reply:
    """A model, a transcriber and a shop, all on one host."""
    if request.path.endswith("/audio/transcriptions"):
        return [plain(json.dumps({"text": "Where is my lamp?"}).encode(), headers={"Content-Type": "application/json"})]
    if "/shop/track" in request.path:
        return [plain(json.dumps({"widget": TRACKED}).encode(), headers={"Content-Type": "application/json"})]
    if "/shop/" in request.path:
        return [plain(b'{"cancelled": 7}', headers={"Content-Type": "application/json"})]
    messages = json.loads(request.body)["messages"]
    last, said = messages[-1], json.dumps(messages[-1])
    if last["role"] == "tool":
        return chat_text(f"The tool said {last['content']}"[:300])
    calls = {
        "basket": ("read_basket", '{"full": true}'),
        "show": ("show_order", '{"order": 7}'),
        "cancel": ("cancel_order", '{"order": 7}'),
    }
    asked = next((call for word, call in calls.items() if word in said), None)
    return chat_call(*asked) if asked else chat_text("Gladly: ", "**lamps** are on the third floor.")


@dataclass
class Shop:
    """A customer whose assistant can do all that there is."""

    tenant: Tenant
    model: FakeOpenAI
    snippet: str

    def questions(self, path: str) -> list[Received]:
        """What the host was asked at this path."""
        return [request for request in self.model.requests if path in request.path]


@pytest.fixture(scope="module")
async def shop(stonechat: Running, site: Site) -> AsyncIterator[Shop]:
    async with fake_openai(choose=answer) as model, new_tenant(stonechat, "Lamp shop") as tenant:
        provider = {"name": "fake", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
        agent = await tenant.agent(
            name="Lamp helper",
            model="fake/lamp",
            knowledge={"enabled": False},
            tools=shop_tools(model.server.url),
            attachments={"enabled": True, "max_bytes": 200_000, "max_files": 2},
            dictation={"enabled": True, "model": "fake/ears"},
            model_choices=[{"id": "scripted", "label": "Quick"}],
        )
        key = await tenant.domain_key(agent, site.origin)
        script = f'{HOST_PAGE}<script async src="{stonechat.url}/embed.js" data-domain-key="{key}"></script>'
        yield Shop(tenant, model, script)


async def open_chat(page: Page, shop: Shop, site: Site, path: str) -> FrameLocator:
    site.pages["/favicon.ico"] = "-"
    await page.goto(site.paste(path, shop.snippet))
    await page.locator("[data-stonechat] button").first.click()
    return page.frame_locator("[data-stonechat] iframe")


async def say(chat: FrameLocator, text: str) -> None:
    await chat.get_by_role("textbox", name="Your message").fill(text)
    await chat.get_by_role("button", name="Send", exact=True).click()


def test_the_recorded_events_are_the_protocols_own_and_all_of_them() -> None:
    events: TypeAdapter[Any] = TypeAdapter(ThreadStreamEvent)
    for event in RECORDED:
        events.validate_python(event)
    types = {event["type"] for event in RECORDED}
    schema = json.dumps(events.json_schema())
    assert {name for name in types if f'"{name}"' not in schema} == set()
    assert types >= {"thread.created", "thread.updated", "stream_options", "progress_update", "client_effect", "error"}
    updates = {event["update"]["type"] for event in RECORDED if "update" in event}
    assert updates == {update.model_fields["type"].default for update in ThreadItemUpdate.__args__}
    items = {event["item"]["type"] for event in RECORDED if "item" in event}
    hidden = {"hidden_context_item", "sdk_hidden_context"}
    assert items == {part["const"] for part in _items(events.json_schema())} - hidden


def _items(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The types of items that the schema knows."""
    kinds = [
        kind for name, kind in schema["$defs"].items() if name.endswith("Item") and "thread_id" in kind["properties"]
    ]
    return [kind["properties"]["type"] for kind in kinds]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_one_of_everything_is_drawn_and_clean(browser: Browser, shop: Shop, site: Site, scheme: str) -> None:
    async with profile(browser, viewport={"width": 360, "height": 6_000}, color_scheme=scheme) as context:
        page = await context.new_page()
        complaints, abroad = complaints_of(page, answers=(403,)), []
        ours = (site.origin, shop.tenant.url, "data:")

        def watch(request: Request) -> None:
            if not request.url.startswith(ours):
                abroad.append(request.url)

        async def recorded(route: Route) -> None:
            if (route.request.post_data_json or {}).get("type") != "threads.create":
                return await route.continue_()
            body = "".join(f"id: run_1:{at}\ndata: {json.dumps(event)}\n\n" for at, event in enumerate(RECORDED, 1))
            headers = {"Content-Type": "text/event-stream", "Stonechat-Run": "run_1"}
            return await route.fulfill(status=200, headers=headers, body=body)

        page.on("request", watch)
        await page.route("**/chatkit", recorded)
        chat = await open_chat(page, shop, site, "/everything")
        await say(chat, "Everything, please")

        await expect(chat.get_by_role("button", name="Yes, do it")).to_be_visible()
        for role, name in (
            ("heading", "On its way"), ("button", "Track it"), ("textbox", "Your name"), ("combobox", "How"),
            ("radiogroup", "Refund"), ("checkbox", "Keep me informed"), ("button", "Order 1"), ("table", ""),
            ("img", "Chart: Sent, Sent back, Mean"), ("img", "Generated image"), ("radio", "M"), ("checkbox", "Green"),
            ("button", "Copy"), ("link", "a link"), ("alert", ""), ("list", "Sources"),
        ):  # fmt: skip
            drawn = chat.get_by_role(role, name=name) if name else chat.get_by_role(role)  # type: ignore[arg-type]
            await expect(drawn.first).to_be_attached()
        for words in (
            "Your parcel left the warehouse.", "A map of the route", "A part from the future", "Thought for 12 seconds",
            "invoice-2026-11.pdf", "@order 7", "Most parcels arrive two days later.", "Warehouse asked", "3 left in",
            "$m = 2\\,kg$", "A person will answer", "Answers take a little longer", "The warehouse does not answer.",
        ):  # fmt: skip
            await expect(chat.get_by_text(words).first).to_be_attached()
        await expect(chat.get_by_text("This is withdrawn.")).to_have_count(0)
        await chat.get_by_role("button", name="Show on the page").click()
        frame = page.frames[1]
        wide = "e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.wide, .w-wide, .hidden')"
        assert (
            await frame.evaluate(f"[...document.querySelectorAll('body *')].filter({wide}).map(e => e.className)") == []
        )
        await frame.evaluate(AXE.read_text("utf-8"))
        found = await frame.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        assert complaints == []
        assert abroad == [], "nothing is fetched from anybody else"
        heard = await page.evaluate("heard")
        assert {"name": "confetti", "data": {"n": 1}} in heard
        assert {"name": "page.show", "payload": {"id": 7}, "item": "wdg_1"} in heard


async def test_the_page_answers_a_tool_a_card_is_pressed_and_a_change_is_approved(
    page: Page, shop: Shop, site: Site
) -> None:
    complaints = complaints_of(page)
    chat = await open_chat(page, shop, site, "/tools")
    await say(chat, "What is in my basket?")
    await expect(chat.locator(SETTLED)).to_contain_text("3 lamps")
    await expect(chat.get_by_text("Asking this page")).to_be_hidden()

    await say(chat, "show my order")
    postcode = chat.get_by_role("textbox", name="Postcode")
    await chat.get_by_role("button", name="Track it").click()
    assert shop.questions("/shop/track") == [], "what is required is asked for first"
    await postcode.fill("3511 AB")
    await postcode.press("Enter")
    await expect(chat.get_by_text("It is in Utrecht.")).to_be_visible()
    [tracked] = shop.questions("/shop/track")
    assert "order=7" in tracked.path
    assert "postcode=3511" in tracked.path

    await say(chat, "Please cancel it")
    await expect(chat.get_by_text("May I do this?")).to_be_visible()
    assert shop.questions("/shop/cancel") == []
    await chat.get_by_role("button", name="Yes, do it").press("Enter")
    await expect(chat.get_by_text("Yes, do it")).to_be_visible()
    await expect(chat.locator(SETTLED).last).to_be_visible()
    await expect(chat.get_by_role("button", name="Stop")).to_be_hidden()
    assert len(shop.questions("/shop/cancel")) == 1

    await page.reload()
    await page.locator("[data-stonechat] button").first.click()
    await expect(chat.get_by_text("It is in Utrecht.")).to_be_visible()
    await expect(chat.get_by_text("Yes, do it")).to_be_visible()
    assert complaints == []


async def test_a_page_without_the_tool_says_so_and_the_conversation_goes_on(page: Page, shop: Shop, site: Site) -> None:
    site.pages["/favicon.ico"] = "-"
    await page.goto(site.paste("/silent", shop.snippet.replace("'tool'", "'other'")))
    await page.locator("[data-stonechat] button").first.click()
    chat = page.frame_locator("[data-stonechat] iframe")
    await say(chat, "What is in my basket?")
    await expect(chat.locator(SETTLED)).to_contain_text("no handler")


async def test_files_a_quotation_and_a_model_go_with_a_message(page: Page, shop: Shop, site: Site) -> None:
    complaints = complaints_of(page)
    chat = await open_chat(page, shop, site, "/files")
    drawn = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(drawn, "PNG")
    picture: FilePayload = {"name": "lamp.png", "mimeType": "image/png", "buffer": drawn.getvalue()}
    note: FilePayload = {"name": "note.txt", "mimeType": "text/plain", "buffer": b"The lamp flickers."}
    huge: FilePayload = {"name": "huge.txt", "mimeType": "text/plain", "buffer": b"x" * 200_001}
    files = chat.locator("input[type=file]")
    await chat.get_by_role("button", name="Attach files").wait_for()
    await files.set_input_files([huge])
    await expect(chat.get_by_text("huge.txt is too large")).to_be_visible()
    await files.set_input_files([picture, note])
    await expect(chat.get_by_role("progressbar")).to_have_count(0)
    await files.set_input_files([note])
    await expect(chat.get_by_text("at most 2 files")).to_be_visible()
    await chat.get_by_role("button", name="Remove note.txt").click()
    await expect(chat.get_by_role("button", name="Remove note.txt")).to_have_count(0)
    await say(chat, "Which lamp is this?")
    sent = chat.locator("[data-role=user]").get_by_role("img", name="lamp.png")
    await expect(sent).to_be_visible()
    await expect(chat.locator(SETTLED)).to_contain_text("third floor")
    assert await sent.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 64

    await chat.locator(SETTLED).get_by_text("lamps").select_text()
    await chat.get_by_role("button", name="Quote in your message").click()
    await chat.get_by_role("combobox", name="Choose a model").select_option("Quick")
    await say(chat, "And these?")
    await expect(chat.locator("[data-role=user]").last.locator(".quoted")).to_have_text("lamps")
    await expect(chat.locator(SETTLED)).to_have_count(2)
    conversations = (await shop.tenant.call("GET", "/conversations"))["data"]
    items = (await shop.tenant.call("GET", f"/conversations/{conversations[0]['id']}"))["items"]
    messages = [item for item in items if item["type"] == "user_message"]
    assert [len(message["attachments"]) for message in messages] == [1, 0]
    assert messages[1]["quoted_text"] == "lamps"
    assert messages[1]["inference_options"]["model"] == "scripted"
    assert complaints == []


REFUSED_MICROPHONE = """void (navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException('Permission denied', 'NotAllowedError');
})"""
MICROPHONE = """void (navigator.mediaDevices.getUserMedia = async () => {
  const context = new AudioContext();
  const end = context.createMediaStreamDestination();
  const tone = context.createOscillator();
  tone.connect(end);
  tone.start();
  return end.stream;
})"""


async def test_what_is_dictated_is_put_into_the_field_and_a_refusal_is_said_kindly(
    page: Page, shop: Shop, site: Site
) -> None:
    chat = await open_chat(page, shop, site, "/dictation")
    await chat.get_by_role("button", name="Dictate").wait_for()
    await page.frames[1].evaluate(REFUSED_MICROPHONE)
    await chat.get_by_role("button", name="Dictate").click()
    await expect(chat.get_by_text("The microphone is switched off")).to_be_visible()
    await page.frames[1].evaluate(MICROPHONE)
    await chat.get_by_role("button", name="Dictate").click()
    await page.wait_for_timeout(200)
    await chat.get_by_role("button", name="Stop recording").click()
    await expect(chat.get_by_role("textbox", name="Your message")).to_have_value("Where is my lamp?")
    [heard] = shop.questions("/audio/transcriptions")
    assert b"ears" in heard.body

"""Take the chat's pictures for the documentation anew: `make prove-pictures`, then look at each.

The demo's shop answers in them, with one answer that is written here, so that a picture changes only when the chat does.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from PIL import Image
from playwright.async_api import Browser, FrameLocator, Page, async_playwright

from support.api import Tenant, new_tenant
from support.running import ROOT, Site, chromium, customer_site, running_stonechat
from support.widget import open_chat, say, streamed

IMAGES = ROOT / "docs" / "images"
COLOURS = 192
MAX_BYTES = 150_000
WIDE, PHONE = {"width": 460, "height": 800}, {"width": 390, "height": 780}
AT = "2026-11-22T10:00:00Z"
HOST = "<style>body{margin:0;height:100vh;background:%s}h1,p{display:none}</style>"
WORDS = {
    "en": {
        "name": "Merel",
        "greeting": "Hello! Ask me about blankets, orders or returns.",
        "prompts": ["How do I return a blanket?", "Which blanket is the warmest?", "Where is my order?"],
        "asked": "How long do I have to send a blanket back?",
        "answer": "You have **45 days** from delivery, as long as the blanket is unused. Send it back in three steps:\n\n"
        "1. Open your order and choose *Return*\n2. Print the label\n3. Hand the parcel in at any post office\n\n"
        "The refund reaches you within five working days.",
        "sources": ["Returns and refunds", "Delivery and return labels"],
        "card": ["Order 1042", "On its way", "Wool blanket, moss", "Expected tomorrow", "Postcode", "Track it"],
    },
    "ar": {
        "name": "ميرا",
        "greeting": "مرحبًا! اسألني عن البطانيات أو الطلبات أو الإرجاع.",
        "prompts": ["كيف أعيد بطانية؟", "ما أدفأ بطانية لديكم؟", "أين طلبي؟"],
        "asked": "كم من الوقت لدي لإعادة بطانية؟",
        "answer": "لديك **45 يومًا** من تاريخ التسليم ما دامت البطانية غير مستعملة. أعدها في ثلاث خطوات:\n\n"
        "1. افتح طلبك واختر *إرجاع*\n2. اطبع الملصق\n3. سلّم الطرد في أي مكتب بريد\n\n"
        "يصلك المبلغ خلال خمسة أيام عمل.",
        "sources": ["الإرجاع واسترداد المبلغ", "التوصيل وملصقات الإرجاع"],
        "card": ["الطلب 1042", "في الطريق", "بطانية صوف خضراء", "متوقع غدًا", "الرمز البريدي", "تتبّع"],
    },
}
MOSS = {"accent": "#2f6b4f", "radius": "large", "density": "normal"}
THEMES = {
    "rose": {"accent": "#c2255c", "radius": "small", "density": "normal", "scheme": "light"},
    "ink": {"accent": "#3b4cca", "radius": "none", "density": "compact", "scheme": "light"},
    "ember": {"accent": "#f28c28", "radius": "medium", "density": "spacious", "scheme": "dark"},
}


def conversation(tongue: str) -> list[dict[str, Any]]:
    """A question, its answer with sources, and a card."""
    words: dict[str, Any] = WORDS[tongue]
    base = {"thread_id": "thr_1", "created_at": AT}
    text = words["answer"]
    notes = [
        {
            "type": "annotation",
            "index": at,
            "source": {"type": "url", "url": f"https://shop.example/{n}", "title": title},
        }
        for n, (title, at) in enumerate(zip(words["sources"], (text.index("\n\n") - 1, len(text) - 1), strict=True))
    ]
    title, badge, what, when, label, button = words["card"]
    card = {
        "type": "Card",
        "size": "md",
        "children": [
            {
                "type": "Row",
                "justify": "between",
                "children": [
                    {"type": "Title", "value": title, "size": "sm"},
                    {"type": "Badge", "label": badge, "color": "success"},
                ],
            },
            {"type": "Text", "value": what},
            {"type": "Caption", "value": when},
            {
                "type": "Form",
                "onSubmitAction": {"type": "x"},
                "children": [
                    {"type": "Label", "value": label, "fieldName": "code"},
                    {
                        "type": "Row",
                        "children": [
                            {"type": "Input", "name": "code", "defaultValue": "3511 AB"},
                            {"type": "Button", "label": button, "submit": True},
                        ],
                    },
                ],
            },
        ],
    }
    user = {"content": [{"type": "input_text", "text": words["asked"]}], "attachments": [], "inference_options": {}}
    content = [{"type": "output_text", "text": text, "annotations": notes}]
    return [
        {
            "type": "thread.created",
            "thread": base
            | {
                "id": "thr_1",
                "title": None,
                "status": {"type": "active"},
                "metadata": {},
                "items": {"data": [], "has_more": False, "after": None},
            },
        },
        {"type": "thread.item.done", "item": base | {"id": "q", "type": "user_message"} | user},
        {"type": "thread.item.done", "item": base | {"id": "a", "type": "assistant_message", "content": content}},
        {"type": "thread.item.done", "item": base | {"id": "w", "type": "widget", "widget": card, "copy_text": title}},
    ]


async def take(page: Page, name: str) -> None:
    """Write `docs/images/widget-<name>.png`, small."""
    await page.mouse.move(0, 0)
    await page.frames[1].evaluate("document.activeElement?.blur()")
    await page.wait_for_timeout(400)
    taken = Image.open(io.BytesIO(await page.screenshot(animations="disabled", caret="hide")))
    file = IMAGES / f"widget-{name}.png"
    taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    size = file.stat().st_size
    assert size < MAX_BYTES, f"{file} has {size} bytes"
    print(f"{file.relative_to(ROOT)}  {size} bytes")


async def talked(page: Page, chat: FrameLocator, tongue: str) -> None:
    """Until the answer and the card are there."""
    await page.route("**/chatkit", streamed(conversation(tongue)))
    field = chat.locator("textarea").first
    await field.fill(str(WORDS[tongue]["asked"]))
    await field.press("Enter")
    await chat.locator(".w-card").wait_for()


async def picture(browser: Browser, tenant: Tenant, site: Site, name: str, **how: Any) -> None:
    """One visit: `tongue`, `theme`, `scheme`, `viewport`, and `shows`: `start`, `chat` or `menu`."""
    tongue, theme, shows = how.get("tongue", "en"), how.get("theme", {}), how.get("shows", "chat")
    words: dict[str, Any] = WORDS[tongue]
    agent = await tenant.agent(
        name=words["name"],
        model="scripted",
        greeting=words["greeting"],
        prompts=[{"label": each, "prompt": each} for each in words["prompts"]],
        attachments={"enabled": True},
        theme=theme,
    )
    key = await tenant.domain_key(agent, site.origin)
    scheme = how.get("scheme", "light")
    backdrop = "#dfe4e1" if scheme == "light" and theme.get("scheme") != "dark" else "#26292c"
    tag = f'<script async src="{tenant.url}/e/{key}.js" data-locale="{tongue}"></script>'
    context = await browser.new_context(
        viewport=how.get("viewport", WIDE), color_scheme=scheme, device_scale_factor=1.5, has_touch="viewport" in how
    )
    page = await context.new_page()
    chat = await open_chat(page, site.paste(f"/{name}", HOST % backdrop + tag))
    await chat.locator("textarea").wait_for()
    if shows == "chat":
        await talked(page, chat, tongue)
    elif shows == "menu":
        await say(chat, "Which blanket is the warmest?", answers=1)
        await chat.locator("header .tool").nth(1).click()
        await say(chat, "How long do I have to send a blanket back?", answers=1)
        await chat.locator("header .tool").first.click()
        await chat.locator(".thread").nth(1).wait_for()
    else:
        await chat.get_by_role("button", name=words["prompts"][0]).wait_for()
    await take(page, name)
    await context.close()


async def main() -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        with tempfile.TemporaryDirectory() as folder, customer_site() as site:
            async with (
                running_stonechat(Path(folder) / "data", demo=False) as running,
                new_tenant(running, "A blanket shop") as tenant,
            ):
                for name, how in {
                    "light-start": {"theme": MOSS, "shows": "start"},
                    "light-chat": {"theme": MOSS},
                    "light-menu": {"theme": MOSS, "shows": "menu"},
                    "dark-start": {"theme": MOSS, "shows": "start", "scheme": "dark"},
                    "dark-chat": {"theme": MOSS, "scheme": "dark"},
                    "phone-start": {"theme": MOSS, "shows": "start", "viewport": PHONE},
                    "phone-chat": {"theme": MOSS, "viewport": PHONE},
                    "rtl-chat": {"theme": MOSS, "tongue": "ar"},
                    **{f"theme-{each}": {"theme": theme} for each, theme in THEMES.items()},
                }.items():
                    await picture(browser, tenant, site, name, **how)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main())

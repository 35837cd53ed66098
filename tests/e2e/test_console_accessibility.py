"""Every page of the console: clean by axe in light and dark, no wider than a phone, and usable by keyboard alone."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Browser, BrowserContext, Page, Route, expect

from support.api import Tenant
from support.browser import (
    AXE,
    PASSWORD,
    Company,
    bring_axe,
    company,
    complaints_of,
    profile,
    settled,
    sign_in,
    violations,
    violations_by_scheme,
)
from support.running import ROOT, Running

pytestmark = pytest.mark.browser

ORIGIN = "https://www.a-shop-with-quite-a-long-name.example"
PHONE = {"width": 360, "height": 740}
GUIDE = ("# Returns\n\nYou may return anything unused within 45 days of delivery.\n" * 3).encode()
LONG = "Supercalifragilisticexpialidocious-returns-policy-of-the-whole-company-2026-final-final.md"
ARGUMENTS = {"type": "object", "properties": {"number": {"type": "string", "description": "The order’s number"}}}
TOOLS = [
    {
        "kind": "http",
        "name": "order_status",
        "description": "Looks an order up.",
        "url": "https://shop.example/orders/{number}",
        "parameters": ARGUMENTS,
        "secret_headers": {"Authorization": "key-of-the-shop-with-a-long-name"},
        "result": {"state": "/order/state"},
    },
    {"kind": "mcp", "name": "tickets", "url": "https://tools.example/mcp", "allowed": ["find_ticket", "close_ticket"]},
    {"kind": "client", "name": "put_into_basket", "description": "Fills the basket.", "parameters": ARGUMENTS},
    {"kind": "widget", "name": "show_order", "description": "Shows an order.", "template": {"type": "Card"}},
]


@dataclass
class Place:
    """A tenant with something on every page, and the pages."""

    shop: Company
    pages: list[str]
    outside: list[str]
    """Pages for who is not signed in."""


@pytest.fixture(scope="module")
async def place(stonechat: Running) -> AsyncIterator[Place]:
    async with company(stonechat, "A company with a rather long name, Ltd.", email="owner@long.example") as shop:
        tenant = shop.tenant
        agent, document, thread = await furnish(tenant)
        # An address that is refused before anybody is asked: the log has something to say.
        hook = await tenant.call("POST", "/webhook-endpoints", 201, json={"url": "https://127.0.0.1/hook"})
        sent = await tenant.call("POST", f"/webhook-endpoints/{hook['id']}/test", 200)
        pages = [
            "",
            "/agents",
            f"/agents/{agent}",
            f"/agents/{agent}/abilities",
            *(f"/agents/{agent}/abilities/tools/{tool['name']}" for tool in TOOLS),
            f"/agents/{agent}/abilities/new?kind=widget&start=form",
            f"/agents/{agent}/model",
            f"/agents/{agent}/files",
            f"/agents/{agent}/rules",
            f"/agents/{agent}/look",
            f"/agents/{agent}/publish",
            "/knowledge",
            f"/knowledge/documents/{document}",
            "/knowledge/search",
            "/knowledge/search?q=How+long+do+I+have+to+return+something",
            "/conversations",
            "/conversations?q=nothing-that-was-said",
            f"/conversations/{thread}",
            "/model-providers",
            "/secrets",
            "/install",
            "/limits",
            "/billing",
            "/plan",
            "/identity-keys",
            "/members",
            "/api-keys",
            "/webhooks",
            f"/webhooks/{hook['id']}",
            f"/webhooks/{hook['id']}/deliveries/{sent['id']}",
            "/audit-log",
            "/account",
            "/tenants",
            "/agents/agt_missing",
        ]
        outside = ["/console/login", "/console/forgot", "/console/sign-up", "/setup?token=x", "/dev/mail"]
        outside.append("/console/invitation?token=x")
        yield Place(shop, ["/console" + path for path in pages], outside)


async def furnish(tenant: Tenant) -> tuple[str, str, str]:
    """Something for every list; returns the ids of an agent, a document and a conversation."""
    document = await tenant.document(LONG, GUIDE, title="Returns")
    await tenant.document("broken.pdf", b"%PDF-1.7 but nothing else")
    agent = await tenant.agent(name="Robin", greeting="Hello!", prompts=[{"label": "Returns", "prompt": "How long?"}])
    await tenant.call("PATCH", f"/agents/{agent}", json={"greeting": "Good day!", "tools": TOOLS})
    await tenant.call("PUT", "/secrets", json={"name": "key-of-the-shop-with-a-long-name", "value": "x"})
    await tenant.agent(name="Wren")
    key = await tenant.domain_key(agent, ORIGIN)
    session = await tenant.session(key, ORIGIN)
    answer = await tenant.ask(session["token"], ORIGIN, "How many days do I have to return something?")
    provider = {"name": "our-models", "kind": "openai", "api_key": "sk-nothing"}
    await tenant.call("POST", "/model-providers", 201, json=provider)
    await tenant.call("POST", "/identity-keys", 201, json={"kind": "hs256"})
    await tenant.call("POST", "/api-keys", 201, json={"name": "Nightly import", "scopes": ["read"]})
    return agent, str(document["id"]), answer.thread


async def test_axe_finds_nothing(browser: Browser, place: Place) -> None:
    """In light and in dark, wherever there is something to see."""
    assert AXE.exists(), "npm ci in widget/"
    found: list[str] = []
    # Axe comes in from outside, past the policy; the journey and the phone's walk go without this.
    async with profile(browser, bypass_csp=True, color_scheme="light", reduced_motion="reduce") as context:
        await bring_axe(context)
        page = await context.new_page()
        for path in place.outside:
            async with settled(page):
                await page.goto(place.shop.url(path))
            found += await violations_by_scheme(page)
        await sign_in(page, place.shop.running.url, place.shop.email)
        for path in place.pages:
            async with settled(page):
                await page.goto(place.shop.url(path))
            found += await violations_by_scheme(page)
            found += await dialogs(page)
    assert not found, "\n".join(found)


async def dialogs(page: Page) -> list[str]:
    """What axe finds in the dialogs of a page, each opened by its button."""
    found: list[str] = []
    openers = page.locator('main button[command="show-modal"]')
    for name in {await opener.get_attribute("commandfor") for opener in await openers.all()}:
        dialog = page.locator(f"dialog#{name}")
        async with settled(page):
            await page.locator(f'main button[commandfor="{name}"][command="show-modal"]').first.click()
            await expect(dialog).to_be_visible()
        found += await violations_by_scheme(page, dialog=f"dialog#{name}")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden()
    return found


async def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, place: Place) -> None:
    wide: list[str] = []
    async with profile(browser, viewport=PHONE, reduced_motion="reduce") as context:
        page = await context.new_page()
        complaints = complaints_of(page, answers=(404,))
        for path in place.outside:
            async with settled(page):
                await page.goto(place.shop.url(path))
            wide += await too_wide(page, context)
        await sign_in(page, place.shop.running.url, place.shop.email)
        for path in place.pages:
            async with settled(page):
                await page.goto(place.shop.url(path))
            wide += await too_wide(page, context)
    assert not wide, "\n".join(wide)
    assert complaints == []


async def too_wide(page: Page, _context: BrowserContext) -> list[str]:
    """What reaches beyond the right edge, if the page can be scrolled there."""
    width, elements = await page.evaluate("""() => {
        const root = document.scrollingElement, edge = document.documentElement.clientWidth;
        const over = [...document.querySelectorAll("main *")].filter((each) => each.getBoundingClientRect().right > edge + 1);
        return [root.scrollWidth - edge, over.slice(0, 3).map((each) => each.outerHTML.slice(0, 120))];
    }""")
    return [f"{page.url} is {width} pixels too wide: {elements}"] if width > 0 else []


async def focused(page: Page) -> str:
    """The name of what has the focus."""
    return str(
        await page.evaluate(
            "() => (document.activeElement.labels?.[0]?.textContent ?? document.activeElement.getAttribute('aria-label')"
            " ?? document.activeElement.textContent).trim()"
        )
    )


async def tab_to(page: Page, name: str, *, at_most: int = 30) -> None:
    for _ in range(at_most):
        if re.fullmatch(name, await focused(page)):
            outline = await page.evaluate(
                "() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.boxShadow; }"
            )
            assert outline != "nonenone", f"nothing shows that {name} has the focus"
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{name} is not reached by {at_most} tabs")


async def test_a_keyboard_is_enough(browser: Browser, place: Place) -> None:
    async with profile(browser) as context:
        page = await context.new_page()
        await page.goto(place.shop.url("/console/login"))
        await tab_to(page, "E-mail.*")
        await page.keyboard.type(place.shop.email)
        await tab_to(page, "Password.*")
        await page.keyboard.type(PASSWORD)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_contain_text("Good to see you")

        await page.keyboard.press("Tab")
        assert await focused(page) == "Skip to content"
        await page.keyboard.press("Enter")
        assert await page.evaluate("() => document.activeElement.id") == "main"
        await page.reload()

        await tab_to(page, "API keys")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", level=1)).to_have_text("API keys")
        await tab_to(page, "(New|Make a|Create).* key|New key", at_most=40)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await page.keyboard.type("By keyboard")
        await page.keyboard.press("Enter")
        created = page.locator("#api-key-created")
        await expect(created).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("row", name=re.compile("By keyboard"))).to_be_visible()


def test_axe_is_pinned() -> None:
    assert '"axe-core": "' in Path(ROOT / "widget" / "package.json").read_text(encoding="utf-8")


async def test_axe_sees_what_is_wrong(browser: Browser) -> None:
    async with profile(browser) as context:
        page = await context.new_page()
        await page.set_content(
            '<html lang="en"><title>Wrong</title><img src="data:,"><p style="color:#ccc">Pale</p></html>'
        )
        found = await violations(page)
    assert [re.search(r" ([a-z-]+):", each)[1] for each in found] == ["color-contrast", "image-alt"]  # type: ignore[index]


SCHEMES = """<html lang="en"><title>Wrong</title><style>
body { background: #fff } p { color: #111; transition: color 2s }
@media (prefers-color-scheme: dark) { body { background: #111 } p { color: #222 } }</style><p>Pale in the dark</p>"""


async def test_axe_sees_what_is_wrong_in_the_dark_only(browser: Browser) -> None:
    async with profile(browser, color_scheme="light") as context:
        page = await context.new_page()
        await page.set_content(SCHEMES)
        found = await violations_by_scheme(page)
    assert [re.match(r"(\w+): \S+ ([a-z-]+):", each).groups() for each in found] == [("dark", "color-contrast")]  # type: ignore[union-attr]


LATE = """<html lang="en"><title>Late</title><script>
fetch("/late").then(async (answer) => { const text = await answer.text(); setTimeout(() => { document.title = text }) })</script>"""


async def test_a_page_is_settled_once_what_it_fetched_is_there(browser: Browser) -> None:
    async def late(route: Route) -> None:
        await asyncio.sleep(0.2)
        await route.fulfill(body="Here")

    async with profile(browser) as context:
        page = await context.new_page()
        await page.route("**/page", lambda route: route.fulfill(body=LATE, content_type="text/html"))
        await page.route("**/late", late)
        async with settled(page):
            await page.goto("http://late.example/page")
        assert await page.title() == "Here"

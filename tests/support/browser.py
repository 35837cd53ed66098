"""People at work in the console, in a real browser; everything that the browser complains about is kept."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from PIL import Image
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Locator, Page, Request, expect

from support.api import Tenant, client_of
from support.running import ROOT, Running

PASSWORD = "correct horse battery"
IMAGES = ROOT / "docs" / "images"
COLOURS = 160
AXE = ROOT / "widget" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SETTLE_SECONDS = 30
ANSWERED = re.compile(r"Failed to load resource: the server responded with a status of (4\d\d)")


@dataclass
class Company:
    """A tenant whose owner has a password."""

    running: Running
    tenant: Tenant
    email: str

    def url(self, path: str) -> str:
        return self.running.url + path


@asynccontextmanager
async def company(
    running: Running, name: str, *, email: str = "owner@company.example", by_command: bool = False
) -> AsyncIterator[Company]:
    """A tenant as `stonechat tenant create` makes it; its owner has followed the link that it prints."""
    if by_command:
        made = json.loads(await running.command("tenant", "create", name, "--owner", email, "--json"))
    else:
        made = await running.tenant(name, email)
    async with client_of(running, made["api_key"]) as client:
        if made["setup_url"]:
            token = httpx.URL(made["setup_url"]).params["token"]
            form = {"token": token, "password": PASSWORD}
            answer = await client.post(f"{running.url}/setup", data=form, headers={"Origin": running.url})
            assert answer.status_code == 303, answer.text
        yield Company(running, Tenant(made["tenant_id"], client, running.url), email)


def complaints_of(page: Page, *, answers: tuple[int, ...] = ()) -> list[str]:
    """What the browser complains about from now on: the policy, scripts, resources. `answers` are statuses that are meant."""
    complaints: list[str] = []

    def heard(line: ConsoleMessage) -> None:
        refused = "Refused to" in line.text or "Content Security Policy" in line.text
        meant = ANSWERED.search(line.text)
        if refused or (line.type == "error" and not (meant and int(meant[1]) in answers)):
            complaints.append(f"{page.url}: {line.text}")

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
    return complaints


IDLE = "() => new Promise((done) => setTimeout(() => requestIdleCallback(() => done(), {timeout: 2000})))"
STILL = """async () => {
    const moving = () => document.getAnimations()
        .filter((each) => each.playState === "running" && each.effect.getComputedTiming().endTime < 5000);
    while (moving().length) {  // what inherits a colour begins to fade anew while that fades
        await Promise.allSettled(moving().map((each) => each.finished));
        await new Promise((done) => setTimeout(done));
    }
}"""

AT_ONCE = """() => {
    if (window.changesAtOnce) return;
    window.changesAtOnce = true;
    const sheet = new CSSStyleSheet();
    sheet.replaceSync("*, ::before, ::after { transition: none !important; }");
    document.adoptedStyleSheets.push(sheet);
}"""


@asynccontextmanager
async def settled(page: Page) -> AsyncIterator[None]:
    """Do something, then wait until all that it set going is over: requests, what scripts do with them, and movement.

    Playwright's "networkidle" waits for half a second without requests; this asks the page whether it has more to do.
    """
    going: set[Request] = set()
    begun = 0

    def begin(request: Request) -> None:
        nonlocal begun
        begun += 1
        going.add(request)

    def end(request: Request) -> None:
        going.discard(request)

    page.on("request", begin)
    page.on("requestfinished", end)
    page.on("requestfailed", end)
    try:
        yield
        async with asyncio.timeout(SETTLE_SECONDS):
            await page.wait_for_load_state()
            while True:
                before = begun
                is_idle = await _is_idle(page)
                if is_idle and not going and begun == before:
                    break
                await asyncio.sleep(0.01)
        await still(page)
    finally:
        page.remove_listener("request", begin)
        page.remove_listener("requestfinished", end)
        page.remove_listener("requestfailed", end)


async def _is_idle(page: Page) -> bool:
    """Let every frame do what it has to; False where one went meanwhile."""
    try:
        for frame in page.frames:
            await frame.evaluate(IDLE)
    except Error:
        return False
    return True


async def still(page: Page) -> None:
    """Until nothing moves: half a fade is half a contrast."""
    await page.evaluate(STILL)


async def bring_axe(context: BrowserContext) -> None:
    """Have axe in every page from its start, which takes less time than to send it there; `violations` brings it to frames."""
    await context.add_init_script(script=f"if (window === top) {{\n{AXE.read_text(encoding='utf-8')}\n}}")


async def violations(page: Page, *, dialog: str = "") -> list[str]:
    """What axe finds in a settled page and its frames, or in a dialog of a page that it has been through."""
    found: list[str] = []
    for frame in [page.main_frame] if dialog else page.frames:
        if not await frame.evaluate("'axe' in window"):
            await frame.evaluate(AXE.read_text(encoding="utf-8"))
        results = await frame.evaluate(
            "([within, rules]) => axe.run(within || document, {runOnly: rules, resultTypes: ['violations'], iframes: false})",
            [dialog, RULES],
        )
        for rule in results["violations"]:
            for node in rule["nodes"]:
                found.append(f"{frame.url} {rule['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})")
    return found


async def violations_by_scheme(page: Page, *, dialog: str = "") -> list[str]:
    """The same in light and in dark. The page follows the browser's wish, and need not fade."""
    found: list[str] = []
    backgrounds = set()
    for frame in page.frames:
        await frame.evaluate(AT_ONCE)
    for scheme in ("dark", "light"):
        await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        await still(page)
        backgrounds.add(await page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        found += [f"{scheme}: {each}" for each in await violations(page, dialog=dialog)]
    assert len(backgrounds) == 2, f"{page.url} looks the same in light and dark"
    return found


async def hasten(page: Page, until: Locator) -> None:
    """Put the page's clock, which is installed, forward by seconds until something is to be seen."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while not await until.is_visible():
            await page.clock.fast_forward(1_000)
            await asyncio.sleep(0.05)


async def sign_in(page: Page, url: str, email: str, password: str = PASSWORD) -> None:
    """From the sign-in page to the start page."""
    await page.goto(f"{url}/console/login")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("Password").fill(password)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Good to see you")


async def wait_for_mail(page: Page, url: str, email: str) -> None:
    """Open the newest mail to this address at `/dev/mail`, once the worker has sent it."""
    link = page.get_by_role("link", name=re.compile(re.escape(f"to {email},"))).first
    for _ in range(100):
        await page.goto(f"{url}/dev/mail")
        if await link.count():
            await link.click()
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"no mail to {email}")


@asynccontextmanager
async def profile(browser: Browser, **options: object) -> AsyncIterator[BrowserContext]:
    """A browser profile of its own: 1280 by 860, unless told otherwise."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 860}} | options)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    yield context
    await context.close()


async def picture(page: Page, name: str) -> None:
    """Write `docs/images/console-<name>.png`, when `STONECHAT_UPDATE_IMAGES=1` asks for it."""
    if os.environ.get("STONECHAT_UPDATE_IMAGES") != "1":
        return
    await page.mouse.move(0, 0)
    taken = Image.open(io.BytesIO(await page.screenshot(animations="disabled")))
    taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"console-{name}.png", optimize=True)

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
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from support.api import Tenant
from support.running import ROOT, Running

PASSWORD = "correct horse battery"
IMAGES = ROOT / "docs" / "images"
COLOURS = 160
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
async def company(running: Running, name: str, *, email: str = "owner@company.example") -> AsyncIterator[Company]:
    """A tenant made by `stonechat tenant create`; its owner has followed the link that it prints."""
    made = json.loads(await running.command("tenant", "create", name, "--owner", email, "--json"))
    headers = {"Authorization": f"Bearer {made['api_key']}"}
    async with httpx.AsyncClient(
        base_url=f"{running.url}/api/v1", headers=headers, timeout=30, trust_env=False
    ) as client:
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

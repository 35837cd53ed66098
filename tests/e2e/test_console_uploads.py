"""Documents in a real browser: dropped, refused, watched while they are read, deleted, and not found afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import ConsoleMessage, Page, Route, expect

from support.browser import hasten
from support.documents import encrypted_pdf
from support.running import Running

pytestmark = pytest.mark.browser

READ_MS = 30_000
PLANTS = "We water the plants of the mill on Mondays."


@pytest.fixture
async def knowledge(page: Page, stonechat: Running) -> AsyncIterator[Page]:
    """The demo shop's knowledge, as its owner sees it. The browser must not complain about the policy or a script."""
    complaints: list[str] = []

    def heard(line: ConsoleMessage) -> None:
        if line.type == "error" and "Failed to load resource" not in line.text:
            complaints.append(line.text)

    page.on("console", heard)
    # The browser's own word for a page left before its transition was drawn; nothing of ours went wrong.
    skipped = "Transition was skipped"
    page.on("pageerror", lambda error: None if skipped in str(error) else complaints.append(str(error)))
    demo = json.loads((stonechat.data_dir / "demo.json").read_text(encoding="utf-8"))
    await page.goto(f"{stonechat.url}/console/login")
    await page.fill("input[name=email]", demo["email"])
    await page.fill("input[name=password]", demo["password"])
    await page.get_by_role("button", name="Sign in").click()
    await page.locator("button[name=tenant]", has_text="Alder & Loom").click()
    await expect(page.get_by_role("heading", level=1)).to_be_visible()
    await page.clock.install()
    await page.goto(f"{stonechat.url}/console/knowledge")
    yield page
    assert complaints == []


async def drop(page: Page, name: str, text: str) -> None:
    """Drop a file on the page, as the mouse would."""
    carried = await page.evaluate_handle(
        """([name, text]) => {
          const carried = new DataTransfer();
          carried.items.add(new File([text], name, { type: "text/plain" }));
          return carried;
        }""",
        [name, text],
    )
    await page.dispatch_event("#drop", "dragenter", {"dataTransfer": carried})
    await expect(page.locator("#drop[data-over]")).to_be_visible()
    await page.dispatch_event("#drop", "drop", {"dataTransfer": carried})
    await expect(page.locator("#drop[data-over]")).to_have_count(0)


async def test_a_dropped_file_is_read_while_one_watches_and_deleted_by_keyboard(knowledge: Page) -> None:
    page = knowledge
    await drop(page, "plants.txt", PLANTS)
    row = page.locator("#documents tr", has_text="plants.txt")
    await hasten(page, row.filter(has_text="Ready"))
    await expect(page.locator("tr[data-waiting]")).to_have_count(0)
    await row.get_by_role("link").click()
    await expect(page.locator("#passages")).to_contain_text(PLANTS)
    async with page.expect_navigation():
        await page.get_by_role("button", name="Read again").click()
    await hasten(page, page.locator("dl.facts", has_text="Ready"))
    await expect(page.locator("[data-reload-while-waiting]")).to_have_count(0)
    address = page.url
    await page.get_by_role("button", name="Delete").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".note")).to_contain_text("“plants” was deleted. It answers no more.")
    await expect(page.locator("#documents")).not_to_contain_text("plants.txt")
    await page.goto(address)
    await expect(page.locator("main")).to_contain_text("There is no such document.")


async def test_each_refused_file_says_why_and_the_others_go_on(knowledge: Page, tmp_path: Path) -> None:
    page = knowledge
    files = {
        "good.txt": b"The mill has a cat called Bobbin.",
        "locked.pdf": encrypted_pdf(password="x"),
        "letter.docx": b"\x7fELF" + bytes(60),
        "empty.txt": b"",
        "huge.txt": b"x" * (26 * 1024 * 1024),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    await page.set_input_files("#files", [tmp_path / name for name in files])
    for name, reason in (
        ("locked.pdf", "protected by a password"),
        ("letter.docx", "Upload a PDF, an Office or OpenDocument file"),
        ("empty.txt", "This file is empty"),
        ("huge.txt", "at most 25 MB"),
    ):
        await expect(page.locator(".upload[data-state=refused]", has_text=name)).to_contain_text(reason)
    row = page.locator("#documents tr", has_text="good.txt")
    await expect(row).to_contain_text("Ready", timeout=READ_MS)
    await page.get_by_role("button", name="Dismiss empty.txt").click()
    await expect(page.locator(".upload", has_text="empty.txt")).to_have_count(0)
    held = await page.locator("#documents tr").count()
    await row.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete document").click()
    await expect(row).to_have_count(0)
    await expect(page.locator("#document-filter a[aria-current]")).to_have_text(f"All {held - 1}")


async def test_watching_a_server_that_fails_is_quiet(knowledge: Page) -> None:
    page = knowledge
    told = {"Console": json.dumps({"toast": {"kind": "error", "text": "Not right now."}})}
    asked = asyncio.Event()

    async def refuse(route: Route) -> None:
        asked.set()
        await route.fulfill(status=503, headers=told, body="")

    await page.route("**/console/knowledge/progress?*", refuse)
    await drop(page, "slow.txt", "Slow words.")
    for _ in range(150):
        if asked.is_set():
            break
        await page.clock.fast_forward(2_000)
        await asyncio.sleep(0.1)
    assert asked.is_set()
    await expect(page.locator(".note")).to_have_count(0)
    await page.unroute("**/console/knowledge/progress?*")
    row = page.locator("#documents tr", has_text="slow.txt")
    await hasten(page, row.filter(has_text="Ready"))
    await row.get_by_role("button", name="Delete").click()
    await page.get_by_role("button", name="Delete document").click()
    await expect(row).to_have_count(0)

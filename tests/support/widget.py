"""The widget in a page: opened, talked to, looked at by axe, fed with events, and cut off from its server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from playwright.async_api import Frame, FrameLocator, Page, Route, expect

from support.browser import AT_ONCE, AXE, RULES, STILL

SETTLED = "[data-role=assistant][data-status=done]"
LAUNCHER = "[data-stonechat] .launcher"
FRAME = "[data-stonechat] iframe"


async def open_chat(page: Page, url: str | None = None) -> FrameLocator:
    """Go to the page, if one is named, and press the launcher."""
    if url is not None:
        await page.goto(url)
    await page.locator(LAUNCHER).click()
    return page.frame_locator(FRAME)


async def frame_of(page: Page) -> Frame:
    """The chat's own frame, once its field is there."""
    await page.frame_locator(FRAME).locator("main").wait_for()
    return page.frames[1]


async def say(chat: FrameLocator, text: str, *, answers: int | None = None) -> None:
    """Send a message; with `answers`, wait until so many are there and done."""
    await chat.get_by_role("textbox", name="Your message").fill(text)
    await chat.get_by_role("button", name="Send", exact=True).click()
    if answers is not None:
        await expect(chat.locator(SETTLED)).to_have_count(answers)


async def violations(frame: Frame, where: str) -> list[str]:
    """What axe finds in a frame, once nothing moves in it: half a fade is half a contrast.

    In the chat's own frame, best practices, too; how a page around it is furnished is not the chat's matter.
    """
    await frame.evaluate(AT_ONCE)
    await frame.evaluate(STILL)
    if not await frame.evaluate("'axe' in window"):
        await frame.evaluate(AXE.read_text(encoding="utf-8"))
    results = await frame.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations'], iframes: false})",
        [*RULES, "best-practice"] if frame.parent_frame else RULES,
    )
    return [
        f"{where}: {rule['id']}: {node['html'][:160]} ({node['failureSummary'][:240]})"
        for rule in results["violations"]
        for node in rule["nodes"]
    ]


def streamed(events: Sequence[dict[str, Any]]) -> Callable[[Route], Awaitable[None]]:
    """A route of `**/chatkit` that answers each new conversation with these events, and lets all else pass."""

    async def answer(route: Route) -> None:
        if (route.request.post_data_json or {}).get("type") not in ("threads.create", "threads.add_user_message"):
            return await route.continue_()
        body = "".join(f"id: run_1:{at}\ndata: {json.dumps(event)}\n\n" for at, event in enumerate(events, 1))
        headers = {"Content-Type": "text/event-stream", "Stonechat-Run": "run_1"}
        return await route.fulfill(status=200, headers=headers, body=body)

    return answer


@dataclass
class Relay:
    """A way to the server that can be cut."""

    url: str
    _to: tuple[str, int]
    is_cut: bool = False
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Break every connection, and each that is tried from now on."""
        self.is_cut = True
        for end in self._ends:
            end.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.is_cut:
            return writer.transport.abort()
        onward, back = await asyncio.open_connection(*self._to)
        self._ends |= {writer, back}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_pass(reader, back))
                both.create_task(_pass(onward, writer))
        finally:
            self._ends -= {writer, back}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[Relay]:
    """A relay to the server at `url`, on a port of its own."""
    to = httpx.URL(url)
    made = Relay("", (to.host, to.port or 80))
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        made.cut()
        server.close()

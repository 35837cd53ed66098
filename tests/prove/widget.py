"""A thread of 2,000 messages scrolls and streams at 60 frames a second; the frame paints within 300 ms of intent"""

# Run as `make prove-widget`, on a machine that does nothing else: server, database and browser share its cores.

from __future__ import annotations

import asyncio
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from playwright.async_api import Browser, CDPSession, Frame, Page, async_playwright, expect  # noqa: E402

from stonechat import clock  # noqa: E402
from support.api import new_tenant  # noqa: E402
from support.history import add_history, assistant_message, user_message  # noqa: E402
from support.running import Running, Site, chromium, customer_site, running_stonechat  # noqa: E402
from support.slow_model import slow_model  # noqa: E402

MESSAGES, PAGE = 2_000, 20
RATE, EVENTS = 40, 500
PAINTS = 7
LONG_TASK_MS, PAINT_MS, FRAME_MS = 50, 300, 1000 / 60
RESULT = ROOT / "docs" / "measurements" / "widget.md"

WATCH = """() => {
  const frames = [], tasks = [];
  let last = 0, isOn = true;
  const tick = (now) => { if (last) frames.push(now - last); last = now; if (isOn) requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
  const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map(({ duration }) => duration)));
  observer.observe({ type: 'longtask' });
  globalThis.watched = () => { isOn = false; observer.disconnect(); return { frames, tasks }; };
}"""
SCROLL = """async ([step, seconds]) => {
  const log = document.querySelector('.log');
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    await new Promise(requestAnimationFrame);
    const before = log.scrollTop;
    log.scrollTop += step;
    if (log.scrollTop === before) step = -step;
  }
}"""

# Asked and awaited in the page itself: a driver that looks at 2,000 messages again and again is a load of its own.
ASK = """async () => {
  const field = document.querySelector('textarea');
  field.value = 'A long answer, please';
  field.dispatchEvent(new Event('input'));
  field.form.requestSubmit();
  do await new Promise((done) => setTimeout(done, 250)); while (!document.querySelector('.stop').hidden);
}"""


def prose(chance: random.Random, number: int) -> str:
    """An answer as models write them."""
    words = [
        "the",
        "order",
        "ships",
        "within",
        "two",
        "days",
        "and",
        "a",
        "parcel",
        "can",
        "be",
        "sent",
        "back",
        "free",
        "of",
        "charge",
        "for",
        "a",
        "whole",
        "month",
    ]

    def sentence() -> str:
        return (
            f"{' '.join(chance.choices(words, k=12)).capitalize()} **{chance.choice(words)}** `{chance.choice(words)}`."
        )

    def lines(count: int) -> list[str]:
        return [sentence() for _ in range(count)]

    parts = [
        " ".join(lines(2)),
        "\n".join(f"- {line}" for line in lines(3)),
        f"See [the page about it](https://shop.example/{number}). {sentence()}",
        "```js\nconst total = lines.reduce((sum, { price }) => sum + price, 0);\nreturn total;\n```",
        "| size | price |\n|---|--:|\n" + "\n".join(f"| {size} | {chance.randint(1, 99)} |" for size in "SML"),
        "### And then\n\n1. " + "\n2. ".join(lines(2)),
    ]
    return "\n\n".join([parts[0], *chance.sample(parts[1:], number % 3)])


def conversation() -> list[dict[str, Any]]:
    chance = random.Random(7)
    return [
        assistant_message(f"msg_{number:05}", prose(chance, number))
        if number % 2
        else user_message(f"msg_{number:05}", f"Question {number}: what about my parcel, and can I still send it back?")
        for number in range(MESSAGES - 2)
    ]


def deltas() -> list[str]:
    """A long answer in pieces of a few characters, as they come from a model: with a table, a list and code that do not end."""
    chance = random.Random(11)
    table = "| number | what | price |\n|--:|---|--:|\n" + "\n".join(
        f"| {row} | A lamp | {row * 3} |" for row in range(60)
    )
    points = "\n".join(f"- The {point}th point, of which **much** can be said" for point in range(40))
    code = "```py\n" + "\n".join(f"total_{line} = price[{line}] * {line}" for line in range(60)) + "\n```"
    text = "\n\n".join(
        [prose(chance, 2), table, prose(chance, 5), points, code, *(prose(chance, 8) for _ in range(20))]
    )
    pieces: list[str] = []
    while len(pieces) < EVENTS:
        size = chance.randint(8, 24)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def share(values: Sequence[float], at: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * at))] if values else 0.0


class Watched(dict[str, Any]):
    """What a frame went through."""

    def row(self, name: str) -> str:
        frames, tasks = self["frames"], self["tasks"]
        late = sum(1 for each in frames if each > FRAME_MS * 1.5)
        return (
            f"| {name} | {1000 * len(frames) / sum(frames):.1f} | {share(frames, 0.5):.1f} | {share(frames, 0.95):.1f}"
            f" | {max(frames):.0f} | {late} of {len(frames)} | {len(tasks)}{f', longest {max(tasks):.0f}' if tasks else ''} |"
        )


async def first_paint(browser: Browser, url: str, how: str) -> float:
    """Milliseconds from the first sign of interest to the frame's first contentful paint, in a profile without a cache."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    page = await context.new_page()
    await page.goto(url)
    await page.locator("[data-stonechat] .launcher").wait_for()
    await page.wait_for_timeout(100)
    await page.evaluate(
        "() => { for (const type of ['pointerover', 'focusin', 'click']) addEventListener(type, () =>"
        " globalThis.intent ??= performance.timeOrigin + performance.now(), true) }"
    )
    if how == "tab and enter":
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
    else:
        await page.locator("[data-stonechat] .launcher").hover()
        if how == "hover, then click":
            await page.wait_for_timeout(150)
            await page.evaluate("delete globalThis.intent")
        await page.mouse.down()
        await page.mouse.up()
    chat = page.frame_locator("[data-stonechat] iframe")
    await chat.locator("textarea").wait_for()
    painted = await page.frames[1].evaluate(
        "async () => { for (;;) { const [paint] = performance.getEntriesByName('first-contentful-paint');"
        " if (paint) return performance.timeOrigin + paint.startTime; await new Promise(requestAnimationFrame); } }"
    )
    intent = await page.evaluate("intent")
    await context.close()
    return float(painted - intent)


async def metrics(session: CDPSession) -> tuple[float, int]:
    """Megabytes of JavaScript after a collection, and nodes."""
    await session.send("HeapProfiler.collectGarbage")
    found = {each["name"]: each["value"] for each in (await session.send("Performance.getMetrics"))["metrics"]}
    return found["JSHeapUsedSize"] / 1e6, int(found["Nodes"])


async def watch(frame: Frame, doing: Any) -> Watched:
    await frame.evaluate(WATCH)
    await doing
    return Watched(await frame.evaluate("watched()"))


async def long_thread(page: Page, running: Running, tenant: str, url: str) -> tuple[list[str], list[str], bool]:
    """Load it all, scroll it, stream into it; rows of results and whether they are good enough."""
    await page.goto(url)
    chat = page.frame_locator("[data-stonechat] iframe")
    field = chat.locator("textarea")
    await field.fill("Hello")
    await field.press("Enter")
    answers = chat.locator("[data-role=assistant][data-status=done]")
    await expect(answers).to_have_count(1, timeout=40_000)
    await add_history(running, tenant, conversation())
    await page.reload()
    await expect(chat.locator("[data-item-id=msg_01997]")).to_be_attached()
    frame = page.frames[1]
    session = await page.context.new_cdp_session(page)
    await session.send("Performance.enable")
    before = await metrics(session)
    load = "async () => { for (let more; (more = document.querySelector('.earlier')) && !more.hidden; await new Promise((done) => setTimeout(done, 4))) more.click(); }"
    loaded = await watch(frame, frame.evaluate(load))
    assert await frame.evaluate("document.querySelectorAll('.message').length") == MESSAGES
    after = await metrics(session)
    await frame.evaluate("() => { const log = document.querySelector('.log'); log.scrollTop = log.scrollHeight }")
    scrolled = await watch(frame, frame.evaluate(SCROLL, [-60, 6]))
    flung = await watch(frame, frame.evaluate(SCROLL, [-1_500, 6]))
    await frame.evaluate("() => { const log = document.querySelector('.log'); log.scrollTop = log.scrollHeight }")
    streamed = await watch(frame, frame.evaluate(ASK))
    end = await metrics(session)
    rows = [
        loaded.row(f"{MESSAGES // PAGE} pages loaded, as fast as they come"),
        scrolled.row("scrolling back, 60 px a frame"),
        flung.row("flung, 1,500 px a frame"),
        streamed.row(f"an answer of {EVENTS} events at {RATE} a second, at the end of it all"),
    ]
    heap = [
        f"| {name} | {megabytes:.1f} | {nodes:,} |"
        for name, (megabytes, nodes) in (
            ("the newest page", before),
            (f"{MESSAGES:,} messages", after),
            ("and the answer", end),
        )
    ]
    good = not [task for task in streamed["tasks"] if task > LONG_TASK_MS]
    good &= all(share(each["frames"], 0.5) < FRAME_MS * 1.1 for each in (scrolled, streamed))
    return rows, heap, good


async def main() -> int:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stonechat-widget-")))
        running = await stack.enter_async_context(running_stonechat(folder / "data", demo=False))
        site: Site = stack.enter_context(customer_site())
        site.pages["/favicon.ico"] = "-"
        tenant = await stack.enter_async_context(new_tenant(running, "Long shop"))
        model = stack.enter_context(slow_model(1 / RATE, deltas(), between=""))
        provider = {"name": "slow", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
        await tenant.call("POST", "/model-providers", 201, json=provider)
        agent = await tenant.agent(name="Long helper", model="slow/slow", knowledge={"enabled": False})
        key = await tenant.domain_key(agent, site.origin)
        tag = f'<script async src="{running.url}/embed.js" data-domain-key="{key}"'
        playwright = await stack.enter_async_context(async_playwright())
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        stack.push_async_callback(browser.close)

        url = site.paste("/paint", f"{tag}></script>")
        await first_paint(browser, url, "click")
        paints = {
            how: [await first_paint(browser, url, how) for _ in range(PAINTS)]
            for how in ("click", "tab and enter", "hover, then click")
        }
        page = await browser.new_page(viewport={"width": 1280, "height": 860})
        rows, heap, good = await long_thread(
            page, running, tenant.id, site.paste("/long", f"{tag} data-open></script>")
        )
        version = browser.version
    good &= all(share(times, 0.5) < PAINT_MS for times in paints.values())
    report = f"""# The widget in Chromium

Command: `make prove-widget`, at commit {commit()}, finished {clock.rfc3339(clock.now())}; Chromium {version} without a GPU,
{cpu()}, {os.cpu_count()} cores, shared with server and database; load over the last five minutes {os.getloadavg()[1]:.1f}.
A customer's page on another origin, panel of 400 by 700 pixels.

| {MESSAGES:,} messages | frames a second | median, ms | p95 | longest | later than 25 ms | tasks over 50 ms |
|---|--:|--:|--:|--:|--:|--:|
{chr(10).join(rows)}

| | MB of JavaScript | nodes |
|---|--:|--:|
{chr(10).join(heap)}

First contentful paint of the frame, {PAINTS} fresh profiles each, milliseconds after intent (allowed: {PAINT_MS}):

| | median | longest |
|---|--:|--:|
{chr(10).join(f"| {how} | {statistics.median(times):.0f} | {max(times):.0f} |" for how, times in paints.items())}
"""
    if "--try" not in sys.argv:
        RESULT.write_text(report)
    print(report)
    return int(not good)


def commit() -> str:
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip()[:12]


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""One running Stonechat with its demo, one browser, and customers' sites, shared by the journeys."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from support.running import Running, Site, chromium, customer_site, running_stonechat

expect.set_options(timeout=20_000)  # what is expected comes at once, but a machine may be busy with other suites


@pytest.fixture(scope="session")
async def stonechat(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running_stonechat(tmp_path_factory.mktemp("e2e") / "data folder") as running:
        yield running


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with customer_site() as site:
        yield site


FIREFOX = os.environ.get("STONECHAT_TEST_BROWSER") == "firefox"
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
# A microphone that beeps, and nobody who has to allow it.
MICROPHONE = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In Firefox, leave out what only Chromium's driver can do (permissions, a made-up microphone)."""
    if not FIREFOX:
        return
    out = [item for item in items if item.get_closest_marker("chromium_only")]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium; with `STONECHAT_TEST_BROWSER=firefox`, Playwright's Firefox, or the ordinary one that `$FIREFOX` names."""
    async with async_playwright() as playwright:
        if FIREFOX:
            named = os.environ.get("FIREFOX")
            browser = await playwright.firefox.launch(executable_path=named, channel="moz-firefox" if named else None)
        else:
            browser = await playwright.chromium.launch(executable_path=chromium(), args=QUIET + MICROPHONE)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """A fresh profile. Every complaint of the browser's about our own pages fails the test."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(15_000)
    page = await context.new_page()
    yield page
    await context.close()

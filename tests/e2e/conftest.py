"""One running Stonechat with its demo, one browser, and customers' sites, shared by the journeys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

from support.running import Running, Site, chromium, customer_site, running_stonechat


@pytest.fixture(scope="session")
async def stonechat(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    async with running_stonechat(tmp_path_factory.mktemp("e2e") / "data folder") as running:
        yield running


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with customer_site() as site:
        yield site


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
        )
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

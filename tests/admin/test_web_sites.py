"""Web sites in the console: added, watched, stopped, scheduled, deleted, each by whom it may be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from support.console import ConsoleWorld
from support.site import Reply, Site, html, run_part, serving, web_access

PATH = "/console/knowledge/sites"
FORM = {
    "url": "http://shop.example/",
    "type": "site",
    "schedule": "weekly",
    "max_pages": "500",
    "exclude": "/blog /old",
}


@pytest.fixture
async def place(world: ConsoleWorld) -> ConsoleWorld:
    """The world, in a tenant of the test's own."""
    return replace(world, tenant_id=await world.another_tenant())


@pytest.fixture
async def site(place: ConsoleWorld) -> AsyncIterator[Site]:
    """A site on the web, as the application sees it."""
    knowledge = place.services.knowledge
    before = knowledge.web
    async with serving(Site()) as made:
        web, _, _ = web_access(made)
        object.__setattr__(knowledge, "web", web)
        yield made
        object.__setattr__(knowledge, "web", before)
        await web.aclose()


async def fetched(place: ConsoleWorld) -> None:
    services = place.services
    while await run_part(services.database, services.knowledge, place.tenant_id):
        pass


async def test_a_site_is_added_watched_and_deleted(place: ConsoleWorld, site: Site) -> None:
    site.pages |= {"/": html("Start", "/a", "/ill", "/blog/x"), "/a": html("About"), "/ill": Reply(b"", 500)}
    editor = await place.signed_in("editor")
    assert "No web site yet" in (await editor.page(PATH)).text
    gone = await editor.htmx("POST", PATH, FORM)
    path = gone.response.headers["hx-redirect"]
    page = await editor.page(path)
    assert "At most 500 pages below this address, but for /blog, /old." in page.text
    state = page.one("#site-state")
    assert "Being fetched" in state.text()
    assert state.attributes["hx-trigger"] == "every 2s"
    await run_part(place.services.database, place.services.knowledge, place.tenant_id)
    await fetched(place)
    state = (await editor.htmx("GET", f"{path}?part=state")).one("#site-state")
    assert "hx-trigger" not in state.attributes, "nothing moves any more"
    assert "1 address could not be fetched" in state.text()
    failed = await editor.page(f"{path}?show=failed")
    assert "the site answers with an error (500)" in failed.text.lower()
    assert [row.text() for row in (await editor.page(f"{path}?show=kept")).all("#pages td a")] == [
        "http://shop.example/",
        "http://shop.example/a",
    ]
    listed = await editor.page(PATH)
    assert "Up to date" in listed.one("#sites").text()
    await editor.htmx("DELETE", path)
    assert (await editor.page(path, status=404)).status == 404


async def test_a_site_is_fetched_again_stopped_and_scheduled(place: ConsoleWorld, site: Site) -> None:
    site.pages["/"] = html("Start")
    editor = await place.signed_in("editor")
    path = (await editor.htmx("POST", PATH, FORM)).response.headers["hx-redirect"]
    stopped = await editor.htmx("POST", f"{path}/cancel")
    assert "Stopped" in stopped.one("#site-state").text()
    await fetched(place)
    assert site.asked == []
    assert "Being fetched" in (await editor.htmx("POST", f"{path}/sync")).text
    await fetched(place)
    saved = await editor.htmx("POST", f"{path}/schedule", {"schedule": "daily"})
    assert "again every day" in saved.text
    await editor.htmx("POST", f"{path}/schedule", {"schedule": "hourly"}, status=422)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"url": ""}, "Fill in the address"),
        ({"url": "not an address"}, "Copy it from the browser"),
        ({"url": "http://169.254.169.254/latest/"}, "not on the public internet"),
        ({"max_pages": "many"}, "A number from 1 to 5000"),
        ({"exclude": "blog"}, "begin with a slash"),
        ({"type": "everything"}, "Choose one of these"),
    ],
)
async def test_a_refused_form_says_what_to_do(
    place: ConsoleWorld, site: Site, change: dict[str, Any], sentence: str
) -> None:
    editor = await place.signed_in("editor")
    answer = await editor.htmx("POST", PATH, FORM | change, status=422)
    assert sentence in answer.text
    assert site.asked == []


async def test_viewers_see_and_change_nothing(place: ConsoleWorld, site: Site) -> None:
    site.pages["/"] = html("Start")
    path = (await (await place.signed_in("editor")).htmx("POST", PATH, FORM)).response.headers["hx-redirect"]
    viewer = await place.signed_in("viewer")
    assert (await viewer.page(PATH)).all("dialog form[hx-post]") == []
    assert (await viewer.page(path)).all("main button, main form") == []
    for method, where in (("POST", PATH), ("POST", f"{path}/sync"), ("POST", f"{path}/cancel"), ("DELETE", path)):
        await viewer.htmx(method, where, FORM if where == PATH else None, status=403)

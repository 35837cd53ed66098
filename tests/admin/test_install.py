"""Installing from the console: web sites in words, the line to copy, and whether it was seen."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.accounts.audit import list_audit
from stonechat.accounts.models import Role
from stonechat.assistant.agents import create_agent, publish_agent
from stonechat.embed.assets import load_assets
from stonechat.identity.domain_keys import DomainKeyView, NewDomainKey, create_domain_key, list_domain_keys
from stonechat.identity.lookup import SiteKey
from stonechat_admin.views.install import read_site, stamp
from support.console import Browser, ConsoleWorld
from support.identity import PLATFORM

PATH = "/console/install"


@pytest.fixture
async def tenant_id(world: ConsoleWorld) -> UUID:
    return await world.another_tenant()


@pytest.fixture
async def editor(world: ConsoleWorld, tenant_id: UUID) -> Browser:
    return await world.signed_in("editor", tenant_id=tenant_id)


@pytest.fixture
async def agent_id(world: ConsoleWorld, tenant_id: UUID) -> str:
    async with world.services.database.tenant(tenant_id) as session:
        return (await create_agent(session, system(tenant_id), config={"name": "Robin"})).id


async def make_key(world: ConsoleWorld, tenant_id: UUID, agent_id: str, **values: Any) -> DomainKeyView:
    new = NewDomainKey(**{"name": "Our shop", "origins": ["https://shop.example"], **values})
    async with world.services.database.tenant(tenant_id) as session:
        return await create_domain_key(session, system(tenant_id), agent_id=agent_id, new=new)


async def keys_of(world: ConsoleWorld, tenant_id: UUID) -> list[DomainKeyView]:
    async with world.services.database.tenant(tenant_id) as session:
        return (await list_domain_keys(session, system(tenant_id))).data


def typed(*sites: str, **more: str) -> dict[str, Any]:
    return {"name": "Our shop", "environment": "production", "site": list(sites), "openai_domain_key": "", **more}


async def test_without_an_agent_the_page_says_what_comes_first(editor: Browser) -> None:
    assert "First, an agent" in (await editor.page(PATH)).text


async def test_a_key_is_made_and_its_line_can_be_copied(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser
) -> None:
    page = await editor.page(PATH)
    assert "Not on any web site yet" in page.text
    assert "not published yet" in page.text
    sites = ["shop.example/cart?x=1", " https://*.Shop.example/ ", "", "https://shop.example"]
    answer = await editor.htmx("POST", f"{PATH}/{agent_id}/keys", typed(*sites))
    (key,) = await keys_of(world, tenant_id)
    assert answer.response.headers["hx-redirect"] == f"{PATH}?agent={agent_id}"
    assert key.origins == ["https://shop.example", "https://*.shop.example"]
    page = await editor.page(PATH)
    line = f'<script async src="{PLATFORM}/e/{key.key}.js"></script>'
    assert page.one(f"#html-{key.id}").text() == page.one(f"#shopify-{key.id}").text() == line
    assert line in page.one(f"#wordpress-{key.id}").text()
    for kind in ("react", "gtm"):
        assert key.key in page.one(f"#{kind}-{key.id}").text()
        assert f"{PLATFORM}/embed.js" in page.one(f"#{kind}-{key.id}").text()
    plain = f'<script async src="{PLATFORM}/embed.js" data-domain-key="{key.key}"></script>'
    assert page.one(f"#plain-{key.id}").text() == plain
    pinned, loader = page.one(f"#pinned-{key.id}").text(), load_assets().loader
    assert f'src="{PLATFORM}/embed/{loader.digest[:16]}/embed.js" integrity="{loader.integrity}"' in pinned


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("*", "An address starts with https://"),
        ("https://*", "A star may only stand"),
        ("http://shop.example", "Use https://"),
        ("ftp://shop.example", "An address starts with https://"),
        ("https://shop.*.example", "A star may only stand"),
        ("https://user@shop.example", "user name"),
        ("our shop", "An address starts with https://"),
        ("<script>alert(1)</script>", "An address starts with https://"),
    ],
)
async def test_a_site_that_cannot_be_is_explained_beside_it(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser, site: str, said: str
) -> None:
    answer = await editor.htmx("POST", f"{PATH}/{agent_id}/keys", typed("https://good.example", site), status=422)
    good, bad = answer.all("input[name=site]")
    assert good.attributes.get("aria-invalid") is None
    assert (bad.attributes["aria-invalid"], bad.attributes["value"]) == ("true", site)
    assert said in answer.one(f"#{bad.attributes['aria-describedby']}").text()
    assert "origin" not in answer.one(f"#{bad.attributes['aria-describedby']}").text()
    assert await keys_of(world, tenant_id) == []


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"name": " "}, "#new-name-error"),
        ({"environment": "moon"}, "#environment-error"),
        ({"openai_domain_key": "<b>"}, "#new-openai-error"),
    ],
)
async def test_other_fields_are_explained_too(agent_id: str, editor: Browser, more: dict[str, str], field: str) -> None:
    answer = await editor.htmx("POST", f"{PATH}/{agent_id}/keys", typed("https://a.example", **more), status=422)
    assert answer.one(field).text(strip=True)


async def test_a_key_is_changed_and_two_who_change_it_notice_each_other(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser
) -> None:
    key = await make_key(world, tenant_id, agent_id)
    path = f"{PATH}/{agent_id}/keys/{key.id}"
    dialog = await editor.htmx("GET", path)
    assert dialog.told["show"] == "edit-key"
    seen = dialog.one("input[name=seen]").attributes["value"] or ""
    values = typed("http://localhost:3000", environment="development", openai_domain_key="domain_pk_1", seen=seen)
    await editor.htmx("POST", path, values)
    await editor.htmx("POST", path, values)  # a double click is no conflict
    (changed,) = await keys_of(world, tenant_id)
    assert (changed.origins, changed.environment) == (["http://localhost:3000"], "development")
    assert changed.openai_domain_key == "domain_pk_1"
    late = await editor.htmx("POST", path, typed("https://late.example", seen=seen), status=422)
    assert "Somebody changed this key" in late.text
    assert "http://localhost:3000" in late.text
    assert late.one("input[name=site]").attributes["value"] == "https://late.example"
    (changed,) = await keys_of(world, tenant_id)
    fresh = {"seen": stamp(changed), "environment": "development", "openai_domain_key": "domain_pk_1"}
    same = await editor.htmx("POST", path, typed("http://localhost:3000", **fresh))
    assert same.response.headers["hx-redirect"]
    async with world.services.database.tenant(tenant_id) as session:
        log = (await list_audit(session, system(tenant_id), action="domain_key.patch")).data
    assert [entry.detail["fields"] for entry in log] == [["environment", "openai_domain_key", "origins"]]
    stricter = await editor.htmx("POST", path, typed("http://shop.example", seen=""), status=422)
    assert "Use https://" in stricter.text


async def test_a_second_key_and_the_end_of_the_first(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser
) -> None:
    key = await make_key(world, tenant_id, agent_id)
    path = f"{PATH}/{agent_id}/keys/{key.id}"
    await editor.htmx("POST", f"{path}/rotate")
    newer, older = await keys_of(world, tenant_id)
    assert (newer.origins, older.id) == (older.origins, key.id)
    assert newer.key != older.key
    await editor.htmx("DELETE", path)
    assert [held.id for held in await keys_of(world, tenant_id)] == [newer.id]
    assert (await editor.htmx("DELETE", path, status=404)).toast == "There is no such domain key."


async def test_it_is_seen_without_a_reload(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser
) -> None:
    key = await make_key(world, tenant_id, agent_id)
    place = (await editor.page(PATH)).one(f"#{key.id}-seen")
    assert place.attributes["hx-trigger"] == "every 10s"
    path = place.attributes["hx-get"] or ""
    waiting = await editor.htmx("GET", path)
    assert "Not seen yet" in waiting.text
    assert waiting.toast == ""
    site = SiteKey(
        tenant_id=tenant_id, domain_key_id=key.id, agent_id=agent_id, public_key=key.key, origins=tuple(key.origins)
    )
    await world.services.installs.note_seen(site, origin="https://shop.example")
    seen = await editor.htmx("GET", path)
    assert "on https://shop.example" in seen.text
    assert "https://shop.example shows the chat" in seen.toast
    assert "hx-trigger" not in seen.response.text, "nobody asks again"
    assert "Seen just now" in (await editor.page(PATH)).text


async def test_each_agent_has_its_own_keys(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, editor: Browser
) -> None:
    key = await make_key(world, tenant_id, agent_id)
    async with world.services.database.tenant(tenant_id) as session:
        wren = await create_agent(session, system(tenant_id), config={"name": "Wren"})
        await publish_agent(session, system(tenant_id), agent_id=wren.id, settings=world.services.settings)
    page = await editor.page(PATH)
    assert page.one("main nav a[aria-current=page]").text(strip=True) == "Wren"
    assert key.key not in page.response.text
    assert "not published yet" not in page.text
    assert key.key in (await editor.page(f"{PATH}?agent={agent_id}")).response.text


async def test_viewers_look_and_strangers_find_nothing(world: ConsoleWorld, tenant_id: UUID, agent_id: str) -> None:
    key = await make_key(world, tenant_id, agent_id)
    one = f"{PATH}/{agent_id}/keys/{key.id}"
    actions = [
        ("POST", f"{PATH}/{agent_id}/keys"),
        ("GET", one),
        ("POST", one),
        ("POST", f"{one}/rotate"),
        ("DELETE", one),
    ]
    viewer = await world.signed_in("viewer", tenant_id=tenant_id)
    page = await viewer.page(PATH)
    assert key.key in page.response.text
    assert page.all("main [hx-post], main [hx-delete]") == []
    stranger: Browser = await world.signed_in("owner", tenant_id=await world.another_tenant())
    roles: list[tuple[Browser, int]] = [(viewer, 403), (stranger, 404)]
    for browser, status in roles:
        for method, path in actions:
            await browser.htmx(method, path, typed() if method == "POST" else None, status=status)
    await viewer.htmx("GET", f"{one}/seen")
    await stranger.htmx("GET", f"{one}/seen", status=404)
    await stranger.page(f"{PATH}?agent={agent_id}", status=404)
    assert [held.id for held in await keys_of(world, tenant_id)] == [key.id]


@pytest.mark.parametrize(
    ("pasted", "read"),
    [
        ("shop.example", "https://shop.example"),
        (" www.shop.example/de/cart ", "https://www.shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("https://shop.example:8443/a?b#c", "https://shop.example:8443"),
        ("https://*.shop.example/", "https://*.shop.example"),
        ("localhost", "localhost"),
        ("user@shop.example", "user@shop.example"),
        ("a b.example", "a b.example"),
    ],
)
def test_what_people_paste_is_understood(pasted: str, read: str) -> None:
    assert read_site(pasted) == read


ROLES: list[Role] = ["viewer", "editor"]


@pytest.mark.parametrize("role", ROLES)
async def test_the_page_stays_small_with_many_keys(
    world: ConsoleWorld, tenant_id: UUID, agent_id: str, role: Role
) -> None:
    for number in range(12):
        await make_key(world, tenant_id, agent_id, name=f"Site {number}")
    browser = await world.signed_in(role, tenant_id=tenant_id)
    page = await browser.page(PATH)
    assert len(page.all("main article")) == 12
    assert len(page.all("[hx-trigger='every 10s']")) == 5
    assert len(page.all("main details[open]")) == 1

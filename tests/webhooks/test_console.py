"""The console's page of webhooks: made, shown once, tried, looked at, sent again; and the operators' page of all tenants'."""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import stonechat_admin
from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.operator.deliveries import list_deliveries
from stonechat.webhooks.catalogue import CATALOGUE
from stonechat.webhooks.endpoints import get_endpoint
from stonechat.webhooks.signing import new_signing_secret, signed_headers
from support.console import ConsoleWorld, check_policy, console_world
from support.operators import at_desk, press
from support.postgres import TestDatabase

PATH = "/console/webhooks"
TEMPLATES = Path(stonechat_admin.__file__ or "").parent / "templates" / "webhooks"


@pytest.fixture(scope="module")
async def world(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ConsoleWorld]:
    async with console_world(test_database.web_url, tmp_path_factory.mktemp("webhooks")) as world:
        yield world


async def made(world: ConsoleWorld, **form: Any) -> tuple[Any, str, str]:
    """An admin's browser, the endpoint's address in the console, and its secret."""
    admin = await world.signed_in("admin")
    data = {"url": "https://shop.example/hooks?key=hush", "description": "Orders", "all": "on"} | form
    answer = await admin.htmx("POST", PATH, data)
    assert answer.told == {"close": True, "show": "webhook-secret"}
    secret = answer.one("#new-secret").text(strip=True)
    link = answer.one("#webhook-secret a").attributes["href"] or ""
    return admin, link, secret


async def test_the_secret_is_shown_once(world: ConsoleWorld) -> None:
    admin, link, secret = await made(world)
    assert secret.startswith("whsec_")
    for path in (PATH, link):
        page = await admin.page(path)
        assert "Orders" in page.text
        assert secret not in page.response.text
    rotated = await admin.htmx("POST", f"{link}/rotate")
    assert rotated.one("#new-secret").text(strip=True) not in ("", secret)
    assert "signs as well until" in (await admin.page(link)).text


async def test_an_empty_page_says_what_to_do(world: ConsoleWorld) -> None:
    elsewhere = await world.another_tenant("Empty")
    admin = await world.signed_in("admin", tenant_id=elsewhere)
    assert "send a test" in (await admin.page(PATH)).text


async def test_every_kind_can_be_chosen_and_what_is_wrong_is_said(world: ConsoleWorld) -> None:
    admin = await world.signed_in("admin")
    boxes = (await admin.page(PATH)).all("input[name=events]")
    assert {box.attributes["value"] for box in boxes} == {kind.name for kind in CATALOGUE}
    refused = await admin.htmx("POST", PATH, {"url": "shop.example", "events": "document.ready"}, status=422)
    assert refused.one("#url").attributes["aria-invalid"] == "true"
    assert refused.one("#url").attributes["value"] == "shop.example"
    assert refused.one("input[name=events][checked]").attributes["value"] == "document.ready"
    nothing = await admin.htmx("POST", PATH, {"url": "https://shop.example"}, status=422)
    assert "Choose at least one" in nothing.one("#events-error").text()
    both = {"url": "https://shop.example", "all": "on", "events": "document.ready"}
    assert "Untick “Everything”" in (await admin.htmx("POST", PATH, both, status=422)).one("#events-error").text()
    many = {"url": "https://shop.example", "events": ["document.ready"] * 500}
    assert (await admin.htmx("POST", PATH, many)).all("#new-secret")


async def test_a_test_is_sent_looked_at_and_sent_again(world: ConsoleWorld) -> None:
    admin, link, _ = await made(world)
    sent = await admin.submit(f"{link}/test", {})
    where = sent.response.headers["location"]
    delivery = await admin.page(where)
    assert '"type":"webhook.test"' in delivery.response.text.replace("&#34;", '"')
    assert "waits" in delivery.text
    assert delivery.one("#delivery").attributes["hx-trigger"] == "load delay:3s"
    await admin.submit(f"{link}/switch", {})
    assert "failed" in (await admin.page(where)).text
    log = await admin.page(f"{link}?status=failed")
    assert "webhook.test" in log.text
    assert "switched off" in log.text
    await admin.submit(f"{where}/replay", {}, status=409)
    await admin.submit(f"{link}/switch", {"on": "on"})
    await admin.submit(f"{link}/replay", {})
    assert "waits" in (await admin.page(where)).text
    await admin.submit(f"{link}/delete", {})
    await admin.page(link, status=404)


async def test_the_audit_log_tells_what_was_done(world: ConsoleWorld) -> None:
    elsewhere = await world.another_tenant("Told")
    admin = await world.signed_in("admin", tenant_id=elsewhere)
    answer = await admin.htmx("POST", PATH, {"url": "https://shop.example/?key=hush", "all": "on"})
    link = answer.one("#webhook-secret a").attributes["href"] or ""
    await admin.submit((await admin.submit(f"{link}/test", {})).response.headers["location"] + "/replay", {})
    for on in ("", "on"):
        await admin.submit(f"{link}/switch", {"on": on})
    await admin.submit(f"{link}/replay", {})
    changed = {"url": "https://shop.example/", "description": "", "all": "on"}
    await admin.htmx("POST", link, changed)
    await admin.htmx("POST", f"{link}/rotate")
    await admin.submit(f"{link}/delete", {})
    log = await admin.page("/console/audit-log")
    for told in (
        "added a webhook endpoint",
        "sent a test to a webhook endpoint",
        "had a webhook sent again",
        "switched a webhook endpoint off",
        "switched a webhook endpoint on",
        "had 1 failed webhook sent again",
        "changed a webhook endpoint: what it is for, the kinds of events, the address",
        "made a new secret for a webhook endpoint",
        "deleted a webhook endpoint",
    ):
        assert told in log.text
    assert "hush" not in log.response.text


async def test_settings_are_changed(world: ConsoleWorld) -> None:
    admin, link, _ = await made(world)
    await admin.htmx("POST", link, {"url": "https://new.example/", "description": "", "events": ["document.ready"]})
    async with world.services.database.tenant(world.tenant_id) as session:
        view = await get_endpoint(session, system(world.tenant_id), endpoint_id=link.rpartition("/")[2])
    assert (view.url, view.description, view.events) == ("https://new.example/", "", ["document.ready"])
    refused = await admin.htmx("POST", link, {"url": "https://", "all": "on"}, status=422)
    assert refused.one("#url").attributes["aria-invalid"] == "true"


def test_the_example_for_receivers_tells_ours_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"base64": base64, "hashlib": hashlib, "hmac": hmac, "time": time}
    exec((TEMPLATES / "verify_python.txt").read_text(), names)
    secret, other, body = new_signing_secret(), new_signing_secret(), '{"a":"ä"}'.encode()
    headers = signed_headers([other, secret], message_id="evt_1", attempted_at=clock.now(), body=body)
    monkeypatch.setenv("STONECHAT_WEBHOOK_SECRET", secret)
    assert names["is_ours"](headers, body)
    assert not names["is_ours"](headers, body + b" ")
    assert not names["is_ours"]({**headers, "webhook-id": "evt_2"}, body)
    assert not names["is_ours"]({**headers, "webhook-timestamp": "1600000000"}, body)
    monkeypatch.setenv("STONECHAT_WEBHOOK_SECRET", new_signing_secret())
    assert not names["is_ours"](headers, body)
    for forged in ({}, {**headers, "webhook-signature": ""}, {**headers, "webhook-timestamp": "soon"}):
        assert not names["is_ours"](forged, body), "refused, not a fault in the receiver"
    for missing in headers:
        assert not names["is_ours"]({name: headers[name] for name in headers if name != missing}, body)


async def test_operators_see_what_became_of_it_and_not_what_it_said(world: ConsoleWorld) -> None:
    admin, link, _ = await made(world)
    sent = await admin.submit(f"{link}/test", {})
    delivery_id, endpoint_id = sent.response.headers["location"].rpartition("/")[2], link.rpartition("/")[2]
    desk = await at_desk(world)
    page = await desk.page(f"/operator/deliveries?tenant={world.tenant_id}")
    check_policy(page)
    row = page.one(f"#{delivery_id}")
    assert "shop.example" in row.text()
    for hidden in ("hush", "/hooks", "This is a test"):
        assert hidden not in page.response.text
    taken = (await desk.page(f"/operator/deliveries/export?tenant={world.tenant_id}")).response.text
    assert delivery_id in {line[0] for line in csv.reader(io.StringIO(taken))}
    assert "hush" not in taken
    again = f"/operator/deliveries/{world.tenant_id}/{endpoint_id}/{delivery_id}/replay"
    await press(desk, again)
    failed = f"/operator/deliveries?status=failed&tenant={world.tenant_id}"
    await admin.submit(f"{link}/switch", {})
    await press(desk, again, status=409)
    await press(desk, again.replace(delivery_id, "dlv_none"), status=404)
    off = await desk.page(failed)
    assert "switched off" in off.one(f"#{delivery_id}").text()
    assert not off.all(f'form[action="{again}"]'), "it would be refused"
    await admin.submit(f"{link}/switch", {"on": "on"})
    form = (await desk.page(failed)).one(f'form[action="{again}"]')
    assert (await press(desk, again, filled(form))).response.headers["location"] == failed, "back to what was looked at"


async def test_who_sends_again_comes_back_to_what_was_looked_at(world: ConsoleWorld) -> None:
    admin, link, _ = await made(world)
    await admin.submit(f"{link}/test", {})
    for path, back in ((f"{link}?status=failed", f"{link}?status=failed"), (f"{link}?status=x", link), (link, link)):
        form = (await admin.page(path)).one(f'form[action="{link}/replay"]')
        sent = await admin.submit(f"{link}/replay", filled(form))
        assert sent.response.headers["location"] == back


async def test_a_queue_that_is_full_is_told_of(world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    admin, link, _ = await made(world)
    await admin.submit(f"{link}/test", {})
    assert "the most there may be" not in (await admin.page(link)).text
    for module in ("stonechat.webhooks.fan_out", "stonechat_admin.views.webhooks"):
        monkeypatch.setattr(f"{module}.MAX_WAITING", 1)
    assert "1 deliveries wait here, the most there may be" in (await admin.page(link)).text
    assert "10,000 deliveries wait" in (await admin.submit(f"{link}/test", {}, status=409)).text


def filled(form: Any) -> dict[str, str]:
    """What a browser sends of a form that nobody changed."""
    return {field.attributes["name"]: field.attributes["value"] for field in form.css("input[name]")}


async def test_operators_page_through_many(world: ConsoleWorld) -> None:
    admin, link, _ = await made(world)
    for _ in range(3):
        await admin.submit(f"{link}/test", {})
    async with world.services.database.platform() as session:
        first, more = await list_deliveries(session, tenant=str(world.tenant_id), limit=2)
        second, _ = await list_deliveries(session, tenant=str(world.tenant_id), limit=2, before=more or "")
    assert len({row.delivery_id for row in (*first, *second)}) == len(first) + len(second) >= 3

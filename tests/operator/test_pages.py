"""Every page of the operators' room: it opens, in few queries, says what to do where there is nothing, and can be taken along."""

from __future__ import annotations

import csv
import io
import re

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.billing.models import BillingEventRow
from stonechat.operator.summaries import refresh_summaries
from support.console import ConsoleWorld, check_policy
from support.operator_routes import DOOR, operator_routes
from support.operators import at_desk

MAX_QUERIES = 12
LISTS = (
    "tenants",
    "announcements",
    "revenue",
    "plans",
    "events",
    "deliveries",
    "jobs",
    "mail",
    "flags",
    "settings",
    "operators",
    "audit",
)


@pytest.mark.parametrize("name", LISTS)
async def test_a_page_asks_few_queries_and_can_be_taken_along(world: ConsoleWorld, name: str) -> None:
    await refresh_summaries(world.services.database)
    browser = await at_desk(world)
    await browser.page(f"/operator/{name}")  # what is read once for all is read
    page = await browser.page(f"/operator/{name}")
    check_policy(page)
    assert len(page.queries) <= MAX_QUERIES, page.queries
    assert page.one("html").attributes["data-room"] == "operator"
    assert page.all(".room-band")
    assert page.all(f'a[href^="/operator/{name}/export"]')
    taken = await browser.page(f"/operator/{name}/export")
    assert taken.response.headers["content-type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(taken.response.text)))
    assert len(rows[0]) > 1


async def test_the_tenants_page_and_a_replay_ask_few_queries(world: ConsoleWorld) -> None:
    browser = await at_desk(world)
    for path in (f"/operator/tenants/{world.tenant_id}", "/operator/replay?on=pro", "/operator/plans/new?like=pro"):
        async with world.services.database.platform() as session:  # so that this request notes when they were last seen
            await session.execute(
                text("update operator_sessions set last_seen_at = last_seen_at - interval '2 minutes'")
            )
        page = await browser.page(path)
        assert len(page.queries) <= MAX_QUERIES, (path, page.queries)
        assert any("UPDATE operator_sessions" in query for query in page.queries), "as it is once a minute"
    taken = await browser.page("/operator/replay/export?on=pro")
    assert "Alder & Loom" in taken.response.text


@pytest.mark.parametrize(
    ("path", "teaches"),
    [
        ("/operator/tenants?q=nobody-is-called-that", "Search for part of a name"),
        ("/operator/jobs?status=failed&kind=none.such", "Everything that was to be done was done"),
        ("/operator/mail?recipient=nobody@example.com", "Search for a whole address"),
        ("/operator/audit?action=none", "Search for a whole address"),
        ("/operator/replay", "before anybody is on it"),
        ("/operator/deliveries?tenant=nobody", "Tenants add endpoints under Webhooks"),
    ],
)
async def test_an_empty_list_says_what_to_do(world: ConsoleWorld, path: str, teaches: str) -> None:
    assert teaches in (await (await at_desk(world)).page(path)).text


async def test_where_stripe_said_nothing_yet_the_page_says_how_it_would(world: ConsoleWorld) -> None:
    async with world.services.database.platform() as session:
        await session.execute(text("delete from billing_events"))
    assert "STRIPE_WEBHOOK_SECRET" in (await (await at_desk(world)).page("/operator/events")).text


async def test_the_first_page_says_what_waits_for_an_operator(world: ConsoleWorld) -> None:
    desk, now = await at_desk(world), clock.now()
    async with world.services.database.platform() as session:
        for number in range(2):
            event_id = f"evt_waits_{number}_{now.timestamp()}"
            session.add(
                BillingEventRow(
                    event_id=event_id, kind="invoice.paid", thin=False, livemode=False, happened_at=now, received_at=now,
                    tenant_id=world.tenant_id, state="failed",
                )
            )  # fmt: skip
    waiting = (await desk.page("/operator/tenants")).one('#trouble a[href="/operator/events?state=failed"]')
    assert re.fullmatch(r"[\d,]+ inbound events failed", waiting.text())
    assert not (await desk.page("/operator/tenants?q=Alder")).all("#trouble"), "who looks for one is not told of all"


async def test_nothing_opens_to_who_is_not_an_operator(world: ConsoleWorld) -> None:
    owner, stranger = await world.signed_in("owner"), world.stranger()
    tried = 0
    for method, path in operator_routes(world.app):
        if path in DOOR:
            continue
        address = path.format(
            tenant_id=world.tenant_id,
            note_id="x",
            override_id="x",
            grant_id="x",
            invoice_id="x",
            event_id="x",
            job_id="1",
            operator_id="x",
            announcement_id="x",
            endpoint_id="x",
            delivery_id="x",
            key="sign_up",
        )
        for browser in (owner, stranger):
            answer = await browser.request(method, address, data={"csrf": browser.token} if method == "POST" else None)
            assert answer.status == 303, f"{method} {path}: {answer.status}"
            assert answer.response.headers["location"].startswith("/operator/login?next="), path
        tried += 1
    assert tried > 40


@pytest.mark.parametrize(
    "path",
    [
        "/operator/tenants/not-a-tenant",
        "/operator/tenants/00000000-0000-0000-0000-000000000001",
        "/operator/replay?on=no_such_plan",
        "/operator/plans/new?like=no_such_plan",
    ],
)
async def test_what_is_not_there_is_not_found(world: ConsoleWorld, path: str) -> None:
    page = await (await at_desk(world)).page(path, status=404)
    assert page.one("html").attributes.get("data-room") == "operator"


@pytest.mark.parametrize(
    "path",
    [
        "/operator/tenants?q=%00&plan=%00&health=%00&sort=%00",
        "/operator/tenants?q=%25_%5C&page=2000",
        "/operator/jobs?status=%00&kind=%00&before=99999999999999999999999",
        "/operator/events?state=%00&before=%00",
        "/operator/deliveries?status=%00&tenant=%00&before=%00",
        "/operator/deliveries?before=00000000-0000-0000-0000-000000000001:%00",
        "/operator/mail?recipient=%00&before=%00",
        "/operator/audit?email=%00&before=%00",
    ],
)
async def test_odd_input_is_no_fault_of_ours(world: ConsoleWorld, path: str) -> None:
    await (await at_desk(world)).page(path)

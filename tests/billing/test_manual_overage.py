"""What goes beyond plans by hand: on the next invoice that we write, to the token, and on a last one when the plan ends."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest

from stonechat.accounts.actor import Actor
from stonechat.billing.invoices import InvoiceView, list_invoices
from stonechat.billing.manual import ManualBilling, assign_plan, mark_paid
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.plans.catalog import publish_plan, retire_plan
from stonechat.plans.terms import PRO
from stonechat.settings import Settings
from stonechat.usage.allowance import put_overage
from stonechat.usage.overage import charged, pieces
from support.billing import START, Hands, paying_tenant, use

URL = "http://127.0.0.1:8000"


@pytest.fixture
async def acme(database: Database, hands: Hands) -> UUID:
    """On Pro by hand since the clock's start, going on beyond it."""
    tenant_id = await paying_tenant(database)
    await assign(database, tenant_id, "pro")
    async with database.tenant(tenant_id) as session:
        await put_overage(session, operator(tenant_id), opt_in=True, spend_cap_micros=None)
    return tenant_id


def operator(tenant_id: UUID) -> Actor:
    return Actor(tenant_id, "operator", "op_1", frozenset({"admin"}))


async def assign(database: Database, tenant_id: UUID, plan: str) -> None:
    async with database.tenant(tenant_id) as session:
        await assign_plan(session, operator(tenant_id), plan_key=plan)


async def tick(database: Database, tenant_id: UUID) -> None:
    for _ in range(2):  # twice changes nothing
        await ManualBilling(database, public_url=URL).sync_customer(tenant_id)


async def invoices(database: Database, tenant_id: UUID) -> list[InvoiceView]:
    async with database.tenant(tenant_id) as session:
        return (await list_invoices(session, operator(tenant_id))).data


async def beyond(database: Database, tenant_id: UUID, *, until: datetime) -> int:
    """What `usage.overage` says is charged."""
    async with database.tenant(tenant_id) as session:
        found = await pieces(session, tenant_id, first=START, until=until)
        return sum(await charged(session, tenant_id, found))


async def pay(database: Database, tenant_id: UUID) -> None:
    """All that is open: who owes goes no further beyond its plan."""
    for invoice in await invoices(database, tenant_id):
        async with database.tenant(tenant_id) as session:
            await mark_paid(session, operator(tenant_id), invoice_id=invoice.id, public_url=URL)


def written(found: list[InvoiceView]) -> int:
    """Tokens on all lines."""
    return sum(line.quantity or 0 for invoice in found for line in invoice.lines)


async def test_the_next_invoice_says_how_much_at_which_price(database: Database, acme: UUID, hands: Hands) -> None:
    hands.move(days=5)
    await use(database, acme, tokens=61_234_567)
    ends = START + timedelta(days=31)
    hands.at = ends + timedelta(minutes=40)
    await tick(database, acme)
    newest, first = await invoices(database, acme)
    assert (first.total_cents, newest.total_cents) == (9_900, 9_900 + 247)
    plan, more = newest.lines
    assert (plan.amount_cents, plan.quantity) == (9_900, None)
    assert (more.quantity, more.amount_cents) == (1_234_567, 247)
    assert more.description == (
        "1,234,567 tokens beyond the plan, 1 March 2027 to 1 April 2027, at $2.00 for a million tokens"
    )
    assert written([newest]) == await beyond(database, acme, until=ends)


async def test_what_comes_late_is_on_the_invoice_after_and_all_agrees_to_the_token(
    database: Database, acme: UUID, hands: Hands
) -> None:
    await use(database, acme, tokens=60_000_000, at=hands.move(days=5))
    await use(database, acme, tokens=1_000_001, at=hands.move(days=1))
    await pay(database, acme)
    hands.at = START + timedelta(days=31, minutes=10)
    await tick(database, acme)
    await pay(database, acme)
    await use(database, acme, tokens=500_000, at=START + timedelta(days=30))
    await use(database, acme, tokens=62_000_000, at=hands.move(days=3))
    hands.at = START + timedelta(days=61, hours=1)
    await tick(database, acme)
    found = await invoices(database, acme)
    assert [line.quantity for line in found[0].lines] == [None, 500_000, 2_000_000]
    assert written(found) == 3_500_001 == await beyond(database, acme, until=START + timedelta(days=61))


@pytest.mark.parametrize("how", ["cancelled", "ended", "deleted", "free"])
async def test_a_plan_that_ends_leaves_a_last_invoice(database: Database, acme: UUID, hands: Hands, how: str) -> None:
    await use(database, acme, tokens=61_000_000, at=hands.move(days=5))
    billing = ManualBilling(database, public_url=URL)
    hands.move(minutes=5)
    match how:
        case "cancelled":
            await billing.cancel(acme, at_period_end=False)
        case "ended":
            await billing.cancel(acme, at_period_end=True)
            hands.at = START + timedelta(days=31, minutes=5)
        case "deleted":
            await BillingService(Settings(), database).before_deletion(acme)
        case "free":
            await assign(database, acme, "free")
    await tick(database, acme)
    last, _ = await invoices(database, acme)
    assert [(line.quantity, line.amount_cents) for line in last.lines] == [(1_000_000, 200)]
    assert (last.total_cents, last.due_cents, last.status) == (200, 200, "open")
    await use(database, acme, tokens=100_000, at=START + timedelta(days=4))  # came into the ledger late
    hands.move(hours=1)
    await tick(database, acme)
    found = await invoices(database, acme)
    assert written(found) == (1_000_000 if how == "free" else 1_100_000)


async def test_less_than_a_cent_is_no_invoice(database: Database, acme: UUID, hands: Hands) -> None:
    await use(database, acme, tokens=60_000_002, at=hands.move(days=5))
    hands.move(minutes=5)
    await ManualBilling(database, public_url=URL).cancel(acme, at_period_end=False)
    assert len(await invoices(database, acme)) == 1


async def test_another_currency_has_an_invoice_of_its_own(database: Database, acme: UUID, hands: Hands) -> None:
    euros = PRO.model_copy(update={"key": f"euro_{acme.hex[-8:]}", "currency": "eur"})
    async with database.platform() as session:
        await publish_plan(session, euros, by="a test")
    try:
        await use(database, acme, tokens=61_000_000, at=hands.move(days=5))
        hands.move(minutes=5)
        await assign(database, acme, euros.key)
        found = {(invoice.currency, invoice.total_cents) for invoice in await invoices(database, acme)}
        assert found == {("usd", 9_900), ("eur", 9_900), ("usd", 200)}
    finally:
        async with database.platform() as session:
            await retire_plan(session, euros.key, by="a test")

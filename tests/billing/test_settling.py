"""What came too late for its invoice: put on the next one or waived, once, whatever dies in between."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from stonechat.accounts.actor import Actor
from stonechat.billing.checks import remainder
from stonechat.billing.customers import ensure_customer
from stonechat.billing.meters import meter_tenant
from stonechat.billing.models import OverageSettlementRow
from stonechat.billing.settling import How, decide, list_late, list_settlements
from stonechat.db.session import Database
from stonechat.errors import Conflict
from support.billing import START, Hands, outbox, use
from support.crashes import Killed, mortal
from support.stripe_gateway import stripe_in_process
from support.stripe_shop import Shop


async def late(shop: Shop, tokens: int = 1_500_000) -> None:
    """A tenant on Pro whose use beyond it could not be told until its invoice was made."""
    await shop.had_a_trial()
    await shop.buy("pro")
    await shop.overage(True)
    shop.hands.move(minutes=5)
    await use(shop.database, shop.tenant_id, tokens=60_000_000 + tokens)
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    ends = datetime.fromtimestamp(subscription["items"]["data"][0]["current_period_end"], UTC)
    shop.stripe.outage("unreachable")
    shop.hands.at = ends + timedelta(minutes=50)
    async with shop.database.tenant(shop.tenant_id) as session:
        await meter_tenant(session, shop.tenant_id)
    shop.hands.at = ends + timedelta(minutes=70)
    shop.stripe.outage(None)
    shop.stripe.double.tick()
    await shop.tell()
    await shop.sync()
    assert {row.state for row in await outbox(shop.database, shop.tenant_id)} == {"expired"}


async def decided(shop: Shop, how: How, reason: str = "An outage.") -> list[OverageSettlementRow]:
    operator = Actor(shop.tenant_id, "operator", "op_1", frozenset({"admin"}))
    async with shop.database.tenant(shop.tenant_id) as session:
        return await decide(session, operator, how=how, reason=reason)


async def settled(shop: Shop) -> list[OverageSettlementRow]:
    async with shop.database.tenant(shop.tenant_id) as session:
        return await list_settlements(session, shop.tenant_id)


async def open_tokens(shop: Shop) -> int:
    async with shop.database.tenant(shop.tenant_id) as session:
        return sum(one.tokens for one in await list_late(session, shop.tenant_id))


async def test_what_missed_its_invoice_is_a_line_of_the_next_one(shop: Shop) -> None:
    before = await remainder(shop.database)
    await late(shop)
    assert await shop.invoiced() == 0
    seen = await remainder(shop.database)
    assert (seen.tokens - before.tokens, seen.tenants - before.tenants) == (1_500_000, 1)
    async with shop.database.tenant(shop.tenant_id) as session:
        (one,) = await list_late(session, shop.tenant_id)
    assert (one.tokens, one.amount_cents, one.price.micros_per_1k_tokens) == (1_500_000, 300, 2_000)
    await decided(shop, "invoice")
    assert await remainder(shop.database) == before, "somebody has decided"
    with pytest.raises(Conflict):
        await decided(shop, "invoice")
    with pytest.raises(Conflict):
        await decided(shop, "waive")
    for _ in range(3):
        await shop.tell()
    (row,) = await settled(shop)
    assert (row.state, row.amount_cents, row.decided_by) == ("told", 300, "op_1")
    assert await shop.invoiced() == 0, "on the next invoice, which is not made yet"
    await shop.end_of_period()
    assert await shop.apart() == [(1_500_000, 300)]
    invoice = (await shop.invoices())[0]
    assert invoice.total_cents == 9_900 + 300
    assert "1,500,000 tokens beyond the plan, 1 March 2027" in next(
        line.description for line in invoice.lines if line.quantity == 1_500_000
    )
    (row,) = await settled(shop)
    assert (row.state, row.invoice_id) == ("invoiced", invoice.id)


async def test_what_is_waived_is_on_no_invoice_and_says_why(shop: Shop) -> None:
    await late(shop)
    await decided(shop, "waive", reason="We were down.")
    (row,) = await settled(shop)
    assert (row.state, row.tokens, row.reason) == ("waived", 1_500_000, "We were down.")
    await shop.end_of_period()
    assert await shop.invoiced() == 0
    assert await open_tokens(shop) == 0


async def test_without_a_subscription_it_is_an_invoice_of_its_own(shop: Shop) -> None:
    await late(shop)
    await shop.billing.cancel(shop.actor, at_period_end=False)
    number = len(shop.stripe.double.invoices(await shop.customer_id()))
    await decided(shop, "invoice")
    for _ in range(2):
        await shop.tell()
    (row,) = await settled(shop)
    assert row.state == "invoiced"
    shop.hands.move(hours=2)
    shop.stripe.double.tick()
    await shop.sync()
    assert len(shop.stripe.double.invoices(await shop.customer_id())) == number + 1
    invoice = next(one for one in await shop.invoices() if one.id == row.invoice_id)
    assert (invoice.total_cents, invoice.status) == (300, "paid")


@pytest.mark.parametrize("lives", [True, False])
async def test_a_death_at_any_step_loses_nothing_and_doubles_nothing(
    database: Database, hands: Hands, lives: bool
) -> None:
    """Of the decision and of telling it: each statement, each commit, each request before it leaves and after its effect."""
    step, survived = 0, False
    while not survived:
        step, hands.at = step + 1, START
        async with stripe_in_process(clock=hands.now) as stripe:
            shop = await Shop(database, stripe, hands).open()
            await late(shop)
            if not lives:
                await shop.billing.cancel(shop.actor, at_period_end=False)
            with mortal(database, stripe.process):
                stripe.process.start(dies_at=step)
                with suppress(Killed):
                    await decided(shop, "invoice")
                    await shop.billing.tell_settlements(shop.tenant_id)
                    survived = True
                stripe.process.revive()
            with suppress(Conflict):  # the operator looks, and asks again where nothing came of it
                await decided(shop, "invoice")
            hands.move(days=2)  # Stripe has forgotten the keys by then
            await shop.tell()
            hands.move(hours=2)
            stripe.double.tick()
            if lives:
                await shop.end_of_period()
            assert await shop.apart() == [(1_500_000, 300)], step
            assert await open_tokens(shop) == 0, step
            hands.move(days=1)
            await shop.tell()
            assert [row.state for row in await settled(shop)] == ["invoiced"], step
    assert step > 20, "the deaths were at every step"


async def test_a_lost_answer_is_found_again(shop: Shop) -> None:
    await late(shop)
    await decided(shop, "invoice")
    shop.stripe.double.outage("lost", paths="/v1/invoiceitems", times=1)
    await shop.tell()
    (row,) = await settled(shop)
    assert (row.state, row.attempts, row.error is not None) == ("waiting", 1, True)
    shop.hands.move(hours=30)
    await shop.tell()
    await shop.end_of_period()
    assert await shop.apart() == [(1_500_000, 300)]


async def test_what_stripe_refuses_is_open_again(shop: Shop) -> None:
    await late(shop)
    async with shop.database.tenant(shop.tenant_id) as session:
        row = await ensure_customer(session, shop.tenant_id, provider="stripe")
        known, row.customer_id = row.customer_id, "cus_of_nobody"
    await decided(shop, "invoice")
    async with shop.database.tenant(shop.tenant_id) as session:
        (await ensure_customer(session, shop.tenant_id, provider="stripe")).customer_id = known
    await shop.billing.tell_settlements(shop.tenant_id)
    (row_,) = await settled(shop)
    assert (row_.state, await open_tokens(shop)) == ("refused", 1_500_000)
    await decided(shop, "waive")
    assert await open_tokens(shop) == 0


async def test_an_item_that_was_deleted_at_stripe_is_decided_about_anew(shop: Shop) -> None:
    await late(shop)
    await decided(shop, "invoice")
    await shop.tell()
    (row,) = await settled(shop)
    await shop.stripe.client.v1.invoice_items.delete_async(row.item_id)
    shop.hands.move(days=1, hours=1)
    await shop.tell()
    assert ((await settled(shop))[0].state, await open_tokens(shop)) == ("refused", 1_500_000)


async def test_a_tenant_is_not_deleted_before_stripe_knows_what_it_owes(shop: Shop) -> None:
    await late(shop)
    await decided(shop, "invoice")
    await shop.billing.before_deletion(shop.tenant_id)
    shop.hands.move(hours=2)
    shop.stripe.double.tick()
    assert await shop.apart() == [(1_500_000, 300)]


async def test_rows_of_the_time_before_prices_were_noted_are_priced_by_what_was_agreed(shop: Shop) -> None:
    await late(shop)
    async with shop.database.tenant(shop.tenant_id) as session:
        (one,) = await list_late(session, shop.tenant_id)
    for row in await outbox(shop.database, shop.tenant_id):
        async with shop.database.tenant(shop.tenant_id) as session:
            held = await session.merge(row)
            held.micros_per_1k_tokens = held.currency = None
    async with shop.database.tenant(shop.tenant_id) as session:
        assert await list_late(session, shop.tenant_id) == [replace(one)]

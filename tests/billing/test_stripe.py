"""Plans by Stripe: from Checkout to the end, with what is told of changes first, and a copy that is always Stripe's."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import Actor
from stonechat.billing.dunning import run_clocks
from stonechat.billing.models import BillingEventRow
from stonechat.billing.tasks import job_handlers, look_at_customers
from stonechat.billing.webhooks import receive
from stonechat.db.session import Database
from stonechat.errors import BillingOff, InvalidInput, PaymentDeclined, ScopeMissing, StonechatError
from stonechat.plans.platform_settings import put_setting
from support.billing import (
    SECRET,
    customer,
    mails_to,
    signature,
    thin,
    use,
    waiting_jobs,
)
from support.stripe_shop import BACK, URL, Shop


async def test_a_plan_is_bought_paid_and_holds(shop: Shop) -> None:
    held = await shop.buy("business")
    assert (held.plan_key, held.provider, held.status) == ("business", "stripe", "active")
    assert await shop.holds() == "business"
    (invoice,) = await shop.invoices()
    assert (invoice.status, invoice.total_cents, invoice.paid_cents, invoice.due_cents) == ("paid", 39900, 39900, 0)
    assert invoice.hosted_url is not None
    with pytest.raises(BillingOff):
        await shop.billing.checkout(shop.actor, "pro", return_url=BACK)
    assert (await shop.billing.portal(shop.actor, return_url=BACK)).startswith("http")


async def test_the_same_prices_serve_everybody(shop: Shop, database: Database) -> None:
    for _ in range(3):
        other = await Shop(database, shop.stripe, shop.hands).open()
        await other.buy("business")
    prices = list(shop.stripe.double.account.rows("price"))
    assert sorted(price["lookup_key"] for price in prices) == ["stonechat_business_v1", "stonechat_overage_usd_1500"]


async def test_a_trial_asks_for_no_card_and_ends_by_itself(shop: Shop) -> None:
    preview = await shop.billing.preview_change(shop.actor, "starter")
    assert (preview.kind, preview.due_now_cents, preview.trial_days) == ("subscribe", 0, 14)
    url = await shop.billing.checkout(shop.actor, "starter", return_url=BACK)
    shop.stripe.double.pay(url, number="")
    held = await shop.sync()
    assert held.status == "trialing"
    assert await shop.holds() == "starter"
    shop.hands.move(days=12)
    assert await shop.notice() == "trial_ending"
    for _ in range(2):
        await run_clocks(shop.database, public_url=URL)
    assert len(await mails_to(shop.database, shop.tenant_id)) == 1
    shop.hands.move(days=3)
    shop.stripe.double.tick()
    assert (await shop.sync()).status == "canceled"
    assert await shop.holds() == "free"
    preview = await shop.billing.preview_change(shop.actor, "starter")
    assert (preview.due_now_cents, preview.trial_days) == (2900, 0), "a tenant has one trial in its life"


async def test_what_an_upgrade_costs_is_said_first_and_then_done(shop: Shop) -> None:
    await shop.had_a_trial()
    await shop.buy("pro")
    shop.hands.move(days=10)
    preview = await shop.billing.preview_change(shop.actor, "business")
    assert preview.kind == "upgrade"
    assert 0 < preview.due_now_cents < 39900
    assert sum(line.amount_cents for line in preview.lines) == preview.due_now_cents
    await shop.billing.change_plan(shop.actor, "business")
    assert await shop.holds() == "business"
    assert (await shop.invoices())[0].total_cents == preview.due_now_cents
    before = len(await shop.invoices())
    await shop.billing.change_plan(shop.actor, "business")
    assert len(await shop.invoices()) == before


async def test_an_upgrade_that_cannot_be_paid_changes_nothing(shop: Shop) -> None:
    await shop.had_a_trial()
    await shop.buy("pro")
    await shop.billing.change_plan(shop.actor, "starter")
    shop.stripe.double.decline(await shop.customer_id())
    with pytest.raises(PaymentDeclined):
        await shop.billing.change_plan(shop.actor, "business")
    held = await shop.sync()
    assert (held.plan_key, held.pending_plan_key) == ("pro", "starter")


async def test_a_downgrade_waits_for_the_periods_end_and_can_be_taken_back(shop: Shop) -> None:
    await shop.buy("business")
    preview = await shop.billing.preview_change(shop.actor, "starter")
    assert (preview.kind, preview.due_now_cents) == ("downgrade", 0)
    for _ in range(2):
        await shop.billing.change_plan(shop.actor, "starter")
    held = await shop.held()
    assert (held.plan_key, held.pending_plan_key, held.pending_plan_at) == ("business", "starter", held.period_end)
    assert preview.takes_effect_at == held.period_end
    await shop.billing.resume(shop.actor)
    assert (await shop.held()).pending_plan_key is None
    await shop.billing.change_plan(shop.actor, "starter")
    assert await shop.holds() == "business"
    shop.hands.move(days=32)
    shop.stripe.double.tick()
    held = await shop.sync()
    assert (held.plan_key, held.status, held.pending_plan_key) == ("starter", "active", None)
    assert (await shop.invoices())[0].total_cents == 2900


async def test_cancelling_can_be_taken_back_until_it_happens(shop: Shop) -> None:
    await shop.buy("business")
    for _ in range(2):
        await shop.billing.cancel(shop.actor)
    with pytest.raises(BillingOff):
        await shop.billing.change_plan(shop.actor, "free")
    await shop.sync()
    assert await shop.notice() == "canceling"
    assert await shop.holds() == "business"
    await shop.billing.resume(shop.actor)
    assert await shop.notice() is None
    await shop.billing.cancel(shop.actor)
    shop.hands.move(days=32)
    shop.stripe.double.tick()
    assert (await shop.sync()).status == "canceled"
    assert await shop.holds() == "free"
    assert await shop.notice() == "canceled"
    with pytest.raises(BillingOff):
        await shop.billing.resume(shop.actor)
    assert (await shop.buy("business")).status == "active"


async def test_a_failed_card_starts_the_grace_clock_and_paying_ends_it(shop: Shop) -> None:
    await shop.buy("business")
    shop.stripe.double.dunning(retry_days=(3, 5, 7), then="unpaid")
    shop.stripe.double.decline(await shop.customer_id())
    shop.hands.move(days=32)
    shop.stripe.double.tick()
    held = await shop.sync()
    assert held.status == "past_due"
    assert await shop.holds() == "business"
    assert await shop.notice() == "past_due"
    until = held.grace_until
    shop.hands.move(days=1)
    assert (await shop.sync()).grace_until == until, "the clock is not set back by looking"
    shop.hands.move(days=7)
    assert await shop.holds() == "free"
    assert (await shop.sync()).status == "unpaid"
    shop.stripe.double.decline(await shop.customer_id(), None)
    (owed,) = [one for one in shop.stripe.double.invoices(await shop.customer_id()) if one["status"] == "open"]
    await shop.stripe.client.v1.invoices.pay_async(owed["id"])
    assert (await shop.sync()).status == "active"
    assert await shop.holds() == "business"
    assert len(await mails_to(shop.database, shop.tenant_id)) == 3  # failed, ended, thanked


async def test_a_closed_tab_cannot_become_a_second_subscription(shop: Shop) -> None:
    first = await shop.billing.checkout(shop.actor, "business", return_url=BACK)
    second = await shop.billing.checkout(shop.actor, "pro", return_url=BACK)
    with pytest.raises(Exception, match="over"):
        shop.stripe.double.pay(first)
    shop.stripe.double.pay(second)
    assert (await shop.sync()).plan_key == "pro"


async def test_a_customer_deleted_at_stripe_can_come_back(shop: Shop) -> None:
    await shop.buy("business")
    gone = await shop.customer_id()
    await shop.stripe.client.v1.customers.delete_async(gone)
    assert (await shop.sync()).status == "canceled"
    assert (await customer(shop.database, shop.tenant_id)).customer_id is None
    shop.hands.move(hours=1)
    assert (await shop.buy("business")).status == "active"
    assert await shop.customer_id() != gone


async def test_a_price_that_is_no_plan_of_ours_changes_nothing(shop: Shop) -> None:
    await shop.buy("business")
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    product = await shop.stripe.client.v1.products.create_async({"name": "Something"})
    price = await shop.stripe.client.v1.prices.create_async(
        {"product": product.id, "currency": "usd", "unit_amount": 1, "recurring": {"interval": "month"}}
    )
    items = [{"id": item["id"], "deleted": True} for item in subscription["items"]["data"]]
    await shop.stripe.client.v1.subscriptions.update_async(
        subscription["id"], {"items": [{"price": price.id}, *items], "proration_behavior": "none"}
    )
    assert (await shop.sync()).plan_key == "business"
    assert "no plan of ours" in ((await customer(shop.database, shop.tenant_id)).sync_error or "")


async def test_taxes_and_codes_are_stripes_matter(shop: Shop) -> None:
    async with shop.database.platform() as session:
        await put_setting(session, "billing_tax", value=True, by="test")
    try:
        await shop.billing.checkout(shop.actor, "business", return_url=BACK)
    finally:
        async with shop.database.platform() as session:
            await put_setting(session, "billing_tax", value=None, by="test")
    (session_,) = shop.stripe.double.account.rows("checkout.session")
    assert session_["automatic_tax"]["enabled"]
    assert session_["allow_promotion_codes"]


async def test_a_suspended_tenant_is_not_charged(shop: Shop) -> None:
    await shop.buy("business")

    def paused() -> bool:
        (subscription,) = shop.stripe.double.account.rows("subscription")
        return subscription["pause_collection"] is not None

    for _ in range(2):
        await shop.billing.suspended(shop.tenant_id, suspended=True)
    assert paused()
    await shop.billing.suspended(shop.tenant_id, suspended=False)
    assert not paused()


async def test_before_a_tenant_is_deleted_its_use_is_told_and_its_subscription_ended(shop: Shop) -> None:
    await shop.buy("business")
    await shop.overage(True)
    shop.hands.move(minutes=5)
    await use(shop.database, shop.tenant_id, tokens=300_000_900)
    shop.hands.move(hours=2, minutes=20)
    await use(shop.database, shop.tenant_id, tokens=100)
    shop.hands.move(seconds=1)
    for _ in range(2):
        await shop.billing.before_deletion(shop.tenant_id)
    assert shop.stripe.told(await shop.customer_id()) == 1000
    assert [one["status"] for one in shop.stripe.double.subscriptions(await shop.customer_id())] == ["canceled"]
    shop.stripe.outage("unreachable")
    with pytest.raises(StonechatError):
        await shop.billing.before_deletion(shop.tenant_id)


async def test_many_syncs_at_once_do_one_after_another_and_every_effect_once(shop: Shop) -> None:
    url = await shop.billing.checkout(shop.actor, "business", return_url=BACK)
    shop.stripe.double.pay(url)
    await asyncio.gather(*(shop.billing.sync(shop.tenant_id) for _ in range(6)))
    assert await shop.holds() == "business"
    assert len(await shop.invoices()) == 1
    row = await customer(shop.database, shop.tenant_id)
    assert (row.sync_lock, row.sync_error) == (None, None)


async def test_events_thin_and_plain_bring_the_copy_up_to_date(shop: Shop) -> None:
    await shop.buy("business")
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    await shop.stripe.client.v1.subscriptions.update_async(subscription["id"], {"cancel_at_period_end": True})
    handlers = job_handlers(shop.database, shop.billing)
    body = thin("subscription", subscription["id"], event_id=(event_id := f"evt_{shop.tenant_id.hex}"))
    assert await receive(shop.database, body, signature=signature(body), secrets=[SECRET])
    await handlers["billing.locate"](UUID(int=0), {"event_id": event_id})
    assert await waiting_jobs(shop.database, shop.tenant_id, "billing.sync") == 1
    shop.hands.move(seconds=1)
    await handlers["billing.sync"](shop.tenant_id, {})
    assert (await shop.held()).cancel_at is not None
    async with shop.database.directory() as session:
        event = await session.get(BillingEventRow, event_id)
    assert event is not None
    assert (event.state, event.tenant_id) == ("done", shop.tenant_id)


async def test_the_hourly_look_finds_what_no_event_told(shop: Shop) -> None:
    await shop.buy("business")
    shop.hands.move(minutes=10)
    await look_at_customers(shop.database, shop.billing, public_url=URL)
    assert await waiting_jobs(shop.database, shop.tenant_id, "billing.sync") == 0
    shop.hands.move(hours=1)
    await look_at_customers(shop.database, shop.billing, public_url=URL)
    assert await waiting_jobs(shop.database, shop.tenant_id, "billing.sync") == 1


@pytest.mark.parametrize("plan", ["self_hosted", "free"])
async def test_what_is_not_for_sale_is_not_sold(shop: Shop, plan: str) -> None:
    with pytest.raises((InvalidInput, BillingOff)):
        await shop.billing.checkout(shop.actor, plan, return_url=BACK)


async def test_only_admins_decide_about_money(shop: Shop) -> None:
    editor = Actor(shop.tenant_id, "person", "per_1", frozenset({"write"}))
    for verb in (
        shop.billing.checkout(editor, "pro", return_url=BACK),
        shop.billing.portal(editor, return_url=BACK),
        shop.billing.preview_change(editor, "pro"),
        shop.billing.change_plan(editor, "pro"),
        shop.billing.cancel(editor),
        shop.billing.resume(editor),
    ):
        with pytest.raises(ScopeMissing):
            await verb


async def test_a_lock_whose_holder_died_is_taken_over(shop: Shop) -> None:
    await shop.buy("business")
    async with shop.database.tenant(shop.tenant_id) as session:
        await session.execute(
            text("update billing_customers set sync_lock = 'dead', sync_locked_until = now() - interval '1 second'")
        )
    assert (await shop.sync()).status == "active"
    assert (await customer(shop.database, shop.tenant_id)).sync_lock is None

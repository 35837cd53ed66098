"""What goes beyond a plan: charged from the moment it was agreed to, invoiced to the token, whatever changes meanwhile."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from stonechat.billing import overage
from stonechat.billing.counting import counting_of, observe
from stonechat.billing.customers import ensure_customer
from stonechat.billing.models import ALL_USE, MeterRow
from stonechat.billing.reading import overage_item, read_subscriptions
from stonechat.db.session import Database
from stonechat.errors import PaymentDeclined, Unavailable, UpstreamFailed
from stonechat.plans.catalog import publish_plan, retire_plan
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import get_subscription
from stonechat.plans.terms import PRO
from support.billing import START, Hands, customer, outbox, use
from support.crashes import Killed
from support.stripe_gateway import stripe_in_process
from support.stripe_shop import BACK, Shop


async def pro(shop: Shop) -> None:
    await shop.had_a_trial()
    await shop.buy("pro")


async def used(shop: Shop, tokens: int) -> None:
    shop.hands.move(minutes=5)
    await use(shop.database, shop.tenant_id, tokens=tokens)
    shop.hands.move(minutes=5)


async def items(shop: Shop) -> list[str]:
    """The prices of the subscription, by their names."""
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    return sorted(item["price"]["lookup_key"] for item in subscription["items"]["data"])


async def test_the_item_is_there_before_anybody_chooses_and_costs_nothing(shop: Shop) -> None:
    await pro(shop)
    for opt_in in (True, False, True, False):
        assert await items(shop) == ["stonechat_overage_usd_2000", "stonechat_pro_v1"]
        await shop.overage(opt_in)
    await used(shop, 70_000_000)
    await shop.end_of_period()
    assert (await shop.invoiced(), await outbox(shop.database, shop.tenant_id)) == (0, [])
    assert [invoice.total_cents for invoice in await shop.invoices()] == [9_900, 9_900]
    assert all(line.quantity for invoice in await shop.invoices() for line in invoice.lines), "no line about nothing"


async def test_who_chooses_late_pays_for_what_comes_after_and_for_all_of_it(shop: Shop) -> None:
    await pro(shop)
    await used(shop, 60_500_000)
    await shop.overage(True)
    await used(shop, 1_000_000)
    await shop.tell()
    await shop.overage(False)
    await used(shop, 300_000)
    await shop.overage(True)
    await used(shop, 7)
    assert await shop.owed() == 1_000_007
    await shop.end_of_period()
    assert await shop.invoiced() == 1_000_007
    assert (await shop.invoices())[0].total_cents == 9_900 + 200
    assert await shop.owed() == 0, "a new period"


async def test_an_upgrade_includes_what_the_larger_plan_does_and_what_was_beyond_stays_charged(shop: Shop) -> None:
    await pro(shop)
    await shop.overage(True)
    await used(shop, 62_000_000)
    preview = await shop.billing.preview_change(shop.actor, "business")
    assert "300,000,000 tokens for the whole of this period; 62,000,000 of them are used" in preview.notes[0]
    assert "2,000,000 tokens beyond your plan" in preview.notes[1]
    await shop.billing.change_plan(shop.actor, "business")
    assert (await shop.invoices())[0].total_cents == preview.due_now_cents
    assert await shop.owed() == 2_000_000
    await shop.sync()
    assert await items(shop) == ["stonechat_business_v1", "stonechat_overage_usd_1500"]
    await used(shop, 238_000_000)
    assert await shop.owed() == 2_000_000
    await used(shop, 4_000_000)
    assert await shop.owed() == 6_000_000
    await shop.end_of_period()
    assert await shop.invoiced() == 6_000_000
    assert (await shop.invoices())[0].total_cents == 39_900 + 400 + 600, "each at the price of its time"


async def test_overage_chosen_while_a_downgrade_waits_is_counted_at_once_and_the_downgrade_stays(shop: Shop) -> None:
    await shop.buy("business")
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    (item,) = [
        one for one in subscription["items"]["data"] if one["price"]["lookup_key"] == "stonechat_overage_usd_1500"
    ]
    change = {"items": [{"id": item["id"], "deleted": True}], "proration_behavior": "none"}
    await shop.stripe.gateway.update_subscription(subscription["id"], change)
    await shop.billing.change_plan(shop.actor, "pro")
    assert await items(shop) == ["stonechat_business_v1"]
    preview = await shop.billing.preview_change(shop.actor, "starter")
    assert "10,000,000 tokens a month are included" in preview.notes[0]
    await shop.overage(True)
    held = await shop.sync()
    assert (held.pending_plan_key, await items(shop)) == (
        "pro",
        ["stonechat_business_v1", "stonechat_overage_usd_1500"],
    )
    await used(shop, 300_000_500)
    await shop.end_of_period()
    assert (await shop.held()).plan_key == "pro"
    assert await shop.invoiced() == 500
    shop.hands.move(hours=2)
    await shop.sync()
    assert await items(shop) == ["stonechat_overage_usd_2000", "stonechat_pro_v1"]
    await used(shop, 60_000_003)
    await shop.end_of_period()
    assert await shop.invoiced() == 503


async def test_a_plan_without_overage_loses_the_item_once_nothing_is_on_it(shop: Shop) -> None:
    await pro(shop)
    await shop.billing.change_plan(shop.actor, "starter")
    await shop.end_of_period()
    assert await items(shop) == ["stonechat_overage_usd_2000", "stonechat_starter_v1"], "the last hour still counts"
    shop.hands.move(hours=2)
    await shop.sync()
    assert await items(shop) == ["stonechat_starter_v1"]


async def test_the_tiered_item_of_before_stays_until_it_is_invoiced(shop: Shop) -> None:
    await pro(shop)
    gateway = shop.stripe.gateway
    meter = await gateway.ensure_meter(ALL_USE)
    price = await gateway.create_price(
        {
            "product": "stonechat_pro", "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            "tiers": [{"up_to": 60_000_000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.0002"}],
            "metadata": {"plan_key": "pro", "plan_version": "1", "part": "overage"},
        },
        lookup_key="stonechat_pro_v1_overage",
    )  # fmt: skip
    (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
    await gateway.update_subscription(
        subscription["id"], {"items": [{"price": price["id"]}], "proration_behavior": "none"}
    )
    shop.hands.move(minutes=5)
    await gateway.send_use(
        await shop.customer_id(), tokens=61_000_000, identifier="before", at=shop.hands.at, meter=ALL_USE
    )
    async with shop.database.tenant(shop.tenant_id) as session:
        await session.execute(
            insert(MeterRow).values(
                tenant_id=shop.tenant_id, slice_start=START, slice_end=shop.hands.at, seq=1, tokens=61_000_000, state="sent",
                identifier="before", customer_id=await shop.customer_id(), next_attempt_at=START,
            )
        )  # fmt: skip
    await shop.sync()
    three = ["stonechat_overage_usd_2000", "stonechat_pro_v1", "stonechat_pro_v1_overage"]
    assert await items(shop) == three
    await shop.end_of_period()
    assert (await shop.invoices())[0].total_cents == 9_900 + 200
    assert await items(shop) == three
    shop.hands.move(hours=2)
    assert (await shop.sync()).plan_key == "pro"
    assert await items(shop) == three[:2]


async def test_a_trial_ends_with_a_change_to_a_plan_without_one(shop: Shop) -> None:
    url = await shop.billing.checkout(shop.actor, "pro", return_url=BACK)
    shop.stripe.double.pay(url, number="")
    assert (await shop.sync()).status == "trialing"
    with pytest.raises(PaymentDeclined, match="payment method"):
        await shop.billing.change_plan(shop.actor, "business")
    portal = await shop.billing.portal(shop.actor, return_url=BACK)
    shop.stripe.double.press(portal, action="card", number="4242424242424242")
    await shop.sync()
    preview = await shop.billing.preview_change(shop.actor, "business")
    assert (preview.due_now_cents, "has no trial" in preview.notes[0]) == (39_900, True)
    shop.stripe.double.decline(await shop.customer_id())
    with pytest.raises(PaymentDeclined):
        await shop.billing.change_plan(shop.actor, "business")
    assert (await shop.sync()).status == "trialing"
    shop.stripe.double.decline(await shop.customer_id(), None)
    shop.hands.move(minutes=1)
    await shop.billing.change_plan(shop.actor, "business")
    held = await shop.held()
    assert (held.plan_key, held.status) == ("business", "active")
    assert (await shop.invoices())[0].total_cents == 39_900


async def test_a_change_that_begins_a_new_period_invoices_what_was_used_until_then(shop: Shop) -> None:
    """The hour that is not told yet is in what is said first, and in what is charged."""
    yearly = PRO.model_copy(
        update={"key": f"year_{shop.tenant_id.hex[-8:]}", "interval": "year", "price_cents": 150_000}
    )
    async with shop.database.platform() as session:
        await publish_plan(session, yearly, by="a test")
    try:
        await pro(shop)
        await shop.overage(True)
        await used(shop, 61_000_000)
        preview = await shop.billing.preview_change(shop.actor, yearly.key)
        assert preview.lines[-1].amount_cents == 200
        await shop.billing.change_plan(shop.actor, yearly.key)
        assert await shop.invoiced() == 1_000_000
        assert (await shop.invoices())[0].total_cents == preview.due_now_cents
        await use(shop.database, shop.tenant_id, tokens=5, at=shop.hands.at - timedelta(seconds=1))
        await shop.sync()
        assert await shop.owed() == 0
        await used(shop, 60_000_002)
        assert await shop.owed() == 2
        await shop.tell()
        (subscription,) = shop.stripe.double.subscriptions(await shop.customer_id())
        item = overage_item(subscription)
        assert item is not None
        shop.hands.move(days=31, hours=2)
        await shop.tell()
        shop.stripe.double.tick()
        assert {row.state for row in await outbox(shop.database, shop.tenant_id)} <= {"sent", "expired"}
    finally:
        async with shop.database.platform() as session:
            await retire_plan(session, yearly.key, by="a test")


async def test_an_override_of_the_price_is_what_stripe_charges(shop: Shop) -> None:
    await pro(shop)
    async with shop.database.tenant(shop.tenant_id) as session:
        await add_override(
            session, shop.tenant_id, field="overage_micros_per_1k_tokens", value=1_000, reason="A friend.",
            expires_at=None, by="a test",
        )  # fmt: skip
    await shop.overage(True)
    await shop.sync()
    assert await items(shop) == ["stonechat_overage_usd_1000", "stonechat_pro_v1"]


async def test_what_a_sync_notes_of_the_item(shop: Shop) -> None:
    await pro(shop)
    noted = counting_of((await customer(shop.database, shop.tenant_id)).overage_item)
    assert noted is not None
    subscriptions = await shop.stripe.gateway.list_subscriptions(await shop.customer_id())
    seen, now = read_subscriptions(subscriptions), shop.hands.move(days=1)
    assert seen is not None
    assert observe(noted, seen, now=now) == noted

    def with_item(**changed: Any) -> Any:
        (found,) = [one for one in seen.subscription["items"]["data"] if one["id"] == noted.item]
        return found.update(changed)

    with_item(price={**overage_item(seen.subscription)["price"], "id": "price_2"})  # type: ignore[index]
    changed = observe(noted, seen, now=now)
    assert changed is not None
    assert (changed.since, changed.floor) == (noted.since, now), "another price within the period"
    with_item(current_period_start=int(noted.period_end.timestamp()))
    changed = observe(noted, seen, now=now)
    assert changed is not None
    assert changed.floor == noted.floor, "another price from the period's end on"
    gone = observe(noted, None, now=now)
    assert gone is not None
    assert gone.until == now


async def test_coming_back_waits_in_turn(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    await shop.buy("business")
    await shop.billing.come_back(shop.actor)
    monkeypatch.setattr("stonechat.billing.service.MAX_ASKING", 0)
    with pytest.raises(Unavailable):
        await shop.billing.come_back(shop.actor)


async def test_a_period_is_ended_by_its_subscription(shop: Shop) -> None:
    """Cancelled at once: what is owed is on the last invoice, and what comes later is kept."""
    await pro(shop)
    await shop.overage(True)
    await used(shop, 60_000_400)
    await shop.billing.cancel(shop.actor, at_period_end=False)
    assert await shop.invoiced() == 400
    await use(shop.database, shop.tenant_id, tokens=9, at=shop.hands.at - timedelta(seconds=30))
    shop.hands.move(hours=1)
    await shop.tell()
    assert [(row.tokens, row.state) for row in await outbox(shop.database, shop.tenant_id)] == [
        (400, "sent"),
        (9, "expired"),
    ]
    async with shop.database.tenant(shop.tenant_id) as session:
        assert (await get_subscription(session, shop.tenant_id)).status == "canceled"


async def test_a_death_before_any_request_of_exchanging_the_price_loses_nothing_and_doubles_nothing(
    database: Database, hands: Hands
) -> None:
    """Kills where one request had its effect, and the next does not leave any more, until one exchange passes without."""
    step, survived = -1, False
    while not survived:
        step, hands.at = step + 2, START
        async with stripe_in_process(clock=hands.now) as stripe:
            shop = await Shop(database, stripe, hands).open()
            await pro(shop)
            await shop.overage(True)
            await used(shop, 60_000_100)
            await shop.billing.change_plan(shop.actor, "business")
            hands.move(seconds=30)
            before = hands.at
            stripe.process.start(dies_at=step)
            with suppress(Killed):
                await shop.billing.apply_overage(shop.tenant_id)
                survived = True
            stripe.process.revive()
            await expire_locks(shop)
            await use(database, shop.tenant_id, tokens=7, at=before - timedelta(minutes=1))
            hands.move(minutes=11)
            await shop.sync()
            assert await items(shop) == ["stonechat_business_v1", "stonechat_overage_usd_1500"], step
            hands.move(minutes=5)
            await shop.tell()
            await shop.end_of_period()
            rows = await outbox(database, shop.tenant_id)
            assert sum(row.tokens for row in rows) == 107, step
            assert all(row.state == "sent" or row.settlement_id for row in rows), step
            assert await shop.invoiced() == 107, step
    assert step > 15, "the deaths were at every request"


async def expire_locks(shop: Shop) -> None:
    """The lease of a sync whose process died has run out."""
    async with shop.database.tenant(shop.tenant_id) as session:
        row = await ensure_customer(session, shop.tenant_id, provider="stripe")
        row.sync_lock = row.sync_locked_until = None


@pytest.mark.parametrize("counts_at_last", [True, False])
async def test_a_price_is_not_exchanged_before_stripe_counted_what_it_was_told(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, counts_at_last: bool
) -> None:
    """It counts a little after it took what it was told; what it has not counted by then would be on no invoice."""
    monkeypatch.setattr(overage, "COUNTED_WITHIN", (0.0, 0.0, 0.0))
    await pro(shop)
    await shop.overage(True)
    await used(shop, 60_000_100)
    await shop.billing.change_plan(shop.actor, "business")
    counted, asked = shop.stripe.gateway.use_told, 0

    async def late(*args: Any, **options: Any) -> int:
        nonlocal asked
        asked += 1
        return await counted(*args, **options) if counts_at_last and asked > 2 else 0

    monkeypatch.setattr(shop.stripe.gateway, "use_told", late)
    with nullcontext() if counts_at_last else pytest.raises(UpstreamFailed):
        await shop.sync()
    exchanged = "stonechat_overage_usd_1500" if counts_at_last else "stonechat_overage_usd_2000"
    assert (await items(shop), asked) == (["stonechat_business_v1", exchanged], 3)

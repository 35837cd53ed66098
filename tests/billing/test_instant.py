"""One instant divides two plans: what is used while a plan changes is charged at the price of its own moment."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from stonechat.db.session import Database
from stonechat.usage.overage import CHANGED_WITHIN
from support.billing import Hands, outbox, use
from support.stripe_gateway import stripe_in_process
from support.stripe_shop import Shop


@pytest.fixture
async def shop(database: Database, hands: Hands) -> AsyncIterator[Shop]:
    """A tenant on Pro that goes on beyond it, a million tokens so far."""
    async with stripe_in_process(clock=hands.now) as stripe:
        shop = await Shop(database, stripe, hands).open()
        await shop.had_a_trial()
        await shop.buy("pro")
        await shop.overage(True)
        hands.move(minutes=5)
        await use(database, shop.tenant_id, tokens=61_000_000)
        hands.move(minutes=5)
        yield shop


def slow(shop: Shop, monkeypatch: pytest.MonkeyPatch, **late: float) -> None:
    """Stripe changes a subscription at once, and we hear of it so much later."""
    change = shop.stripe.gateway.update_subscription

    async def update(*args: Any, **options: Any) -> Any:
        answer = await change(*args, **options)
        shop.hands.move(**late)
        return answer

    monkeypatch.setattr(shop.stripe.gateway, "update_subscription", update)


async def test_use_of_the_seconds_of_a_change_is_invoiced_at_the_price_of_its_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late it comes. Amounts are large, so that a token at the wrong price is seen in the sum."""
    before = shop.hands.at
    with monkeypatch.context() as patch:
        slow(shop, patch, seconds=20)
        await shop.billing.change_plan(shop.actor, "business")
    after = before + timedelta(seconds=10)
    await use(shop.database, shop.tenant_id, tokens=239_000_000, at=after)  # all that business includes besides
    await use(shop.database, shop.tenant_id, tokens=2_000_000, at=after + timedelta(seconds=1))
    assert await shop.owed() == 3_000_000
    shop.hands.move(seconds=2)
    await shop.sync()
    await use(shop.database, shop.tenant_id, tokens=5_000_000, at=before - timedelta(seconds=1))
    assert await shop.owed() == 6_000_000 + 7_000_000
    shop.hands.move(minutes=5)
    await shop.tell()
    await shop.end_of_period()
    assert await shop.apart() == [(5_000_000, 1_000)], "late, and at the price that is gone: $0.002"
    assert await shop.invoiced() == 6_000_000 + 7_000_000
    lines = [line.amount_cents for invoice in await shop.invoices() for line in invoice.lines if line.quantity != 1]
    assert sorted(lines) == [200, 1_000, 1_050], "1 and 5 million at $0.002, 7 million at $0.0015"


async def test_a_change_that_is_seen_long_after_holds_from_then_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is taken back of what may have been told already."""
    with monkeypatch.context() as patch:
        slow(shop, patch, minutes=10)
        await shop.billing.change_plan(shop.actor, "business")
    seen = shop.hands.at
    await use(shop.database, shop.tenant_id, tokens=3_000_000, at=seen - CHANGED_WITHIN - timedelta(seconds=1))
    await use(shop.database, shop.tenant_id, tokens=100_000_000, at=seen - timedelta(seconds=1))
    assert await shop.owed() == 1_000_000 + 3_000_000 + 100_000_000


async def test_use_at_the_price_to_come_waits_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The metered item gets its price after the change; what was agreed to at that price is not told at the one before."""
    await shop.billing.change_plan(shop.actor, "business")
    shop.hands.move(minutes=1)
    await use(shop.database, shop.tenant_id, tokens=241_000_000)
    shop.hands.move(hours=1, minutes=5)
    await shop.tell()
    states = {row.micros_per_1k_tokens: row.state for row in await outbox(shop.database, shop.tenant_id)}
    assert states == {2_000: "sent", 1_500: "waiting"}
    await shop.sync()
    shop.hands.move(minutes=5)
    await shop.tell()
    assert {row.state for row in await outbox(shop.database, shop.tenant_id)} == {"sent"}
    await shop.end_of_period()
    lines = [line.amount_cents for invoice in await shop.invoices() for line in invoice.lines if line.quantity != 1]
    assert sorted(lines) == [200, 300], "1 million at $0.002, 2 million at $0.0015"


async def test_what_waits_for_a_price_when_the_plan_ends_is_an_item_of_the_last_invoice(shop: Shop) -> None:
    await shop.billing.change_plan(shop.actor, "business")
    shop.hands.move(minutes=1)
    await use(shop.database, shop.tenant_id, tokens=241_000_000)
    shop.hands.move(minutes=5)
    await shop.billing.cancel(shop.actor, at_period_end=False)
    shop.hands.move(hours=2)
    shop.stripe.double.tick()
    await shop.tell()
    assert await shop.apart() == [(2_000_000, 300)]
    assert await shop.invoiced() == 3_000_000

"""A year of a tenant that pays: what it may do at every step, and whether everybody's count is the same to the token."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from stonechat.accounts.actor import system
from stonechat.billing.dunning import run_clock
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.meters import meter_tenant
from stonechat.billing.sending import send_waiting
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.subscription import get_subscription
from stonechat.plans.terms import BUILT_IN
from stonechat.settings import Settings
from stonechat.usage.allowance import put_overage
from support.billing import SECRET, Hands, customer, held_clock, ledger_tokens, paying_tenant, use
from support.stripe_gateway import StripeInProcess, stripe_in_process

URL = "http://127.0.0.1:8000"
BACK = f"{URL}/console/billing"


class Year:
    """A tenant, its calendar, and Stripe."""

    def __init__(self, database: Database, stripe: StripeInProcess, hands: Hands) -> None:
        settings = Settings().model_copy(update={"stripe_webhook_secret": SecretStr(SECRET)})
        self.database, self.stripe, self.hands = database, stripe, hands
        self.billing = BillingService(settings, database, gateway=stripe.gateway)
        self.began = hands.at
        self.used = 0

    async def open(self) -> Year:
        self.tenant_id = await paying_tenant(self.database)
        self.actor = system(self.tenant_id)
        async with self.database.tenant(self.tenant_id) as session:
            await put_overage(session, self.actor, opt_in=True, spend_cap_micros=None)
        return self

    async def customer_id(self) -> str:
        found = (await customer(self.database, self.tenant_id)).customer_id
        assert found is not None
        return found

    async def subscribe(self, plan: str) -> None:
        self.stripe.double.pay(await self.billing.checkout(self.actor, plan, return_url=BACK))
        await self.look()

    async def look(self) -> None:
        """What the clock does every hour: Stripe's time, a sync, our clocks, and use told."""
        self.stripe.double.tick()
        await self.billing.sync(self.tenant_id)
        async with self.database.tenant(self.tenant_id) as session:
            await run_clock(session, self.tenant_id, public_url=URL)
            await meter_tenant(session, self.tenant_id)
        await send_waiting(self.database, self.stripe.gateway, self.tenant_id)

    async def live(self, *, until: datetime, tokens: int = 0) -> None:
        """Let time pass by days and by the ends of periods, with use on every one of them."""
        while self.hands.at < until:
            ends = [
                datetime.fromtimestamp(item["current_period_end"], self.hands.at.tzinfo) + timedelta(minutes=30)
                for row in self.stripe.double.subscriptions(await self.customer_id())
                if row["ended_at"] is None
                for item in row["items"]["data"]
            ]
            stops = [stop for stop in ends if self.hands.at < stop < until]
            self.hands.at = min([until, self.hands.at + timedelta(days=4), *stops])
            await self.look()
            if tokens:
                self.used += tokens
                await use(self.database, self.tenant_id, tokens=tokens, at=self.hands.at)
        self.hands.move(hours=2)  # so that the last hour is over, and told
        await self.look()

    async def until_day(self, day: int, *, tokens: int = 0) -> None:
        await self.live(until=self.began + timedelta(days=day), tokens=tokens)

    async def standing(self) -> tuple[str, str]:
        """What the tenant's plan is called to be, and whose rights it has; these are the plan's to the letter."""
        async with self.database.tenant(self.tenant_id) as session:
            held = await get_subscription(session, self.tenant_id)
            effective = (await entitlements(session, self.tenant_id)).plan
        terms = BUILT_IN[effective.key]
        for name in ("agents", "seats", "sources", "included_messages", "included_tokens", "features"):
            assert getattr(effective, name) == getattr(terms, name), name
        return held.status, effective.key


@pytest.fixture
async def year(database: Database) -> AsyncIterator[Year]:
    with held_clock() as hands:
        async with stripe_in_process(clock=hands.now) as stripe:
            yield await Year(database, stripe, hands).open()


async def test_rights_follow_the_plan_and_all_counts_agree_for_a_year(year: Year) -> None:
    double = year.stripe.double
    double.dunning(retry_days=(3, 5, 7), then="unpaid")

    await year.subscribe("pro")
    assert await year.standing() == ("trialing", "pro")
    portal = await year.billing.portal(year.actor, return_url=BACK)
    double.press(portal, action="card", number="4242424242424242")
    await year.until_day(10, tokens=1_000_001)
    assert await year.standing() == ("trialing", "pro")

    await year.until_day(20, tokens=3)
    assert await year.standing() == ("active", "pro"), "converted"

    await year.until_day(60, tokens=9_000_007)
    await year.billing.change_plan(year.actor, "business")
    assert await year.standing() == ("active", "business"), "an upgrade holds at once"
    await year.until_day(100, tokens=70_000_013)

    await year.billing.change_plan(year.actor, "pro")
    assert await year.standing() == ("active", "business"), "a downgrade waits for what was paid"
    await year.until_day(140, tokens=5_000_011)
    assert await year.standing() == ("active", "pro")

    customer_id = await year.customer_id()
    double.decline(customer_id)
    renewal = datetime.fromtimestamp(
        double.subscriptions(customer_id)[-1]["items"]["data"][0]["current_period_end"], year.hands.at.tzinfo
    )
    await year.live(until=renewal + timedelta(days=2), tokens=2_000_003)
    assert await year.standing() == ("past_due", "pro"), "grace"
    await year.live(until=renewal + timedelta(days=9))
    assert await year.standing() == ("unpaid", "free"), "grace has run"

    double.decline(customer_id, None)
    (owed,) = [row for row in double.invoices(customer_id) if row["status"] == "open"]
    double.press(await year.billing.portal(year.actor, return_url=BACK), action="pay", invoice=owed["id"])
    await year.look()
    assert await year.standing() == ("active", "pro"), "recovered"

    await year.until_day(200, tokens=4_000_003)
    await year.billing.cancel(year.actor, at_period_end=True)
    assert await year.standing() == ("active", "pro"), "cancelled, and paid until the period ends"
    await year.until_day(240)
    assert await year.standing() == ("canceled", "free")

    await year.subscribe("business")
    assert await year.standing() == ("active", "business"), "back, without a second trial"
    await year.until_day(330, tokens=31_000_001)
    await year.billing.cancel(year.actor, at_period_end=True)
    await year.until_day(366)
    assert await year.standing() == ("canceled", "free")

    told = year.stripe.told(customer_id)
    assert year.used == await ledger_tokens(year.database, year.tenant_id) == told
    assert double.tokens_invoiced(customer_id, METER_EVENT) == told
    assert {row["status"] for row in double.invoices(customer_id)} == {"paid"}

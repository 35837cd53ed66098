"""A year of a tenant that pays: what it may do at every step, and whether everybody's count is the same to the token."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from stonechat.accounts.actor import system
from stonechat.billing.dunning import run_clock
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.meters import meter_tenant
from stonechat.billing.pricing import is_beyond
from stonechat.billing.sending import send_waiting
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.subscription import get_subscription
from stonechat.plans.terms import BUILT_IN
from stonechat.settings import Settings
from stonechat.usage.allowance import allowance_state, put_overage
from support.billing import SECRET, Hands, customer, held_clock, ledger_tokens, outbox, paying_tenant, use
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
        self.used: list[tuple[datetime, int]] = []
        self.owed: dict[int, int] = defaultdict(int)
        """By the beginning of the period: tokens that are charged, each counted as it was used."""
        self.cost = 0
        """Of these, in millionths."""

    async def open(self) -> Year:
        self.tenant_id = await paying_tenant(self.database)
        self.actor = system(self.tenant_id)
        return self

    async def choose(self, *, opt_in: bool) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await put_overage(session, self.actor, opt_in=opt_in, spend_cap_micros=None)
        self.opt_in = opt_in

    opt_in = False

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
        await self.billing.apply_overage(self.tenant_id)
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
                await self.use(tokens)
        self.hands.move(hours=2)  # so that the last hour is over, and told
        await self.look()

    async def use(self, tokens: int) -> None:
        """Use, and count what of it is owed by the rule as it is written: each token that comes when more than what is
        included was used in the period already, while the tenant pays for more."""
        status, plan = await self.standing()
        terms, price = BUILT_IN[plan], BUILT_IN[plan].overage_micros_per_1k_tokens
        live = [row for row in self.stripe.double.subscriptions(await self.customer_id()) if row["ended_at"] is None]
        if live and self.opt_in and status == "active" and price is not None and terms.included_tokens is not None:
            period = live[-1]["items"]["data"][0]["current_period_start"]
            before = sum(each for at, each in self.used if at.timestamp() >= period)
            beyond = max(0, before + tokens - max(before, terms.included_tokens))
            self.owed[period] += beyond
            self.cost += beyond * price // 1000
        self.used.append((self.hands.at, tokens))
        await use(self.database, self.tenant_id, tokens=tokens, at=self.hands.at)
        self.hands.move(seconds=1)
        if live:
            period = live[-1]["items"]["data"][0]["current_period_start"]
            async with self.database.tenant(self.tenant_id) as session:
                shown = (await allowance_state(session, self.tenant_id)).overage.tokens
            assert shown == self.owed[period], "what the pages say is what is owed"

    def invoiced(self, customer_id: str) -> tuple[dict[int, int], int]:
        """Tokens on invoices by the beginning of their period, and what they cost in cents."""
        tokens: dict[int, int] = defaultdict(int)
        cents = 0
        for invoice in self.stripe.double.invoices(customer_id):
            for line in invoice["lines"]["data"]:
                price = self.stripe.double.account.objects[line["pricing"]["price_details"]["price"]]
                if is_beyond(price) and line["quantity"]:
                    tokens[line["period"]["start"]] += line["quantity"]
                    cents += line["amount"]
        return dict(tokens), cents

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

    await year.until_day(30, tokens=31_000_007)
    assert year.owed[max(year.owed, default=0)] == 0, "beyond the plan, and nobody agreed to pay"
    await year.choose(opt_in=True)
    await year.until_day(34, tokens=5_000_003)
    assert sum(year.owed.values()) == 5_000_003, (
        "chosen after the plan was used up: what came after is charged, all of it"
    )

    await year.billing.change_plan(year.actor, "business")
    assert await year.standing() == ("active", "business"), "an upgrade holds at once"
    await year.until_day(39, tokens=70_000_013)
    assert sum(year.owed.values()) == 5_000_003, "the larger plan includes it"
    await year.until_day(43, tokens=170_000_011)
    assert sum(year.owed.values()) > 5_000_003, "and has its own end, at its own price"
    await year.until_day(60, tokens=70_000_001)

    await year.billing.change_plan(year.actor, "pro")
    assert await year.standing() == ("active", "business"), "a downgrade waits for what was paid"
    await year.choose(opt_in=False)
    await year.until_day(64, tokens=9_000_001)
    await year.choose(opt_in=True)
    await year.until_day(73, tokens=60_000_001)
    await year.until_day(100, tokens=21_000_001)
    assert await year.standing() == ("active", "pro")
    assert len([tokens for tokens in year.owed.values() if tokens]) == 3, "in each of the three periods"
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
    assert sum(tokens for _, tokens in year.used) == await ledger_tokens(year.database, year.tenant_id)
    rows = await outbox(year.database, year.tenant_id)
    assert {row.state for row in rows} == {"sent"}
    assert sum(year.owed.values()) == sum(row.tokens for row in rows) == told
    tokens, cents = year.invoiced(customer_id)
    assert tokens == {period: owed for period, owed in year.owed.items() if owed}
    assert double.tokens_invoiced(customer_id, METER_EVENT) == told
    assert abs(cents - year.cost / 10_000) <= len(tokens), "but for cents that are rounded"
    assert {row["status"] for row in double.invoices(customer_id)} == {"paid"}

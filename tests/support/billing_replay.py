"""Months of many customers at Stripe's double, told by webhooks that repeat, overtake each other, come late or never."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import stripe
from pydantic import SecretStr
from sqlalchemy import select, text

from stonechat.billing.customers import register_customer
from stonechat.billing.models import BillingEventRow, InvoiceRow
from stonechat.billing.pricing import PriceList
from stonechat.billing.service import BillingService
from stonechat.billing.tasks import job_handlers, look_at_customers
from stonechat.billing.webhooks import receive
from stonechat.db.session import Database
from stonechat.errors import StonechatError
from stonechat.plans.subscription import get_subscription
from stonechat.plans.terms import BUILT_IN
from stonechat.settings import Settings
from support.billing import SECRET, Hands, paying_tenant
from support.stripe_double import Delivery
from support.stripe_gateway import StripeInProcess

URL = "http://127.0.0.1:8000"
PLANS = ("starter", "pro", "business")
LIVE = ("trialing", "active", "past_due", "unpaid", "paused")
GRACE_SECONDS = 7 * 86_400
AT_ONCE = 8

Json = dict[str, Any]


@dataclass
class Counted:
    """What was sent, and what came of it."""

    customers: int = 0
    events: int = 0
    """Generated, each with an id of its own."""
    lost: int = 0
    attempts: int = 0
    """Deliveries that arrived, repeated ones included."""
    taken_in: int = 0
    syncs: int = 0
    wrong_before: int = 0
    """Customers whose copy was wrong before the reconciliation, because what would have told of it was lost."""
    wrong: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Replay:
    """Some customers, what happens to them, and our copy."""

    def __init__(
        self, database: Database, admin_url: str, stripe_: StripeInProcess, hands: Hands, *, seed: int
    ) -> None:
        settings = Settings().model_copy(update={"stripe_webhook_secret": SecretStr(SECRET)})
        self._database, self._admin_url, self._hands = database, admin_url, hands
        self._stripe, self._double = stripe_, stripe_.double
        self._billing = BillingService(settings, database, gateway=stripe_.gateway)
        self._handlers = job_handlers(database, self._billing)
        self._chance = random.Random(seed)
        self._tenants: dict[str, UUID] = {}
        self._prices: list[str] = []
        self._received: set[str] = set()
        self.counted = Counted()

    async def run(self, *, customers: int, events: int, lost: float = 0.1) -> Counted:
        """Everything, to the last look by the clock."""
        began = time.monotonic()
        await self._open(customers)
        self._double.account.outgoing.clear()
        self._double.account.events.clear()
        while self.counted.events < events:
            before = len(self._double.account.outgoing)
            while len(self._double.account.outgoing) - before < max(50, events // 20):
                await self._something_happens()
            self.counted.events += len(self._double.account.outgoing) - before
            await self._deliver(lost=lost, delay=0.3)
            await self._work()
        for _ in range(3):  # what was late arrives at last, and is no sooner lost than the rest was
            await self._deliver(lost=0.0, delay=0.2)
            await self._work()
        await self._deliver(lost=0.0, delay=0.0)
        await self._work()
        self.counted.wrong_before = len({line.split(":")[0] for line in await self._wrong()})
        self._hands.move(hours=24)
        self._double.tick()
        self._double.account.outgoing.clear()  # nothing tells of this day at all
        await look_at_customers(self._database, self._billing, public_url=URL)
        await self._work()
        self.counted.wrong = await self._wrong()
        self.counted.doubled = await self._doubled()
        self.counted.seconds = round(time.monotonic() - began, 1)
        return self.counted

    async def _open(self, customers: int) -> None:
        prices = PriceList(self._stripe.gateway)
        self._prices = [await prices.of(BUILT_IN[key]) for key in PLANS]
        for number in range(customers):
            tenant_id = await paying_tenant(self._database, name=f"Replay {number}")
            made = await self._v1.customers.create_async({"name": f"Replay {number}"})
            await self._v1.payment_methods.attach_async("pm_card_visa", {"customer": made.id})
            card = (await self._v1.payment_methods.list_async({"customer": made.id})).data[0].id
            await self._v1.customers.update_async(made.id, {"invoice_settings": {"default_payment_method": card}})
            async with self._database.tenant(tenant_id) as session:
                await register_customer(session, tenant_id, made.id)
            self._tenants[made.id] = tenant_id
        self.counted.customers = customers
        self._double.dunning(retry_days=(3, 5, 7), then="unpaid")

    @property
    def _v1(self) -> Any:
        return self._stripe.client.v1

    # What happens at Stripe

    async def _something_happens(self) -> None:
        customer_id = self._chance.choice(list(self._tenants))
        if self._chance.random() < 0.1:
            self._hands.move(hours=self._chance.randint(1, 40))
            self._double.tick()
        living = [row for row in self._double.subscriptions(customer_id) if row["status"] in LIVE]
        try:
            await self._change(customer_id, living[-1] if living else None)
        except stripe.StripeError as refused:
            if not isinstance(refused, stripe.CardError | stripe.InvalidRequestError):
                raise

    async def _change(self, customer_id: str, subscription: Json | None) -> None:
        price = self._chance.choice(self._prices)
        if subscription is None:
            trial = {"trial_period_days": 14} if self._chance.random() < 0.4 else {}
            await self._v1.subscriptions.create_async({"customer": customer_id, "items": [{"price": price}], **trial})
            return
        name, item = subscription["id"], subscription["items"]["data"][0]["id"]
        match self._chance.choice(("switch", "switch", "end", "stay", "cancel", "decline", "accept", "pay")):
            case "switch":
                how = {"proration_behavior": self._chance.choice(("always_invoice", "create_prorations"))}
                await self._v1.subscriptions.update_async(name, {"items": [{"id": item, "price": price}], **how})
            case "end" | "stay" as wish:
                await self._v1.subscriptions.update_async(name, {"cancel_at_period_end": wish == "end"})
            case "cancel":
                await self._v1.subscriptions.cancel_async(name, {"prorate": True, "invoice_now": True})
            case "decline":
                self._double.decline(customer_id)
            case "accept":
                self._double.decline(customer_id, None)
            case _:
                for owed in [row for row in self._double.invoices(customer_id) if row["status"] == "open"]:
                    await self._v1.invoices.pay_async(owed["id"])

    # How it is told

    async def _deliver(self, *, lost: float, delay: float) -> None:
        async def send(delivery: Delivery) -> int:
            signed = delivery.headers()["Stripe-Signature"]
            try:
                new = await receive(self._database, delivery.body, signature=signed, secrets=[SECRET])
            except StonechatError as error:
                return error.status
            assert new == (delivery.event_id not in self._received), "an event is taken in once"
            self._received.add(delivery.event_id)
            return 200

        seed = self._chance.randrange(2**32)
        outcome = await self._double.deliver(send, duplicate=0.2, reorder=True, delay=delay, drop=lost, seed=seed)
        assert set(outcome.statuses) <= {200}, outcome.statuses
        self.counted.lost += outcome.dropped
        self.counted.attempts += outcome.sent
        self.counted.taken_in = len(self._received)

    async def _work(self) -> None:
        """Do the jobs that wait for us, several at once, and a tenth of them twice, as after a worker's death."""
        for _ in range(4):  # what is located asks for a sync
            jobs = await self._waiting()
            if not jobs:
                return
            jobs += [job for job in jobs if self._chance.random() < 0.1]
            self.counted.syncs += sum(kind == "billing.sync" for kind, _, _ in jobs)
            self._hands.move(seconds=1)
            turns = asyncio.Semaphore(AT_ONCE)

            async def do(kind: str, tenant_id: UUID, payload: Json, turns: asyncio.Semaphore = turns) -> None:
                async with turns:
                    await self._handlers[kind](tenant_id, payload)

            await asyncio.gather(*(do(*job) for job in jobs))
        raise AssertionError("the jobs do not come to an end")

    async def _waiting(self) -> list[tuple[str, UUID, Json]]:
        connection = await asyncpg.connect(self._admin_url)
        try:
            rows = await connection.fetch(
                "delete from jobs.pgqueuer where (entrypoint = 'billing.sync' and headers->>'tenant' = any($1)) or "
                "(entrypoint = 'billing.locate' and convert_from(payload, 'utf8')::jsonb->>'event_id' = any($2)) "
                "returning entrypoint, headers->>'tenant', convert_from(payload, 'utf8')",
                [str(tenant_id) for tenant_id in self._tenants.values()],
                list(self._received),
            )
        finally:
            await connection.close()
        return [(kind, UUID(tenant), json.loads(payload or "{}")) for kind, tenant, payload in rows]

    # What came of it

    async def _wrong(self) -> list[str]:
        """Every difference between what Stripe says and our copy."""
        found: list[str] = []
        for customer_id, tenant_id in self._tenants.items():
            async with self._database.tenant(tenant_id) as session:
                held = await get_subscription(session, tenant_id)
                rows = await session.scalars(select(InvoiceRow).where(InvoiceRow.tenant_id == tenant_id))
                invoices = sorted((row.invoice_id, row.status, row.total_cents, row.paid_cents) for row in rows)
            theirs = self._double.invoices(customer_id)
            wanted = sorted((row["id"], row["status"], row["total"], row["amount_paid"]) for row in theirs)
            if invoices != wanted:
                found.append(f"{customer_id}: invoices {set(invoices) ^ set(wanted)}")
            ours = (held.plan_key, held.status, _seconds(held.period_start), _seconds(held.cancel_at))
            expected = self._expected(customer_id, theirs)
            if expected is not None and ours != expected:
                found.append(f"{customer_id}: {ours}, not {expected}")
            if expected is None and held.stored and held.provider == "stripe":
                found.append(f"{customer_id}: {ours}, but there never was a subscription")
        return found

    def _expected(self, customer_id: str, invoices: Sequence[Json]) -> tuple[str, str, int, int | None] | None:
        """What the customer's newest subscription that counts means, read without a line of the platform's."""
        known = [row for row in self._double.subscriptions(customer_id) if not row["status"].startswith("incomplete")]
        living = [row for row in known if row["status"] in LIVE]
        if not known:
            return None
        row = (living or known)[-1]
        item = row["items"]["data"][0]
        plan = item["price"]["lookup_key"].removeprefix("stonechat_").rpartition("_v")[0]
        start = item["current_period_start"]
        if row["status"] == "canceled":
            return plan, "canceled", start, row["ended_at"]
        if row["status"] in ("trialing", "active"):
            return plan, row["status"], start, row["cancel_at"]
        owed = [
            one["status_transitions"]["finalized_at"]
            for one in invoices
            if one["status"] == "open" and one["parent"]["subscription_details"]["subscription"] == row["id"]
        ]
        late = int(self._hands.at.timestamp()) >= min(owed) + GRACE_SECONDS
        return plan, "unpaid" if late else "past_due", start, row["cancel_at"]

    async def _doubled(self) -> list[str]:
        """Effects that happened twice, or never ended: events not done, changes told again, mails of the same failure."""
        found: list[str] = []
        async with self._database.platform() as session:
            rows = list(
                await session.scalars(select(BillingEventRow).where(BillingEventRow.event_id.in_(self._received)))
            )
        if sorted(row.event_id for row in rows) != sorted(self._received):
            found.append("events: not each of them is kept once")
        found += [f"{row.event_id}: {row.state} ({row.kind})" for row in rows if row.state not in ("done", "ignored")]
        for customer_id, tenant_id in self._tenants.items():
            found += await self._told_again(customer_id, tenant_id)
        return found

    async def _told_again(self, customer_id: str, tenant_id: UUID) -> list[str]:
        found: list[str] = []
        async with self._database.tenant(tenant_id) as session:
            lines = list(
                await session.scalars(
                    text(
                        "select detail from audit_log where tenant_id = :t and action = 'subscription.change' order by occurred_at, audit_id"
                    ),
                    {"t": tenant_id},
                )
            )
        known: Json = {}
        for line in lines:
            for name, (before, after) in line.items():
                if before == after or known.get(name, before) != before:
                    found.append(f"{customer_id}: {name} went from {before} to {after}, and was {known.get(name)}")
                known[name] = after
        failures = sum(
            event["type"] == "customer.subscription.updated"
            and event["data"]["object"]["customer"] == customer_id
            and event["data"]["object"]["status"] == "past_due"
            and "status" in event["data"]["previous_attributes"]
            for event in self._double.account.events.values()
        )
        async with self._database.directory() as session:
            mails = await session.scalar(
                text(
                    "select count(*) from jobs.pgqueuer where entrypoint = 'mail.send' and headers->>'tenant' = :t "
                    "and convert_from(payload, 'utf8') like '%did not go through%'"
                ),
                {"t": str(tenant_id)},
            )
        if (mails or 0) > failures:
            found.append(f"{customer_id}: {mails} mails of {failures} failed payments")
        return found


def _seconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp())

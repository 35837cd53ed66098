"""A platform that sells by Stripe, with a tenant that buys there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from stonechat.accounts.actor import system
from stonechat.billing.customers import ensure_customer
from stonechat.billing.dunning import billing_notice
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.invoices import InvoiceView, list_invoices
from stonechat.billing.meters import meter_tenant
from stonechat.billing.sending import send_waiting
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.subscription import Subscription, get_subscription
from stonechat.settings import Settings
from stonechat.usage.allowance import allowance_state, put_overage
from support.billing import SECRET, Hands, customer, paying_tenant
from support.stripe_gateway import StripeInProcess

URL = "http://127.0.0.1:8000"
BACK = f"{URL}/console/billing"


class Shop:
    """A platform that sells, Stripe, and one tenant."""

    def __init__(self, database: Database, stripe: StripeInProcess, hands: Hands) -> None:
        settings = Settings().model_copy(update={"stripe_webhook_secret": SecretStr(SECRET)})
        self.database, self.stripe, self.hands = database, stripe, hands
        self.billing = BillingService(settings, database, gateway=stripe.gateway)

    async def open(self) -> Shop:
        self.tenant_id = await paying_tenant(self.database)
        self.actor = system(self.tenant_id)
        return self

    async def customer_id(self) -> str:
        found = (await customer(self.database, self.tenant_id)).customer_id
        assert found is not None
        return found

    async def had_a_trial(self) -> None:
        """So that what is bought is paid at once."""
        async with self.database.tenant(self.tenant_id) as session:
            (await ensure_customer(session, self.tenant_id, provider="manual")).trial_used_at = self.hands.at

    async def buy(self, plan: str, **form: str) -> Subscription:
        """Through Checkout, with the card of everybody's tests."""
        url = await self.billing.checkout(self.actor, plan, return_url=BACK)
        self.stripe.double.pay(url, **form)
        return await self.sync()

    async def sync(self) -> Subscription:
        """What the job of a sync does."""
        await self.billing.sync(self.tenant_id)
        await self.billing.apply_overage(self.tenant_id)
        await self.billing.tell_settlements(self.tenant_id)
        return await self.held()

    async def held(self) -> Subscription:
        async with self.database.tenant(self.tenant_id) as session:
            return await get_subscription(session, self.tenant_id)

    async def holds(self) -> str:
        async with self.database.tenant(self.tenant_id) as session:
            return (await entitlements(session, self.tenant_id)).plan.key

    async def invoices(self) -> list[InvoiceView]:
        async with self.database.tenant(self.tenant_id) as session:
            return (await list_invoices(session, self.actor)).data

    async def notice(self) -> str | None:
        async with self.database.tenant(self.tenant_id) as session:
            found = await billing_notice(session, self.tenant_id)
        return found.kind if found else None

    async def overage(self, opt_in: bool) -> None:
        async with self.database.tenant(self.tenant_id) as session:
            await put_overage(session, self.actor, opt_in=opt_in, spend_cap_micros=None)
        await self.billing.apply_overage(self.tenant_id)

    async def owed(self) -> int:
        """Tokens beyond the plan that the pages say are charged in this period."""
        async with self.database.tenant(self.tenant_id) as session:
            return (await allowance_state(session, self.tenant_id)).overage.tokens

    async def tell(self) -> None:
        """What the clock does every five minutes."""
        async with self.database.tenant(self.tenant_id) as session:
            await meter_tenant(session, self.tenant_id)
        await send_waiting(self.database, self.stripe.gateway, self.tenant_id)
        await self.billing.tell_settlements(self.tenant_id)

    async def apart(self) -> list[tuple[int, int]]:
        """Tokens and cents of what is on invoices as items of their own."""
        found = [
            (line["quantity"], line["amount"])
            for invoice in self.stripe.double.invoices(await self.customer_id())
            for line in invoice["lines"]["data"]
            if invoice["status"] != "void" and (line["metadata"] or {}).get("settlement")
        ]
        return sorted(found)

    async def invoiced(self) -> int:
        """Tokens beyond the plan on invoices, in whichever way they came there."""
        by_meter = self.stripe.double.tokens_invoiced(await self.customer_id(), METER_EVENT)
        return by_meter + sum(tokens for tokens, _ in await self.apart())

    async def end_of_period(self) -> None:
        """With use told in the hour that is left for it, and the invoice made."""
        (subscription,) = self.stripe.double.subscriptions(await self.customer_id())
        ends = subscription["items"]["data"][0]["current_period_end"]
        for minutes in (10, 70):
            self.hands.at = datetime.fromtimestamp(ends, UTC) + timedelta(minutes=minutes)
            self.stripe.double.tick()
            await self.tell()
            await self.sync()

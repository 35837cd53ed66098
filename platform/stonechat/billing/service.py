"""`BillingService`: who may do what about money, whichever way it is paid here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.billing.gateway import StripeGateway
from stonechat.billing.manual import ManualBilling
from stonechat.billing.none import NoBilling
from stonechat.billing.provider import BillingProvider, ChangePreview
from stonechat.billing.stripe_provider import StripeBilling
from stonechat.billing.telling import is_all_settled
from stonechat.billing.webhooks import request_sync
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, Unavailable, UpstreamFailed, UpstreamTimedOut
from stonechat.plans.platform_settings import BILLING, get_setting
from stonechat.plans.subscription import Provider, get_subscription
from stonechat.settings import Settings

MAX_ASKING = 4
"""People who may wait for Stripe at once in one process: their requests hold connections that chats need, too."""
DEADLINE_SECONDS = 25.0
"""Of one verb, however many requests it makes."""


class BillingService:
    """A process's way to billing; opens nothing until it is used. Close it with `aclose`.

    Every verb takes an `Actor` with the scope `admin`. What asks Stripe raises `UpstreamFailed` or `UpstreamTimedOut` while
    it cannot be reached, and `Unavailable` while too many others wait for it.
    """

    def __init__(self, settings: Settings, database: Database, *, gateway: StripeGateway | None = None) -> None:
        """`gateway` takes the place of the one that the settings name."""
        self._database = database
        self._public_url = settings.public_url
        if gateway is None and settings.stripe_secret_key is not None:
            gateway = StripeGateway(settings.stripe_secret_key.get_secret_value(), base_url=settings.stripe_api_base)
        self.gateway = gateway
        self.webhook_secrets = [secret.get_secret_value() for secret in settings.stripe_webhook_secrets]
        self._stripe = StripeBilling(database, gateway, public_url=self._public_url) if gateway else None
        self._manual = ManualBilling(database, public_url=self._public_url)
        self._none = NoBilling()
        self._asking = 0

    async def aclose(self) -> None:
        """Close the connections to Stripe."""
        if self.gateway is not None:
            await self.gateway.aclose()

    async def provider_name(self) -> Provider:
        """How new plans are paid for on this platform."""
        if self._stripe is not None:
            return "stripe"
        async with self._database.directory() as session:
            return "manual" if await get_setting(session, BILLING) == "manual" else "none"

    async def provider(self, tenant_id: UUID) -> BillingProvider:
        """Who has this tenant's subscription; without one, whoever new ones are made with."""
        async with self._database.tenant(tenant_id) as session:
            held = await get_subscription(session, tenant_id)
        if held.provider == "manual" and held.status != "canceled":
            return self._manual
        if self._stripe is not None:
            return self._stripe
        return self._manual if await self.provider_name() == "manual" else self._none

    async def checkout(self, actor: Actor, plan_key: str, *, return_url: str) -> str:
        """The URL where a first subscription to the plan is confirmed. `return_url` is on this platform."""
        actor.require("admin")
        provider = await self.provider(actor.tenant_id)
        back = self._ours(return_url)
        async with self._in_turn():
            url = await provider.checkout(actor.tenant_id, plan_key, return_url=back)
        await self._note(actor, "billing.checkout", plan=plan_key)
        return url

    async def portal(self, actor: Actor, *, return_url: str) -> str:
        """The URL where cards, addresses and tax ids are changed. `return_url` is on this platform."""
        actor.require("admin")
        provider = await self.provider(actor.tenant_id)
        back = self._ours(return_url)
        async with self._in_turn():
            return await provider.portal(actor.tenant_id, return_url=back)

    async def preview_change(self, actor: Actor, plan_key: str) -> ChangePreview:
        """What changing to the plan would do and cost; changes nothing."""
        actor.require("admin")
        async with self._in_turn():
            return await (await self.provider(actor.tenant_id)).preview_change(actor.tenant_id, plan_key)

    async def change_plan(self, actor: Actor, plan_key: str) -> None:
        """Up at once, down at the period's end. Raises `PaymentDeclined`; nothing has changed then."""
        actor.require("admin")
        async with self._in_turn():
            await (await self.provider(actor.tenant_id)).change_plan(actor.tenant_id, plan_key)
        await self._note(actor, "billing.change_plan", plan=plan_key)

    async def cancel(self, actor: Actor, *, at_period_end: bool = True) -> None:
        """End the plan. All data stays, and can be read, exported and deleted."""
        actor.require("admin")
        async with self._in_turn():
            await (await self.provider(actor.tenant_id)).cancel(actor.tenant_id, at_period_end=at_period_end)
        await self._note(actor, "billing.cancel", at_period_end=at_period_end)

    async def resume(self, actor: Actor) -> None:
        """Take back a cancellation or a downgrade that has not happened yet."""
        actor.require("admin")
        async with self._in_turn():
            await (await self.provider(actor.tenant_id)).resume(actor.tenant_id)
        await self._note(actor, "billing.resume")

    async def come_back(self, actor: Actor) -> None:
        """Look anew, for somebody who returns from Checkout or the portal and waits."""
        actor.require("admin")
        async with self._in_turn():
            await self.sync(actor.tenant_id)

    async def sync(self, tenant_id: UUID) -> None:
        """Look anew, by the clock, for an event, or by hand."""
        if self._stripe is not None:
            await self._stripe.sync_customer(tenant_id)
        await self._manual.sync_customer(tenant_id)

    async def overage_changed(self, tenant_id: UUID) -> None:
        """The tenant chose to pay, or not to pay, for what goes beyond its plan: a job sees that Stripe counts it."""
        if self._stripe is not None:
            async with self._database.tenant(tenant_id) as session:
                await request_sync(session, tenant_id)

    async def apply_overage(self, tenant_id: UUID) -> None:
        """Let what is told of use beyond the plan be counted by the subscription. Twice changes nothing."""
        if self._stripe is not None and isinstance(await self.provider(tenant_id), StripeBilling):
            await self._stripe.fit_overage(tenant_id)

    async def tell_settlements(self, tenant_id: UUID) -> None:
        """Put what came too late for the meter, and was settled since, on invoices. Twice changes nothing."""
        if self._stripe is not None:
            await self._stripe.tell_settlements(tenant_id)

    async def suspended(self, tenant_id: UUID, *, suspended: bool) -> None:
        """A tenant was suspended by the operator, or is let go on: while it is, nothing is collected from it.

        The subscription lives on, and its invoices are kept as drafts, for the operator to send or to delete at Stripe.
        """
        if self._stripe is not None:
            await self._stripe.pause(tenant_id, paused=suspended)

    async def before_deletion(self, tenant_id: UUID) -> None:
        """End the subscription of a tenant that is about to be deleted, with what was used invoiced.

        Call it before the tenant's rows go, again and again until it succeeds. Stripe keeps the customer and the invoices,
        as bookkeeping demands.
        """
        await self._manual.close(tenant_id)
        if self._stripe is not None:
            await self._stripe.cancel(tenant_id, at_period_end=False)
            await self._stripe.tell_settlements(tenant_id)
            if not await is_all_settled(self._database, tenant_id):
                raise UpstreamFailed("Stripe does not know of everything that is to be invoiced yet.")

    @asynccontextmanager
    async def _in_turn(self) -> AsyncIterator[None]:
        """Bounds how many wait, and how long."""
        if self._asking >= MAX_ASKING:
            raise Unavailable("Many people change their plans right now. Try again in a minute.")
        self._asking += 1
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                yield
        except TimeoutError:
            raise UpstreamTimedOut("Stripe did not answer in time. Look again in a minute.") from None
        finally:
            self._asking -= 1

    def _ours(self, return_url: str) -> str:
        if return_url != self._public_url and not return_url.startswith(f"{self._public_url}/"):
            raise InvalidInput("The way back leads to this platform.")
        return return_url

    async def _note(self, actor: Actor, action: str, **detail: object) -> None:
        async with self._database.tenant(actor.tenant_id) as session:
            await record_audit(session, actor, action, detail=detail)

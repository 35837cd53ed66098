"""Stripe: Checkout for the first time, the portal for cards, changes and their price here, and a copy kept by `sync`.

Every verb asks Stripe, then looks at the customer once more, so that the console shows what is so. No database connection
is held while Stripe is asked.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from stonechat import clock
from stonechat.billing.changes import amounts, begins_anew, ends_trial, notes_on, untold
from stonechat.billing.customers import get_customer, named, register_customer
from stonechat.billing.gateway import Json, StripeGateway
from stonechat.billing.overage import about_to_change, fit_overage, note_instant, tell_all
from stonechat.billing.pricing import PriceList
from stonechat.billing.provider import ChangeKind, ChangeLine, ChangePreview
from stonechat.billing.reading import Seen, base_item, moment, overage_item, read_subscriptions, tiered_item
from stonechat.billing.sending import invoice_waiting_apart
from stonechat.billing.standing import Standing, standing_of
from stonechat.billing.sync import sync_customer
from stonechat.billing.telling import tell_settlements
from stonechat.billing.webhooks import match_events, request_sync
from stonechat.db.session import Database
from stonechat.errors import BillingOff, InvalidInput, PaymentDeclined
from stonechat.plans.catalog import plan_terms
from stonechat.plans.platform_settings import get_setting
from stonechat.plans.subscription import Provider, get_subscription
from stonechat.plans.terms import PlanTerms
from stonechat.usage.allowance import allowance_state

TAX = "billing_tax"
"""Setting of the platform: whether Stripe Tax works out taxes."""
SHORTEST_TRIAL = timedelta(hours=49)
"""Checkout takes no trial that ends within two days."""


class StripeBilling:
    """The provider of platforms that sell."""

    name: Provider = "stripe"

    def __init__(self, database: Database, gateway: StripeGateway, *, public_url: str) -> None:
        self._database = database
        self._gateway = gateway
        self._prices = PriceList(gateway)
        self._public_url = public_url

    async def checkout(self, tenant_id: UUID, plan_key: str, *, return_url: str) -> str:
        """Checkout's page for a first subscription, or one after the last has ended. A trial asks for no card."""
        terms = await self._offered(tenant_id, plan_key)
        customer_id = await self._customer(tenant_id)
        seen = read_subscriptions(await self._gateway.list_subscriptions(customer_id))
        if seen is not None and seen.is_live:
            await self.sync_customer(tenant_id)
            raise BillingOff("There is a subscription already: change its plan instead.")
        await self._gateway.expire_checkouts(customer_id)
        price = await self._prices.of(terms)
        async with self._database.tenant(tenant_id) as session:
            tax = await get_setting(session, TAX) is True
        trial = await self._trial_of(tenant_id, terms)
        back = "&" if "?" in return_url else "?"
        params: Json = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": str(tenant_id),
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": f"{return_url}{back}billing=returned",
            "cancel_url": f"{return_url}{back}billing=canceled",
            "allow_promotion_codes": True,
            "payment_method_collection": "if_required" if trial else "always",
            "subscription_data": {
                "metadata": {"tenant_id": str(tenant_id)},
                "billing_mode": {"type": "flexible"},  # the other mode forgets use when its price changes
                **trial,
            },
        }
        if tax:
            params |= {
                "automatic_tax": {"enabled": True},
                "tax_id_collection": {"enabled": True},
                "billing_address_collection": "required",
                "customer_update": {"address": "auto", "name": "auto"},
            }
        return str((await self._gateway.create_checkout(params))["url"])

    async def portal(self, tenant_id: UUID, *, return_url: str) -> str:
        """The Customer Portal."""
        async with self._database.tenant(tenant_id) as session:
            row = await get_customer(session, tenant_id)
        if row is None or row.customer_id is None:
            raise BillingOff("There is no payment method yet: choose a plan first.")
        return await self._gateway.create_portal(row.customer_id, return_url=return_url)

    async def preview_change(self, tenant_id: UUID, plan_key: str) -> ChangePreview:
        """What Stripe would invoice."""
        terms = await self._offered(tenant_id, plan_key)
        standing = await self._standing(tenant_id)
        if standing is None:
            return await self._preview_of_first(tenant_id, terms)
        kind = _kind(standing, terms)
        async with self._database.tenant(tenant_id) as session:
            state = await allowance_state(session, tenant_id)
        due = tax = 0
        lines: tuple[ChangeLine, ...] = ()
        if kind == "upgrade":
            details = await self._upgrade(standing, terms) | {"proration_behavior": "always_invoice"}
            invoice = await self._gateway.preview(
                {
                    "customer": standing.customer_id,
                    "subscription": standing.seen.id,
                    "subscription_details": details,
                }
            )
            due, tax, lines = amounts(invoice)
            if begins_anew(standing, terms) and (missing := untold(invoice, standing, state.overage)):
                due, lines = due + missing, (*lines, ChangeLine("Use beyond the plan, not told to Stripe yet", missing))
        return ChangePreview(
            kind=kind,
            from_plan=standing.terms.key if standing.terms else None,
            to_plan=terms.key,
            currency=terms.currency,
            due_now_cents=due,
            tax_now_cents=tax,
            next_cents=terms.price_cents,
            takes_effect_at=standing.seen.period_end if kind == "downgrade" else None,
            lines=lines,
            notes=notes_on(kind, standing, terms, state),
        )

    async def change_plan(self, tenant_id: UUID, plan_key: str) -> None:
        """Up at once, and not at all if the difference cannot be collected; down when the period ends."""
        terms = await self._offered(tenant_id, plan_key)
        standing = await self._standing(tenant_id)
        if standing is None:
            raise BillingOff("There is no subscription to change: choose the plan by Checkout.")
        seen = standing.seen
        kind = _kind(standing, terms)
        match kind:
            case "upgrade":
                if ends_trial(standing, terms) and not await self._has_card(tenant_id):
                    raise PaymentDeclined(f"{terms.name} has no trial: add a payment method first, then change to it.")
                params = await self._upgrade(standing, terms) | {
                    "proration_behavior": "always_invoice",
                    "payment_behavior": "error_if_incomplete",
                    "cancel_at_period_end": False,
                }
                if begins_anew(standing, terms):
                    # The period ends here: what was used in it is invoiced with the change, and never after.
                    await self._tell_all(tenant_id)
                    await about_to_change(self._database, tenant_id)
                await self._release(seen)
                await note_instant(self._database, tenant_id)
                try:
                    await self._gateway.update_subscription(seen.id, params)
                except PaymentDeclined:
                    await self._schedule_again(tenant_id, seen)
                    await self.sync_customer(tenant_id)
                    raise
            case "downgrade" if seen.next_plan is None or seen.next_plan.key != terms.key:
                await self._release(seen)
                if seen.cancel_at is not None:
                    await self._gateway.update_subscription(seen.id, {"cancel_at_period_end": False})
                await self._schedule(seen, terms)
            case "same":
                await self._release(seen)
            case "downgrade" | "subscribe":
                pass
        await self.sync_customer(tenant_id)
        async with self._database.tenant(tenant_id) as session:
            await request_sync(session, tenant_id)  # the job of which fits the metered item

    async def _has_card(self, tenant_id: UUID) -> bool:
        async with self._database.tenant(tenant_id) as session:
            row = await get_customer(session, tenant_id)
        return row is not None and row.has_payment_method

    async def _upgrade(self, standing: Standing, terms: PlanTerms) -> Json:
        """The base item at the other plan's price. A trial goes on, unless that plan has none: then it ends, and is paid."""
        item = base_item(standing.seen.subscription)
        changes: Json = {"items": [{"id": item["id"], "price": await self._prices.of(terms), "quantity": 1}]}
        return changes | ({"trial_end": "now"} if ends_trial(standing, terms) else {})

    async def cancel(self, tenant_id: UUID, *, at_period_end: bool) -> None:
        """With the period, or at once with what was used invoiced and the rest of the period credited."""
        if not at_period_end:
            await self._tell_all(tenant_id)
        standing = await self._standing(tenant_id)
        if standing is None:
            await self.sync_customer(tenant_id)
            return
        await self._release(standing.seen)
        if at_period_end:
            await self._gateway.update_subscription(standing.seen.id, {"cancel_at_period_end": True})
        else:
            await self._gateway.cancel_subscription(standing.seen.id, prorate=True)
        await self.sync_customer(tenant_id)

    async def resume(self, tenant_id: UUID) -> None:
        """Take back a cancellation or a downgrade to come."""
        standing = await self._standing(tenant_id)
        if standing is None:
            raise BillingOff("The subscription has ended: choose a plan again.")
        await self._release(standing.seen)
        if standing.seen.cancel_at is not None:
            await self._gateway.update_subscription(standing.seen.id, {"cancel_at_period_end": False})
        await self.sync_customer(tenant_id)

    async def sync_customer(self, tenant_id: UUID) -> None:
        """See `billing.sync`."""
        await sync_customer(self._database, self._gateway, tenant_id, public_url=self._public_url)

    async def fit_overage(self, tenant_id: UUID) -> None:
        """Let the subscription have the metered item that its plan asks for. Twice changes nothing."""
        if await fit_overage(self._database, self._gateway, self._prices, tenant_id):
            await self.sync_customer(tenant_id)

    async def tell_settlements(self, tenant_id: UUID) -> None:
        """Put what was settled on the customer's invoices. Twice changes nothing."""
        async with self._database.tenant(tenant_id) as session:
            tax = await get_setting(session, TAX) is True
        await tell_settlements(self._database, self._gateway, tenant_id, tax=tax)

    async def pause(self, tenant_id: UUID, *, paused: bool) -> None:
        """While a tenant is suspended its invoices stay drafts: nobody pays for what is not to be had."""
        standing = await self._standing(tenant_id)
        if standing is not None and bool(standing.seen.subscription.get("pause_collection")) != paused:
            behavior: Json = {"pause_collection": {"behavior": "keep_as_draft"} if paused else ""}
            await self._gateway.update_subscription(standing.seen.id, behavior)

    async def _customer(self, tenant_id: UUID) -> str:
        """The tenant's customer at Stripe, made if there is none."""
        async with self._database.tenant(tenant_id) as session:
            row = await get_customer(session, tenant_id)
            who = await named(session, tenant_id)
        if row is not None and row.customer_id is not None:
            return row.customer_id
        made = await self._gateway.create_customer(tenant_id, name=who.name, email=who.email)
        async with self._database.tenant(tenant_id) as session:
            customer_id = await register_customer(session, tenant_id, made)
        await match_events(self._database, tenant_id, customer_id=customer_id)
        return customer_id

    async def _standing(self, tenant_id: UUID) -> Standing | None:
        return await standing_of(self._database, self._gateway, tenant_id)

    async def _offered(self, tenant_id: UUID, plan_key: str) -> PlanTerms:
        """Raises `NotFound`, `InvalidInput` for a plan that tenants cannot choose, or `BillingOff` for one that is free."""
        async with self._database.tenant(tenant_id) as session:
            terms = await plan_terms(session, plan_key)
        if not terms.public:
            raise InvalidInput("This plan is not for sale.")
        if terms.is_free:
            raise BillingOff(f"“{terms.name}” costs nothing: a plan that is paid for is ended instead.")
        return terms

    async def _trial_of(self, tenant_id: UUID, terms: PlanTerms) -> Json:
        """A trial for `subscription_data`: once in a tenant's life, and what is left of one that it is in already."""
        async with self._database.tenant(tenant_id) as session:
            row, held = await get_customer(session, tenant_id), await get_subscription(session, tenant_id)
        ends = {"trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}}
        if held.trial_ends_at is not None:
            left = held.status == "trialing" and held.trial_ends_at >= clock.now() + SHORTEST_TRIAL
            return {"trial_end": int(held.trial_ends_at.timestamp()), **ends} if left else {}
        if terms.trial_days and (row is None or row.trial_used_at is None):
            return {"trial_period_days": terms.trial_days, **ends}
        return {}

    async def _preview_of_first(self, tenant_id: UUID, terms: PlanTerms) -> ChangePreview:
        async with self._database.tenant(tenant_id) as session:
            held = await get_subscription(session, tenant_id)
        trial = await self._trial_of(tenant_id, terms)
        days = int(trial.get("trial_period_days", 0))
        if "trial_end" in trial:
            days = max((moment(trial["trial_end"]) - clock.now()).days, 0)
        return ChangePreview(
            kind="subscribe",
            from_plan=held.plan_key if held.stored else None,
            to_plan=terms.key,
            currency=terms.currency,
            due_now_cents=0 if trial else terms.price_cents,
            tax_now_cents=0,
            next_cents=terms.price_cents,
            takes_effect_at=None,
            trial_days=days,
        )

    async def _tell_all(self, tenant_id: UUID) -> None:
        standing = await self._standing(tenant_id)
        item = overage_item(standing.seen.subscription) if standing is not None else None
        since = moment(item["current_period_start"]) if item is not None else None
        await tell_all(self._database, self._gateway, tenant_id, since=since)
        await invoice_waiting_apart(self._database, tenant_id)
        await self.tell_settlements(tenant_id)

    async def _release(self, seen: Seen) -> None:
        schedule = seen.subscription.get("schedule")
        if isinstance(schedule, dict) and schedule.get("status") in ("active", "not_started"):
            await self._gateway.release_schedule(str(schedule["id"]))

    async def _schedule(self, seen: Seen, terms: PlanTerms) -> None:
        """Let the plan take the place of the subscription's when its period ends."""
        metered = (overage_item(seen.subscription), tiered_item(seen.subscription))
        await self._gateway.schedule_change(
            seen.subscription,
            items=[
                {"price": await self._prices.of(terms), "quantity": 1},
                *({"price": item["price"]["id"]} for item in metered if item is not None),
            ],
            at=int(base_item(seen.subscription)["current_period_end"]),
            metadata={"plan_key": terms.key, "plan_version": str(terms.version)},
        )

    async def _schedule_again(self, tenant_id: UUID, seen: Seen) -> None:
        """Put back the change to come that was released for one that was declined."""
        if seen.next_plan is not None:
            async with self._database.tenant(tenant_id) as session:
                terms = await plan_terms(session, seen.next_plan.key, version=seen.next_plan.version)
            await self._schedule(seen, terms)


def _kind(standing: Standing, terms: PlanTerms) -> ChangeKind:
    """Up is what costs more for the same time; a new version of the same plan counts by its price, too."""
    held = standing.terms
    if held is None:
        return "upgrade"
    if (held.key, held.version) == (terms.key, terms.version):
        return "same"
    return "upgrade" if _a_year(terms) > _a_year(held) else "downgrade"


def _a_year(terms: PlanTerms) -> int:
    return terms.price_cents * (12 if terms.interval == "month" else 1)

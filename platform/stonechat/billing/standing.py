"""The subscription that lives now, as Stripe has it, for those who are about to change it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from stonechat.billing.customers import get_customer
from stonechat.billing.gateway import StripeGateway
from stonechat.billing.reading import Seen, read_subscriptions
from stonechat.db.session import Database
from stonechat.plans.catalog import plan_terms
from stonechat.plans.terms import PlanTerms


@dataclass(frozen=True, slots=True)
class Standing:
    """A customer with a subscription that lives."""

    customer_id: str
    seen: Seen
    terms: PlanTerms | None
    """The plan that is paid for; None for a price that is none of ours."""


async def standing_of(database: Database, gateway: StripeGateway, tenant_id: UUID) -> Standing | None:
    """Asks Stripe; None without one."""
    async with database.tenant(tenant_id) as session:
        row = await get_customer(session, tenant_id)
    if row is None or row.customer_id is None:
        return None
    seen = read_subscriptions(await gateway.list_subscriptions(row.customer_id))
    if seen is None or not seen.is_live:
        return None
    terms = None
    if seen.plan is not None:
        async with database.tenant(tenant_id) as session:
            terms = await plan_terms(session, seen.plan.key, version=seen.plan.version)
    return Standing(row.customer_id, seen, terms)

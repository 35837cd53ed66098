"""`sync_customer`: what Stripe says about a customer takes the place of what we held, whatever told us to look.

Webhooks, the return from Checkout and from the portal, the clock and a person's hand all come here. Nothing is read out of
an event: they repeat, come late and in any order. The customer is fetched under a lock of its own and replaces our copy in
one transaction, so that any number of syncs in any order end in the state that the last fetch saw.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.billing.counting import counting_json, counting_of, observe
from stonechat.billing.customers import SyncLock, forget_customer, get_customer, sync_lock
from stonechat.billing.dunning import grace, owing, write_mails
from stonechat.billing.gateway import Json, StripeGateway
from stonechat.billing.models import BillingCustomerRow, InvoiceRow
from stonechat.billing.reading import Seen, invoice_values, living, optional, owing_since, read_subscriptions
from stonechat.billing.storing import store_subscription
from stonechat.db.session import Database
from stonechat.errors import NotFound, StonechatError
from stonechat.plans.catalog import plan_terms
from stonechat.plans.subscription import Subscription, get_subscription
from stonechat.usage.overage import CHANGED_WITHIN

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Fetched:
    """A customer at Stripe, as of one moment."""

    customer: Json
    subscriptions: list[Json]
    invoices: list[Json]
    all_invoices: bool


async def fetch_customer(gateway: StripeGateway, customer_id: str) -> Fetched:
    """Everything that we copy."""
    customer = await gateway.get_customer(customer_id)
    if customer.get("deleted"):
        return Fetched(customer, [], [], all_invoices=False)
    invoices, complete = await gateway.list_invoices(customer_id)
    # Last, so that no subscription looks older than its invoices.
    return Fetched(customer, await gateway.list_subscriptions(customer_id), invoices, complete)


async def sync_customer(database: Database, gateway: StripeGateway, tenant_id: UUID, *, public_url: str) -> bool:
    """Fetch the tenant's customer and let it replace our copy. Returns whether what the tenant is on changed.

    A tenant that is no customer stays as it is. Raises `UpstreamFailed`, `UpstreamTimedOut` or `Unavailable`; nothing
    has changed then.
    """
    async with sync_lock(database, tenant_id) as lock:
        if lock is None:
            return False
        async with database.tenant(tenant_id) as session:
            row = await get_customer(session, tenant_id)
        if row is None or row.customer_id is None:
            return False
        try:
            fetched = await fetch_customer(gateway, row.customer_id)
        except StonechatError as error:
            await _note_failure(database, lock, str(error))
            raise
        async with database.tenant(tenant_id) as session:
            held = await lock.hold(session)
            if held is None or held.customer_id != row.customer_id:
                _log.warning("A sync of tenant %s took so long that another took its place.", tenant_id)
                return False
            return await replace_copy(session, held, fetched, public_url=public_url)


async def replace_copy(session: AsyncSession, row: BillingCustomerRow, fetched: Fetched, *, public_url: str) -> bool:
    """Write down what was fetched. `row` is the customer's, locked. Returns whether what the tenant is on changed."""
    row.synced_at, row.sync_error = clock.now(), None
    settings = fetched.customer.get("invoice_settings") or {}
    seen = read_subscriptions(fetched.subscriptions)
    row.has_payment_method = bool(
        settings.get("default_payment_method")
        or fetched.customer.get("default_source")
        or (seen is not None and seen.subscription.get("default_payment_method"))
    )
    row.overage_item = counting_json(observe(counting_of(row.overage_item), seen, now=clock.now()))
    row.subscription_id = seen.id if seen is not None and seen.is_live else None
    if living(fetched.subscriptions) > 1:
        row.sync_error = (
            "The customer pays for more than one subscription: the newest counts, end the others at Stripe."
        )
        _log.warning("Tenant %s pays for more than one subscription.", row.tenant_id)
    since = owing_since(fetched.invoices, subscription_id=seen.id) if seen is not None else None
    row.past_due_since = (since or row.past_due_since or clock.now()) if seen and seen.state == "owing" else None
    await _replace_invoices(session, row.tenant_id, fetched)
    changed = False
    if seen is not None:
        if seen.trial_ends_at is not None and row.trial_used_at is None:
            row.trial_used_at = optional(seen.subscription.get("trial_start")) or clock.now()
        wanted = await _wanted(session, row, seen)
        if wanted is not None:
            changed = await store_subscription(session, row.tenant_id, wanted, since=_instant_of(row))
            if changed:
                row.changed_at = None
            await write_mails(session, row, wanted, public_url=public_url)
    if fetched.customer.get("deleted") and row.customer_id is not None:
        changed |= await _ended(session, row.tenant_id)
        await session.flush()
        await forget_customer(session, row.tenant_id, row.customer_id)
    await session.flush()
    return changed


async def _wanted(session: AsyncSession, row: BillingCustomerRow, seen: Seen) -> Subscription | None:
    """What the tenant is on, by Stripe; None where Stripe has no say."""
    held = await get_subscription(session, row.tenant_id)
    if not seen.is_live and held.provider == "manual":
        return None  # an operator gave it a plan after the subscription had ended
    if seen.plan is None or not await _exists(session, seen.plan.key, seen.plan.version):
        row.sync_error = "The subscription's price belongs to no plan of ours; the plan stays as it was."
        _log.warning("The subscription of tenant %s has a price that is none of our plans'.", row.tenant_id)
        return None
    pending = seen.next_plan if seen.next_plan and await _exists(session, seen.next_plan.key, None) else None
    plain = Subscription(
        plan_key=seen.plan.key,
        plan_version=seen.plan.version,
        provider="stripe",
        status="active",
        trial_ends_at=seen.trial_ends_at,
        period_start=seen.period_start,
        period_end=_after(seen.period_start, seen.period_end),
        cancel_at=seen.cancel_at,
        pending_plan_key=pending.key if pending else None,
        pending_plan_at=seen.next_at if pending else None,
    )
    return await _with_status(session, row, seen, plain)


async def _with_status(session: AsyncSession, row: BillingCustomerRow, seen: Seen, plain: Subscription) -> Subscription:
    match seen.state:
        case "active":
            return plain
        case "trialing":
            return replace(plain, status="trialing")
        case "ended":
            return replace(plain, status="canceled", pending_plan_key=None, pending_plan_at=None)
        case "owing":
            assert row.past_due_since is not None  # noqa: S101
            return owing(plain, since=row.past_due_since, lasts=await grace(session))


def _instant_of(row: BillingCustomerRow) -> datetime | None:
    """When we asked Stripe for the change that we now see; None for one that was made elsewhere, or long ago."""
    fresh = row.changed_at is not None and row.changed_at >= clock.now() - CHANGED_WITHIN
    return row.changed_at if fresh else None


def _after(start: datetime, end: datetime) -> datetime | None:
    return end if end > start else None


async def _ended(session: AsyncSession, tenant_id: UUID) -> bool:
    held = await get_subscription(session, tenant_id)
    if held.provider != "stripe" or held.status == "canceled":
        return False
    return await store_subscription(session, tenant_id, replace(held, status="canceled", cancel_at=clock.now()))


async def _exists(session: AsyncSession, key: str, version: int | None) -> bool:
    try:
        await plan_terms(session, key, version=version)
    except NotFound:
        return False
    return True


async def _replace_invoices(session: AsyncSession, tenant_id: UUID, fetched: Fetched) -> None:
    rows = [invoice_values(invoice) for invoice in fetched.invoices]
    table = InvoiceRow
    ours = (table.tenant_id == tenant_id) & (table.provider == "stripe")
    gone = delete(table).where(ours, table.invoice_id.not_in([row["invoice_id"] for row in rows]))
    if fetched.all_invoices:
        await session.execute(gone)
    elif rows:
        # Of more than one page: what should be on the page and is not, such as a draft that was deleted.
        await session.execute(gone.where(table.created_at > min(row["created_at"] for row in rows)))
    if rows:
        await upsert_invoices(session, tenant_id, rows)


async def upsert_invoices(session: AsyncSession, tenant_id: UUID, rows: Sequence[dict[str, Any]]) -> None:
    """Write invoices, over those of the same id."""
    statement = insert(InvoiceRow).values([{"tenant_id": tenant_id, **row} for row in rows])
    changed = {name: statement.excluded[name] for name in rows[0] if name != "invoice_id"}
    keys = [InvoiceRow.tenant_id, InvoiceRow.invoice_id]
    await session.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


async def _note_failure(database: Database, lock: SyncLock, reason: str) -> None:
    row = BillingCustomerRow
    async with database.tenant(lock.tenant_id) as session:
        mine = update(row).where(row.tenant_id == lock.tenant_id, row.sync_lock == lock.token)
        await session.execute(mine.values(sync_error=reason[:500]))

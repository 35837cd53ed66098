"""Plans by hand: an operator assigns them, we number the invoices, and the operator notes what was paid.

`sync_customer` is the clock: it begins the next period, writes its invoice, and starts the grace clock of what is overdue.
What the period before brought beyond the plan is on that invoice, too; a plan that ends leaves a last one: `written.py`.
"""

from __future__ import annotations

import calendar
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.billing.customers import ensure_customer
from stonechat.billing.dunning import grace, owing, write_mails
from stonechat.billing.invoices import InvoiceView, load_invoice, view_of
from stonechat.billing.models import BillingCustomerRow, InvoiceRow
from stonechat.billing.provider import ChangePreview
from stonechat.billing.storing import store_subscription
from stonechat.billing.written import write_invoice, write_last
from stonechat.db.session import Database
from stonechat.errors import BillingOff, Conflict, InvalidInput
from stonechat.plans.catalog import plan_terms
from stonechat.plans.subscription import Provider, Subscription, get_subscription

CLOSES_WITHIN = timedelta(days=2)
"""Of a plan's end: what comes into the ledger later than that is not invoiced any more."""
MAX_PERIODS = 24
"""That one run of the clock begins: a platform that slept for years does not wake up to a thousand invoices."""
_BY_HAND = "Plans are changed by hand here: please write to whoever runs this platform."


class ManualBilling:
    """The provider of platforms that invoice their customers themselves."""

    name: Provider = "manual"

    def __init__(self, database: Database, *, public_url: str) -> None:
        self._database = database
        self._public_url = public_url

    async def checkout(self, tenant_id: UUID, plan_key: str, *, return_url: str) -> str:  # noqa: ARG002
        """Raises `BillingOff`: the operator assigns plans."""
        raise BillingOff(_BY_HAND)

    async def portal(self, tenant_id: UUID, *, return_url: str) -> str:  # noqa: ARG002
        """Raises `BillingOff`: there is no card."""
        raise BillingOff("Invoices are paid by transfer here: there is no payment method to change.")

    async def preview_change(self, tenant_id: UUID, plan_key: str) -> ChangePreview:
        """What the operator would charge from the next period on."""
        async with self._database.tenant(tenant_id) as session:
            terms, held = await plan_terms(session, plan_key), await get_subscription(session, tenant_id)
            paid = await plan_terms(session, held.plan_key, version=held.plan_version)
        same = held.plan_key == terms.key and held.plan_version == terms.version
        dearer = terms.price_cents > paid.price_cents
        return ChangePreview(
            kind="same" if same else "upgrade" if dearer else "downgrade",
            from_plan=held.plan_key,
            to_plan=terms.key,
            currency=terms.currency,
            due_now_cents=0,
            tax_now_cents=0,
            next_cents=terms.price_cents,
            takes_effect_at=held.period_end,
        )

    async def change_plan(self, tenant_id: UUID, plan_key: str) -> None:  # noqa: ARG002
        """Raises `BillingOff`: see `assign_plan`."""
        raise BillingOff(_BY_HAND)

    async def cancel(self, tenant_id: UUID, *, at_period_end: bool) -> None:
        """No further period begins, or the plan ends at once."""
        async with self._database.tenant(tenant_id) as session:
            row = await ensure_customer(session, tenant_id, provider="manual")
            held = await _own(session, tenant_id)
            now = clock.now()
            ends = held.period_end if at_period_end and held.period_end and held.period_end > now else now
            status = held.status if ends > now else "canceled"
            wanted = replace(held, cancel_at=min(held.cancel_at or ends, ends), status=status)
            if status == "canceled":
                await write_last(session, row, held, until=now)
            await store_subscription(session, tenant_id, wanted)

    async def close(self, tenant_id: UUID) -> None:
        """End a plan of ours now, if there is one, and write what is still owed: the tenant is about to be deleted."""
        async with self._database.tenant(tenant_id) as session:
            held = await get_subscription(session, tenant_id)
        if held.provider == "manual" and held.status != "canceled":
            await self.cancel(tenant_id, at_period_end=False)

    async def resume(self, tenant_id: UUID) -> None:
        """Take back a cancellation that has not happened yet."""
        async with self._database.tenant(tenant_id) as session:
            held = await _own(session, tenant_id)
            if held.cancel_at is not None and held.cancel_at <= clock.now():
                raise BillingOff(_BY_HAND)
            await store_subscription(
                session, tenant_id, replace(held, cancel_at=None, pending_plan_key=None, pending_plan_at=None)
            )

    async def sync_customer(self, tenant_id: UUID) -> None:
        """Let the clock do what is due."""
        async with self._database.tenant(tenant_id) as session:
            await run_periods(session, tenant_id, public_url=self._public_url)


async def assign_plan(
    session: AsyncSession,
    actor: Actor,
    *,
    plan_key: str,
    plan_version: int | None = None,
    trial_days: int = 0,
    reason: str = "",
) -> Subscription:
    """Put the tenant on a plan from now on, and write its first invoice unless it is free or begins with a trial.

    The actor is an operator. The same plan again changes nothing.
    """
    actor.require("admin")
    if not 0 <= trial_days <= 730:
        raise InvalidInput("A trial has 0 to 730 days.")
    tenant_id, now = actor.tenant_id, clock.now()
    terms = await plan_terms(session, plan_key, version=plan_version)
    row = await ensure_customer(session, tenant_id, provider="manual")
    if row.subscription_id is not None:
        raise Conflict("This tenant pays by Stripe: change or end that subscription first.")
    held = await get_subscription(session, tenant_id)
    current = held.stored and held.provider == "manual" and held.status in ("active", "trialing", "past_due")
    if current and (held.plan_key, held.plan_version) == (terms.key, terms.version) and held.cancel_at is None:
        return held
    ends = now + timedelta(days=trial_days)
    wanted = Subscription(
        plan_key=terms.key,
        plan_version=terms.version,
        provider="manual",
        status="trialing" if trial_days else "active",
        trial_ends_at=ends if trial_days else None,
        period_start=now,
        period_end=ends if trial_days else next_period(now, terms.interval),
    )
    # What the plan before brought beyond it is written down while that still holds.
    if current and trial_days:
        await write_last(session, row, held, until=now)
    elif not trial_days:
        await write_invoice(session, row, terms, start=now, end=next_period(now, terms.interval), before=held)
    await store_subscription(session, tenant_id, wanted)
    if trial_days:
        row.trial_used_at = row.trial_used_at or now
    detail = {"plan": terms.key, "version": terms.version, "reason": reason[:500]}
    await record_audit(session, actor, "plan.assign", detail=detail)
    return wanted


async def mark_paid(session: AsyncSession, actor: Actor, *, invoice_id: str, public_url: str) -> InvoiceView:
    """Note that an invoice of ours was paid; the plan holds again if nothing else is overdue. Twice changes nothing."""
    return await _close(session, actor, invoice_id, paid=True, public_url=public_url)


async def void_invoice(session: AsyncSession, actor: Actor, *, invoice_id: str, public_url: str) -> InvoiceView:
    """Take an open invoice of ours back; its number stays used. Twice changes nothing."""
    return await _close(session, actor, invoice_id, paid=False, public_url=public_url)


async def _close(session: AsyncSession, actor: Actor, invoice_id: str, *, paid: bool, public_url: str) -> InvoiceView:
    actor.require("admin")
    # The customer first, then its invoices: in this order everywhere, so that nobody waits for each other.
    await ensure_customer(session, actor.tenant_id, provider="manual")
    invoice = await load_invoice(session, actor.tenant_id, invoice_id)
    wanted = "paid" if paid else "void"
    if invoice.provider != "manual":
        raise Conflict("This invoice is Stripe's: it is paid or taken back there.")
    if invoice.status == wanted:
        return view_of(invoice)
    if invoice.status != "open":
        raise Conflict(f"This invoice is {invoice.status} already.")
    invoice.status, invoice.due_cents = wanted, 0
    if paid:
        invoice.paid_cents, invoice.paid_at = invoice.total_cents, clock.now()
    await session.flush()
    await record_audit(session, actor, f"invoice.{'mark_paid' if paid else 'void'}", subject_id=invoice_id)
    await run_periods(session, actor.tenant_id, public_url=public_url)
    return view_of(invoice)


async def run_periods(session: AsyncSession, tenant_id: UUID, *, public_url: str) -> None:
    """What the clock does to a tenant on a plan by hand. Twice changes nothing."""
    held = await get_subscription(session, tenant_id)
    if held.provider != "manual":
        return
    now = clock.now()
    if held.status == "canceled":
        if held.cancel_at is not None and held.cancel_at > now - CLOSES_WITHIN:
            row = await ensure_customer(session, tenant_id, provider="manual")
            await write_last(session, row, held, until=held.cancel_at)  # what came into the ledger late
        return
    row = await ensure_customer(session, tenant_id, provider="manual")
    for _ in range(MAX_PERIODS):
        if held.cancel_at is not None and held.cancel_at <= now:
            await write_last(session, row, held, until=held.cancel_at)
            held = replace(held, status="canceled", pending_plan_key=None, pending_plan_at=None)
            break
        if held.period_end is None or held.period_end > now:
            break
        held = await _next(session, row, held)
    if held.status != "canceled":
        since = await _overdue_since(session, tenant_id, now)
        row.past_due_since = since
        if since is not None:
            held = owing(held, since=since, lasts=await grace(session))
        elif held.status in ("past_due", "unpaid"):
            held = replace(held, status="active", grace_until=None)
    await store_subscription(session, tenant_id, held)
    await write_mails(session, row, held, public_url=public_url)
    await session.flush()


async def _next(session: AsyncSession, row: BillingCustomerRow, held: Subscription) -> Subscription:
    """The period that follows, on the plan that was chosen for it, with its invoice."""
    assert held.period_end is not None  # noqa: S101
    key, version = held.key_at(held.period_end)
    terms = await plan_terms(session, key, version=version)
    start, end = held.period_end, next_period(held.period_end, terms.interval)
    await write_invoice(session, row, terms, start=start, end=end, before=held)
    return replace(
        held,
        plan_key=terms.key,
        plan_version=terms.version,
        status="active" if held.status == "trialing" else held.status,
        period_start=start,
        period_end=end,
        pending_plan_key=None,
        pending_plan_at=None,
    )


async def _overdue_since(session: AsyncSession, tenant_id: UUID, now: datetime) -> datetime | None:
    row = InvoiceRow
    overdue = (row.tenant_id == tenant_id) & (row.provider == "manual") & (row.status == "open") & (row.due_at <= now)
    return await session.scalar(select(func.min(row.due_at)).where(overdue))


async def _own(session: AsyncSession, tenant_id: UUID) -> Subscription:
    held = await get_subscription(session, tenant_id)
    if held.provider != "manual" or held.status == "canceled":
        raise BillingOff("There is no plan to end.")
    return held


def next_period(start: datetime, interval: str) -> datetime:
    """The same day of the next month or year, or the last day of a shorter month."""
    months = start.year * 12 + start.month - 1 + (12 if interval == "year" else 1)
    year, month = divmod(months, 12)
    return start.replace(year=year, month=month + 1, day=min(start.day, calendar.monthrange(year, month + 1)[1]))

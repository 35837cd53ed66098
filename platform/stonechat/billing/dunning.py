"""Money that is owed: the grace clock, the mails along the way, and the banner.

A payment that fails starts a clock of `grace_days` (a setting of the platform; 7). Until it has run the plan holds in full;
then the tenant falls back to what everybody has for nothing, and keeps all its data. Paying at any time ends it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, mail
from stonechat.billing.customers import ensure_customer, get_customer, owners_of
from stonechat.billing.models import BillingCustomerRow
from stonechat.billing.storing import store_subscription
from stonechat.db.session import Database
from stonechat.plans.catalog import load_catalog
from stonechat.plans.models import TenantPlanRow
from stonechat.plans.platform_settings import get_setting
from stonechat.plans.subscription import Subscription, get_subscription

GRACE_DAYS = "grace_days"
DEFAULT_GRACE_DAYS, MAX_GRACE_DAYS = 7, 90
REMIND_BEFORE = timedelta(days=2)
TRIAL_MAIL_BEFORE = timedelta(days=3)
AT_ONCE = 500
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a banner over every page of the console says."""

    kind: Literal["past_due", "unpaid", "trial_ending", "canceling", "canceled"]
    severity: Literal["info", "warning", "error"]
    message: str
    until: datetime | None
    """When what it tells of happens."""


async def grace(session: AsyncSession) -> timedelta:
    """How long a plan holds after a payment failed."""
    days = await get_setting(session, GRACE_DAYS)
    usable = isinstance(days, int) and not isinstance(days, bool) and 0 <= days <= MAX_GRACE_DAYS
    return timedelta(days=days if usable else DEFAULT_GRACE_DAYS)


def owing(subscription: Subscription, *, since: datetime, lasts: timedelta) -> Subscription:
    """The subscription with a payment owed since then: the plan holds until the grace clock has run."""
    until = since + lasts
    return replace(subscription, status="past_due" if clock.now() < until else "unpaid", grace_until=until)


async def write_mails(session: AsyncSession, row: BillingCustomerRow, now: Subscription, *, public_url: str) -> None:
    """Tell the owners of what changed about money owed and trials, each thing once. `row` is locked by the caller."""
    told = _next_mail(row, now)
    if told is None:
        return
    stage, name = told
    row.dunning = stage
    if name == "trial_ending":
        row.trial_mail_for = now.trial_ends_at
    await session.flush()
    plan = (await load_catalog(session, now.plan_key)).get(now.plan_key, now.plan_version)
    words = _WORDS[name]
    until = now.trial_ends_at if name == "trial_ending" else now.grace_until
    values = {"plan": plan.name if plan else now.plan_key, "until": f"{until:%-d %B %Y}" if until else ""}
    for address in await owners_of(session, row.tenant_id):
        letter = mail.compose(
            "billing",
            to=address,
            heading=words[0].format(**values),
            body=words[1].format(**values),
            action=words[2],
            url=f"{public_url}/console/billing",
        )
        await mail.send_mail(session, row.tenant_id, letter)


_WORDS = {
    "failed": (
        "Your payment for Stonechat did not go through",
        "We could not collect the payment for your plan {plan}. Everything goes on as it is until {until}. "
        "Please check your card by then.",
        "Check the payment method",
    ),
    "reminded": (
        "Your plan {plan} ends on {until} unless it is paid",
        "The payment for your plan {plan} is still open. After {until} your agents answer within the bounds of the free "
        "plan. Nothing is deleted.",
        "Pay now",
    ),
    "ended": (
        "Your plan {plan} is suspended until it is paid",
        "The payment for your plan {plan} is still open, so that the bounds of the free plan hold now. Nothing was deleted: "
        "you can read and export everything, and all is as before once you pay.",
        "Pay now",
    ),
    "recovered": (
        "Thank you, your payment has arrived",
        "Your plan {plan} is paid, and holds in full.",
        "Look at the invoice",
    ),
    "trial_ending": (
        "Your trial of {plan} ends on {until}",
        "Your trial of the plan {plan} ends on {until}. If you do nothing, you pay nothing: the bounds of the free plan hold "
        "from then on, and nothing is deleted.",
        "Choose a plan",
    ),
}


def _next_mail(row: BillingCustomerRow, now: Subscription) -> tuple[str, str] | None:
    """The stage of this episode that is reached, and the mail that tells of it; None where all is told."""
    match now.status:
        case "past_due":
            late = now.grace_until is not None and clock.now() >= now.grace_until - REMIND_BEFORE
            if row.dunning == "":
                return "failed", "failed"
            return ("reminded", "reminded") if late and row.dunning == "failed" else None
        case "unpaid":
            return None if row.dunning == "ended" else ("ended", "ended")
        case "active" | "trialing":
            if row.dunning:
                return "", "recovered"
            ends = now.trial_ends_at
            soon = ends is not None and clock.now() < ends <= clock.now() + TRIAL_MAIL_BEFORE
            unasked = not row.has_payment_method and row.trial_mail_for != ends
            return ("", "trial_ending") if now.status == "trialing" and soon and unasked else None
        case "canceled":
            row.dunning = ""
            return None


async def run_clocks(database: Database, *, public_url: str) -> int:
    """What the clock alone does: graces that have run, trials about to end. One that fails holds up nobody.

    Returns how many tenants were looked at.
    """
    plan = TenantPlanRow
    soon = clock.now() + max(TRIAL_MAIL_BEFORE, REMIND_BEFORE)
    due = ((plan.status == "past_due") & (plan.grace_until <= soon)) | (
        (plan.status == "trialing") & (plan.trial_ends_at > clock.now()) & (plan.trial_ends_at <= soon)
    )
    done = 0
    last: UUID | None = None
    while True:
        async with database.platform() as session:
            query = select(plan.tenant_id).where(due).order_by(plan.tenant_id).limit(AT_ONCE)
            tenants = list(await session.scalars(query if last is None else query.where(plan.tenant_id > last)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    await run_clock(session, tenant_id, public_url=public_url)
            except Exception:
                _log.exception("could not run a tenant's clock", extra={"tenant_id": str(tenant_id)})
        done += len(tenants)
        if len(tenants) < AT_ONCE:
            return done
        last = tenants[-1]


async def run_clock(session: AsyncSession, tenant_id: UUID, *, public_url: str) -> None:
    """Let the tenant's grace end, if it has, and write what is to be written. Twice changes nothing."""
    row = await ensure_customer(session, tenant_id, provider="manual")
    now = await get_subscription(session, tenant_id)
    if now.status == "past_due" and now.grace_until is not None and clock.now() >= now.grace_until:
        now = replace(now, status="unpaid")
        await store_subscription(session, tenant_id, now)
    await write_mails(session, row, now, public_url=public_url)


async def billing_notice(session: AsyncSession, tenant_id: UUID) -> Notice | None:
    """The banner that the tenant's console shows now, if any. Two statements."""
    row = await get_customer(session, tenant_id)
    plan = await get_subscription(session, tenant_id)
    return notice_of(plan, has_payment_method=row is not None and row.has_payment_method) if plan.stored else None


def notice_of(plan: Subscription, *, has_payment_method: bool) -> Notice | None:
    """The banner that a subscription of a tenant's own asks for, if any."""
    now = clock.now()
    match plan.status:
        case "past_due":
            if plan.grace_until is not None and now >= plan.grace_until:
                return _unpaid()
            until = f"{plan.grace_until:%-d %B %Y}" if plan.grace_until else "the grace period is over"
            words = f"Your last payment did not go through. Please check your payment method: your plan holds until {until}."
            return Notice("past_due", "warning", words, plan.grace_until)
        case "unpaid":
            return _unpaid()
        case "canceled":
            words = "Your plan has ended. You can read and export everything, and choose a plan again at any time."
            return Notice("canceled", "info", words, plan.cancel_at)
        case "trialing" | "active":
            return _of_good_standing(plan, has_payment_method=has_payment_method)


def _unpaid() -> Notice:
    words = "Your plan is suspended because a payment is open. Nothing is deleted, and all is as before once you pay."
    return Notice("unpaid", "error", words, None)


def _of_good_standing(plan: Subscription, *, has_payment_method: bool) -> Notice | None:
    now = clock.now()
    if plan.cancel_at is not None:
        if now >= plan.cancel_at:
            return Notice(
                "canceled", "info", "Your plan has ended. You can choose one again at any time.", plan.cancel_at
            )
        words = f"Your plan ends on {plan.cancel_at:%-d %B %Y}. Until then you can take the cancellation back."
        return Notice("canceling", "info", words, plan.cancel_at)
    ends = plan.trial_ends_at
    if plan.status != "trialing" or ends is None or not now < ends <= now + TRIAL_MAIL_BEFORE or has_payment_method:
        return None
    words = f"Your trial ends on {ends:%-d %B %Y}. Choose a plan to keep what it includes."
    return Notice("trial_ending", "info", words, ends)

"""What a tenant is on: its plan, how that is paid, and until when."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import NotFound
from stonechat.jobs import enqueue
from stonechat.plans.catalog import load_catalog
from stonechat.plans.models import TenantPlanRow
from stonechat.plans.platform_settings import DEFAULT_PLAN, get_setting
from stonechat.plans.terms import SELF_HOSTED, PlanTerms

Provider = Literal["none", "manual", "stripe"]
Status = Literal["trialing", "active", "past_due", "unpaid", "canceled"]
SYNC_SLACK = timedelta(hours=24)
"""How long after the end of a trial we wait for Stripe, or for the clock of plans by hand, to make of it what comes then."""


PLAN_CHANGED = "plans.changed"
"""The job that makes what may be used what the plan says, for those who cannot do so at once: this room is below `usage`."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a tenant is on. `stored` is False for a tenant that simply is on the platform's default plan."""

    plan_key: str
    plan_version: int | None
    """None: the newest."""
    provider: Provider
    status: Status
    trial_ends_at: datetime | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    cancel_at: datetime | None = None
    """From then on the subscription is no more."""
    grace_until: datetime | None = None
    """Of a payment that failed: until then the plan holds all the same."""
    pending_plan_key: str | None = None
    pending_plan_at: datetime | None = None
    """When the pending plan takes the place of this one."""
    stored: bool = True

    def lapsed(self, at: datetime) -> bool:
        """Whether the plan's own terms hold no more at that moment, because it ended or was not paid."""
        if self.cancel_at is not None and at >= self.cancel_at:
            return True
        match self.status:
            case "active":
                return False
            case "trialing":
                slack = timedelta(0) if self.provider == "none" else SYNC_SLACK
                return self.trial_ends_at is not None and at >= self.trial_ends_at + slack
            case "past_due":
                return self.grace_until is not None and at >= self.grace_until
            case "unpaid" | "canceled":
                return True

    def key_at(self, at: datetime) -> tuple[str, int | None]:
        """The plan, and its version, that was chosen for that moment."""
        if self.pending_plan_key is not None and self.pending_plan_at is not None and at >= self.pending_plan_at:
            return self.pending_plan_key, None
        return self.plan_key, self.plan_version


async def get_subscription(session: AsyncSession, tenant_id: UUID) -> Subscription:
    """What the tenant is on; without a row of its own, the platform's default plan, or `self_hosted`."""
    row = await session.scalar(
        select(TenantPlanRow).where(TenantPlanRow.tenant_id == tenant_id).execution_options(populate_existing=True)
    )
    return default_subscription(await get_setting(session, DEFAULT_PLAN)) if row is None else subscription_of(row)


def default_subscription(default_plan: object) -> Subscription:
    """What a tenant without a row is on."""
    key = default_plan if isinstance(default_plan, str) else SELF_HOSTED.key
    return Subscription(key, None, "none", "active", stored=False)


def subscription_of(row: TenantPlanRow) -> Subscription:
    """A stored one."""
    names = [name for name in Subscription.__dataclass_fields__ if name != "stored"]
    return Subscription(**{name: getattr(row, name) for name in names})


async def set_subscription(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    plan_key: str,
    plan_version: int | None = None,
    provider: Provider,
    status: Status,
    trial_ends_at: datetime | None = None,
    period_start: datetime | None = None,
    period_end: datetime | None = None,
    cancel_at: datetime | None = None,
    grace_until: datetime | None = None,
    pending_plan_key: str | None = None,
    pending_plan_at: datetime | None = None,
) -> Subscription:
    """Replace what the tenant is on, all of it: what is left out is nothing. Twice changes nothing.

    Without a version a tenant keeps the version of the plan that it is on, and comes to a new plan in its newest. Raises
    `NotFound` for a plan or a version that does not exist. The caller then runs `usage.allowance.refresh_allowance`.
    """
    catalog = await load_catalog(session, plan_key, *([pending_plan_key] if pending_plan_key else []))
    if plan_version is None:
        held = select(TenantPlanRow.plan_version).where(
            TenantPlanRow.tenant_id == tenant_id, TenantPlanRow.plan_key == plan_key
        )
        plan_version = await session.scalar(held)
    terms = catalog.get(plan_key, plan_version)
    if terms is None or (pending_plan_key is not None and catalog.get(pending_plan_key) is None):
        raise NotFound("There is no such plan.")
    values: dict[str, Any] = {
        "plan_key": plan_key,
        "plan_version": terms.version,
        "provider": provider,
        "status": status,
        "trial_ends_at": trial_ends_at,
        "period_start": period_start,
        "period_end": period_end,
        "cancel_at": cancel_at,
        "grace_until": grace_until,
        "pending_plan_key": pending_plan_key,
        "pending_plan_at": pending_plan_at,
    }
    statement = insert(TenantPlanRow).values(tenant_id=tenant_id, updated_at=clock.now(), **values)
    changed = {name: statement.excluded[name] for name in (*values, "updated_at")}
    await session.execute(statement.on_conflict_do_update(index_elements=[TenantPlanRow.tenant_id], set_=changed))
    return Subscription(**values)


async def start_on_default_plan(session: AsyncSession, tenant_id: UUID) -> PlanTerms | None:
    """Put a tenant that was just made on the platform's default plan, its trial begun; None where there is none to be on.

    A default plan without a trial needs no row. A job makes the tenant's allowance.
    """
    key = await get_setting(session, DEFAULT_PLAN)
    if not isinstance(key, str):
        return None
    terms = (await load_catalog(session, key)).get(key)
    if terms is None:
        return None
    await enqueue(session, tenant_id, PLAN_CHANGED, {}, dedupe_key="plan")
    if not terms.trial_days:
        return terms
    now = clock.now()
    ends = now + timedelta(days=terms.trial_days)
    await set_subscription(
        session,
        tenant_id,
        plan_key=key,
        plan_version=terms.version,
        provider="none",
        status="trialing",
        trial_ends_at=ends,
        period_start=now,
        period_end=ends,
    )
    return terms


def usage_period(subscription: Subscription, at: datetime) -> tuple[datetime, datetime]:
    """The month of use that `at` falls into, [start, end): what is included is included in each of these.

    A paid period of at most a month is itself one; a longer one, such as a year's, is cut into months from its start; and
    where the next period is not yet known, months go on from the end of the last. Without one: calendar months in UTC.
    """
    at = at.astimezone(UTC)
    anchor, end = subscription.period_start, subscription.period_end
    if anchor is None or at < anchor:
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, months_after(start, 1)
    if end is not None and at >= end:
        anchor, end = end, None
    if end is not None and end - anchor <= timedelta(days=31):
        return anchor, end
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    months -= at < months_after(anchor, months)
    start, following = months_after(anchor, months), months_after(anchor, months + 1)
    return start, min(following, end) if end is not None else following


def months_after(moment: datetime, months: int) -> datetime:
    """The same day so many months later, or the last of a shorter month."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, calendar.monthrange(year, month + 1)[1]))

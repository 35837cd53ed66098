"""What holds for a tenant's use: its plan, the exceptions from it and the tenant's own choices, laid together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.models import Tenant
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.subscription import usage_period
from stonechat.usage.allowance_models import UsageChoicesRow
from stonechat.usage.overage import Agreement, SoFar, so_far, tokens_in

GRACE_AFTER = ((timedelta(days=365), 20), (timedelta(days=90), 10))
"""Age of a tenant that pays → percent of grace."""


class Amounts(BaseModel):
    """Messages (answers by a language model) and tokens. None is no bound."""

    model_config = ConfigDict(frozen=True)

    messages: int | None
    tokens: int | None


class Period(BaseModel):
    """From `start` until just before `end`."""

    model_config = ConfigDict(frozen=True)

    start: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plan, its exceptions and the tenant's choices come to."""

    period: Period
    included: Amounts
    hard: Amounts
    grace_percent: int
    overage_price: int | None
    """What the plan asks for a thousand tokens; None where it offers none."""
    opt_in: bool
    agreement: Agreement | None
    """What the tenant pays for more; None where it does not."""
    so_far: SoFar
    """What is charged in this period already, whatever holds now."""
    spend_cap_micros: int | None
    choices: UsageChoicesRow | None

    @property
    def overage_active(self) -> bool:
        """Whether the tenant goes on beyond what is included, for money."""
        return self.agreement is not None


def grace_percent(held: Entitlements, *, since: datetime, at: datetime) -> int:
    """How much more than is included a tenant may use before the hard end, in percent.

    Who pays (a plan with a price, in force and not overdue) and has had its account for 90 days gets 10, after a year 20,
    so that nobody who is trusted is cut off in the middle of a day. Trials and free plans get none.
    """
    if held.lapsed or held.plan.is_free or held.subscription.status != "active":
        return 0
    return next((percent for age, percent in GRACE_AFTER if at - since >= age), 0)


async def terms_of(
    session: AsyncSession, tenant_id: UUID, *, at: datetime | None = None, rights: Entitlements | None = None
) -> Terms:
    """What holds for the tenant now, or at another moment, whatever was used. `rights` are its entitlements, if known."""
    at = at or clock.now()
    held = rights or await entitlements(session, tenant_id, at=at)
    known = (
        select(Tenant.created_at, UsageChoicesRow)
        .outerjoin(UsageChoicesRow, UsageChoicesRow.tenant_id == tenant_id)
        .where(Tenant.tenant_id == tenant_id)
        .execution_options(populate_existing=True)
    )
    found = (await session.execute(known)).one_or_none()
    since, choices = (at, None) if found is None else (found[0], found[1])
    start, end = usage_period(held.subscription, at)
    included = Amounts(messages=held.terms.included_messages, tokens=held.terms.included_tokens)
    charged = await so_far(session, tenant_id, period_start=start, at=at)
    price = held.terms.overage_micros_per_1k_tokens if included.tokens is not None else None
    opt_in = choices is not None and choices.overage_opt_in
    cap = None if choices is None else choices.spend_cap_micros
    grace = grace_percent(held, since=since, at=at)
    agreement = None
    hard = Amounts(messages=_with_grace(included.messages, grace), tokens=_with_grace(included.tokens, grace))
    # Money that is not there yet is not spent: neither in a trial nor while a payment is overdue.
    payable = opt_in and not held.lapsed and held.subscription.status == "active"
    if payable and price is not None and included.tokens is not None:
        agreement = Agreement(held.subscription.provider, start, end, included.tokens, price, held.plan.currency)
        room = None
        if cap is not None and price > 0:
            used = charged.used
            if used is None:
                (used,) = await tokens_in(session, tenant_id, [(start, at)])
            room = max(included.tokens, used) + max(0, cap - charged.cost_micros) * 1000 // price
        hard = Amounts(messages=None, tokens=room)  # what is paid for is tokens
    return Terms(Period(start=start, end=end), included, hard, grace, price, opt_in, agreement, charged, cap, choices)


def _with_grace(included: int | None, percent: int) -> int | None:
    return None if included is None else included * (100 + percent) // 100

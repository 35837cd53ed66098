"""Alerts at 50, 80 and 100 percent of what a plan includes, or of a tenant's own monthly budget: an event for each, once in
a period, and one mail to the owners. A job by the clock looks; the chat's hot path knows nothing of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, delete, exists, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.models import Membership, Tenant
from stonechat.db.directory import Person
from stonechat.db.session import Database
from stonechat.events import record
from stonechat.mail import compose, send_mail
from stonechat.usage.allowance import AllowanceState, allowance_state
from stonechat.usage.allowance_models import Bound, UsageAlertRow, UsageAllowanceRow
from stonechat.usage.quota import UsageBudgetRow, month_of, next_month

LEVELS = (50, 80, 100)
MAX_OWNERS = 20
AT_ONCE = 500
"""Tenants in one go; the next goes on."""
KEPT_DAYS = 400
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Reached:
    """How far a bound is used."""

    bound: Bound
    start: datetime
    end: datetime
    percent: int
    what: str
    lines: list[str]
    next_words: str
    data: dict[str, Any]


async def send_alerts(database: Database, *, public_url: str) -> int:
    """Tell every tenant that reached a level it was not told of yet. Returns how many were."""
    async with database.platform() as session:
        due: list[tuple[UUID, Bound]] = [
            *((tenant_id, "plan") for tenant_id in await session.scalars(_due_plans())),
            *((tenant_id, "budget") for tenant_id in await session.scalars(_due_budgets())),
        ]
    told = 0
    for tenant_id, bound in due:
        try:
            async with database.tenant(tenant_id) as session:
                told += await alert_tenant(session, tenant_id, bound=bound, public_url=public_url)
        except Exception:
            _log.exception("could not alert a tenant", extra={"tenant_id": str(tenant_id)})
    return told


async def alert_tenant(session: AsyncSession, tenant_id: UUID, *, bound: Bound, public_url: str) -> bool:
    """Record the levels that are reached and were not before in this period, and mail the highest of them to the owners.

    False if there is nothing new. Whoever comes second finds it done.
    """
    reached = await (_plan(session, tenant_id) if bound == "plan" else _budget(session, tenant_id))
    levels = [level for level in LEVELS if reached is not None and reached.percent >= level]
    if reached is None or not levels:
        return False
    row = UsageAlertRow
    values = [
        {"tenant_id": tenant_id, "bound": bound, "period_start": reached.start, "percent": level} for level in levels
    ]
    made = await session.scalars(insert(row).values(values).on_conflict_do_nothing().returning(row.percent))
    new = sorted(made)
    if not new:
        return False
    old = row.alerted_at < func.now() - func.make_interval(0, 0, 0, KEPT_DAYS)
    await session.execute(delete(row).where(row.tenant_id == tenant_id, old))
    period = {"period_start": reached.start.isoformat(), "period_end": reached.end.isoformat()}
    for level in new:
        told = {"bound": bound, "percent": level} | period | reached.data
        await record(session, tenant_id, "usage.threshold_reached", told)
    name = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == tenant_id)) or "Your site"
    owners = await session.scalars(
        select(Person.email)
        .join(Membership, Membership.person_id == Person.person_id)
        .where(Membership.tenant_id == tenant_id, Membership.role == "owner")
        .order_by(Person.email)
        .limit(MAX_OWNERS)
    )
    for email in owners:
        mail = compose(
            "usage_alert",
            to=email,
            tenant=name,
            percent=new[-1],
            what=reached.what,
            lines=reached.lines,
            until=f"A new period begins on {reached.end:%-d %B %Y} (UTC).",
            next_words=reached.next_words,
            url=f"{public_url.rstrip('/')}/console/usage",
        )
        await send_mail(session, tenant_id, mail)
    return True


async def _plan(session: AsyncSession, tenant_id: UUID) -> _Reached | None:
    state = await allowance_state(session, tenant_id)
    if not state.bounded:
        return None
    lines = [
        f"{used:,} of {included:,} {noun} that your plan includes are used."
        for noun, used, included in (
            ("answers", state.used.messages, state.included.messages),
            ("tokens", state.used.tokens, state.included.tokens),
        )
        if used is not None and included is not None
    ]
    data = {
        "used_messages": state.used.messages,
        "used_tokens": state.used.tokens,
        "included_messages": state.included.messages,
        "included_tokens": state.included.tokens,
    }
    what = "what its plan includes"
    return _Reached("plan", state.period.start, state.period.end, state.percent, what, lines, _plan_words(state), data)


def _plan_words(state: AllowanceState) -> str:
    if state.overage.active:
        return "Beyond it your assistants go on, at the price of overage, up to the cap if you set one."
    if state.overage.micros_per_1k_tokens is not None:
        return "At the end visitors meet the steps you chose. You can opt in to overage, so that your assistants go on."
    return "At the end visitors meet the steps you chose. A larger plan includes more."


async def _budget(session: AsyncSession, tenant_id: UUID) -> _Reached | None:
    row = await session.get(UsageBudgetRow, tenant_id, populate_existing=True)
    month = month_of(clock.now())
    if row is None or row.month != month:
        return None
    shares = [
        100 * used // bound
        for used, bound in ((row.used_tokens, row.max_tokens), (row.used_micros, row.max_cost_micros))
        if bound is not None
    ]
    lines = []
    if row.max_tokens is not None:
        lines.append(f"{row.used_tokens:,} of {row.max_tokens:,} tokens of this month’s budget are used.")
    if row.max_cost_micros is not None:
        lines.append(
            f"${row.used_micros / 1e6:,.2f} of ${row.max_cost_micros / 1e6:,.2f} of this month’s budget are used."
        )
    data = {
        "used_tokens": row.used_tokens,
        "used_cost_micros": row.used_micros,
        "max_tokens": row.max_tokens,
        "max_cost_micros": row.max_cost_micros,
    }
    start = datetime.combine(month, time(), UTC)
    words = "At the end visitors meet the steps you chose."
    return _Reached("budget", start, next_month(month), max(shares, default=0), "its budget", lines, words, data)


def _due_plans() -> Select[UUID]:
    """Tenants that reached a level of their plan without an alert of it, as far as the counts say."""
    row = UsageAllowanceRow
    level = _level((row.used_messages, row.included_messages), (row.used_tokens, row.included_tokens))
    due = and_(row.period_end > func.now(), level > 0, ~_alerted("plan", row.tenant_id, row.period_start, level))
    return select(row.tenant_id).where(due).order_by(row.tenant_id).limit(AT_ONCE)


def _due_budgets() -> Select[UUID]:
    row = UsageBudgetRow
    month = month_of(clock.now())
    start = literal(datetime.combine(month, time(), UTC))
    level = _level((row.used_tokens, row.max_tokens), (row.used_micros, row.max_cost_micros))
    due = and_(row.month == month, level > 0, ~_alerted("budget", row.tenant_id, start, level))
    return select(row.tenant_id).where(due).order_by(row.tenant_id).limit(AT_ONCE)


def _level(*shares: tuple[Any, Any]) -> ColumnElement[int]:
    """The highest level that one of (used, bound) reaches, or 0."""
    reached = [
        (or_(*(and_(bound.is_not(None), used * 100 >= bound * level) for used, bound in shares)), level)
        for level in reversed(LEVELS)
    ]
    return case(*reached, else_=0)


def _alerted(bound: Bound, tenant_id: Any, start: Any, level: Any) -> ColumnElement[bool]:
    alert = UsageAlertRow
    return exists().where(
        alert.tenant_id == tenant_id, alert.bound == bound, alert.period_start == start, alert.percent == level
    )

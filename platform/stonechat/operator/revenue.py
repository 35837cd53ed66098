"""What the platform brings and costs, day by day, what is unusual about it, and what a month would have brought on another plan."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import date, timedelta
from statistics import median
from uuid import UUID

from sqlalchemy import BigInteger, Date, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.operator.models import PlatformDayRow, PlatformMonthRow
from stonechat.operator.summaries import default_plan
from stonechat.plans.terms import BUILT_IN, PlanTerms
from stonechat.usage.report import today

USUAL_DAYS, UNUSUAL_FACTOR, FLOOR_MICROS = 14, 2.0, 5_000_000
"""A day is unusual whose sum is more than twice, or less than half, of the median of the 14 days before it, from $5 on."""
FLAGGED = 50
ROWS = 50
MONTHS = 24
MAX_TENANTS = 50_000


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the platform; money in millionths."""

    day: date
    tenants: int
    active_tenants: int
    answers: int
    tokens: int
    cost_micros: int
    revenue_micros: int
    """By the list prices of the plans, spread over their days."""
    unusual: tuple[str, ...] = ()

    @property
    def margin_micros(self) -> int:
        return self.revenue_micros - self.cost_micros


async def revenue_days(session: AsyncSession, *, days: int) -> list[Day]:
    """The last so many days in order, with what is unusual about each."""
    first = today() - timedelta(days=days + USUAL_DAYS)
    row = PlatformDayRow
    found = [
        Day(
            each.day,
            each.tenants,
            each.active_tenants,
            each.answers,
            each.tokens,
            each.cost_micros,
            each.revenue_micros,
        )
        for each in await session.scalars(select(row).where(row.day > first).order_by(row.day))
    ]
    told = [replace(day, unusual=_unusual(day, found[max(0, n - USUAL_DAYS) : n])) for n, day in enumerate(found)]
    return [day for day in told if day.day > today() - timedelta(days=days)]


@dataclass(frozen=True, slots=True)
class Month:
    """What a month brought by its invoices, in one currency, beside what the plans' list prices made of its days."""

    month: date
    currency: str
    invoices: int
    invoiced_cents: int
    paid_cents: int
    list_micros: int
    """Of all days that were added up, whatever the currency."""
    days: int
    """How many those were."""


async def revenue_months(session: AsyncSession) -> list[Month]:
    """The latest first: months with invoices, at most `MONTHS` rows."""
    row, day = PlatformMonthRow, PlatformDayRow
    listed = (
        select(func.sum(day.revenue_micros), func.count(), func.date_trunc("month", day.day).cast(Date).label("month"))
        .group_by(text("month"))
        .subquery("listed")
    )
    price, days, month = listed.c
    chosen = (
        select(row, func.coalesce(price, 0).cast(BigInteger), func.coalesce(days, 0))
        .outerjoin(listed, month == row.month)
        .order_by(row.month.desc(), row.currency)
        .limit(MONTHS)
    )
    return [
        Month(found.month, found.currency, found.invoices, found.invoiced_cents, found.paid_cents, micros, number)
        for found, micros, number in await session.execute(chosen)
    ]


def _unusual(day: Day, before: list[Day]) -> tuple[str, ...]:
    if len(before) < USUAL_DAYS // 2:
        return ()
    found = []
    usual = median(each.cost_micros for each in before)
    if day.cost_micros > max(FLOOR_MICROS, UNUSUAL_FACTOR * usual):
        found.append("Models cost far more than usual")
    earned = median(each.revenue_micros for each in before)
    if earned >= FLOOR_MICROS and day.revenue_micros < earned / UNUSUAL_FACTOR:
        found.append("Far less revenue than usual")
    answers = median(each.answers for each in before)
    if day.day < today() and answers >= 20 and day.answers < answers / UNUSUAL_FACTOR / 2:
        found.append("Far fewer answers than usual")
    if day.revenue_micros > 0 and day.cost_micros > day.revenue_micros:
        found.append("Models cost more than the day brought")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A tenant's last month, as it was charged and as the other plan would have charged it; money in millionths."""

    tenant_id: UUID
    name: str
    plan_key: str
    answers: int
    tokens: int
    cost_micros: int
    now_micros: int
    then_micros: int
    beyond: bool
    """Whether the month goes beyond what the other plan includes, with no more to be had."""

    @property
    def difference_micros(self) -> int:
        return self.then_micros - self.now_micros


@dataclass(frozen=True, slots=True)
class Replay:
    """All tenants of a plan, or all there are, on another plan."""

    month: date
    terms: PlanTerms
    tenants: int
    now_micros: int
    then_micros: int
    cost_micros: int
    beyond: int
    rows: list[Replayed]
    """Those whom it changes most, first."""


_MONTH = text("""
    with plans as (
        select key, version, month_micros, included_tokens, overage from jsonb_to_recordset(cast(:built_in as jsonb))
            as p (key text, version int, month_micros bigint, included_tokens bigint, overage bigint)
        union
        select key, version, (terms->>'price_cents')::bigint * 10000 / case when terms->>'interval' = 'year' then 12 else 1 end,
            (terms->>'included_tokens')::bigint, (terms->>'overage_micros_per_1k_tokens')::bigint from plan_versions),
    used as (
        select t.tenant_id, t.name, coalesce(p.plan_key, :default_plan) as plan_key, p.plan_version,
            coalesce(p.provider <> 'none' and p.status in ('active', 'past_due'), false) as pays,
            coalesce(m.answers, 0) as answers, coalesce(m.tokens, 0) as tokens, coalesce(m.cost_micros, 0) as cost_micros
        from tenants t
        left join tenant_plans p on p.tenant_id = t.tenant_id
        left join tenant_months m on m.tenant_id = t.tenant_id and m.month = :month
        where :plan = '' or coalesce(p.plan_key, :default_plan) = :plan),
    charged as materialized (
        select u.tenant_id, u.name, u.plan_key, u.answers, u.tokens, u.cost_micros,
            case when u.pays then coalesce(h.month_micros, 0)
                + coalesce(greatest(u.tokens - h.included_tokens, 0) * h.overage / 1000, 0) else 0 end as now_micros,
            cast(:price as bigint) + coalesce(greatest(u.tokens - cast(:included_tokens as bigint), 0)
                * cast(:overage as bigint) / 1000, 0) as then_micros,
            coalesce(u.answers > cast(:included_messages as bigint), false)
                or (cast(:overage as bigint) is null and coalesce(u.tokens > cast(:included_tokens as bigint), false))
                as beyond
        from used u left join plans h on h.key = u.plan_key and h.version = u.plan_version)
    select c.*, s.* from charged c cross join (
        select count(*) as tenants, sum(now_micros)::bigint as all_now, sum(then_micros)::bigint as all_then,
            sum(cost_micros)::bigint as all_cost, count(*) filter (where beyond) as all_beyond from charged) s
    order by abs(then_micros - now_micros) desc, name, tenant_id limit :most""")


def last_month() -> date:
    """The first day of the last whole month, in UTC."""
    return (today().replace(day=1) - timedelta(days=1)).replace(day=1)


async def replay_on_plan(
    session: AsyncSession, terms: PlanTerms, *, of_plan: str = "", month: date | None = None, rows: int = ROWS
) -> Replay:
    """What a month would have brought, had all tenants (of a plan) been on `terms`. Two statements."""
    month = month or last_month()
    values = {
        "built_in": json.dumps([_prices(plan) for plan in BUILT_IN.values()]),
        "default_plan": await default_plan(session),
        "month": month,
        "plan": of_plan.replace("\x00", "")[:40],
        "price": _prices(terms)["month_micros"],
        "included_tokens": terms.included_tokens,
        "included_messages": terms.included_messages,
        "overage": terms.overage_micros_per_1k_tokens,
        "most": min(rows, MAX_TENANTS),
    }
    found = (await session.execute(_MONTH, values)).mappings().all()
    first = found[0] if found else None
    return Replay(
        month=month,
        terms=terms,
        tenants=first["tenants"] if first else 0,
        now_micros=first["all_now"] if first else 0,
        then_micros=first["all_then"] if first else 0,
        cost_micros=first["all_cost"] if first else 0,
        beyond=first["all_beyond"] if first else 0,
        rows=[Replayed(**{field.name: row[field.name] for field in fields(Replayed)}) for row in found],
    )


def _prices(plan: PlanTerms) -> dict[str, object]:
    """What a month on a plan costs, as the statement wants it."""
    return {
        "key": plan.key,
        "version": plan.version,
        "month_micros": plan.price_cents * 10_000 // (12 if plan.interval == "year" else 1),
        "included_tokens": plan.included_tokens,
        "overage": plan.overage_micros_per_1k_tokens,
    }

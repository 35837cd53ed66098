"""What the platform brings and costs, day by day, what is unusual about it, and what a month would have brought on another plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, timedelta
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.operator.models import PlatformDayRow
from stonechat.operator.summaries import default_plan
from stonechat.plans.catalog import Catalog, load_catalog
from stonechat.plans.terms import PlanTerms
from stonechat.usage.report import today

USUAL_DAYS, UNUSUAL_FACTOR, FLOOR_MICROS = 14, 2.0, 5_000_000
"""A day is unusual whose sum is more than twice, or less than half, of the median of the 14 days before it, from $5 on."""
FLAGGED = 50
ROWS = 50
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
    select t.tenant_id, t.name, coalesce(p.plan_key, :default_plan) as plan_key, p.plan_version,
        coalesce(p.provider, 'none') as provider, coalesce(p.status, 'active') as status,
        coalesce(m.answers, 0) as answers, coalesce(m.tokens, 0) as tokens, coalesce(m.cost_micros, 0) as cost_micros
    from tenants t
    left join tenant_plans p on p.tenant_id = t.tenant_id
    left join tenant_months m on m.tenant_id = t.tenant_id and m.month = :month
    where :plan = '' or coalesce(p.plan_key, :default_plan) = :plan
    order by t.tenant_id limit :most""")


def last_month() -> date:
    """The first day of the last whole month, in UTC."""
    return (today().replace(day=1) - timedelta(days=1)).replace(day=1)


async def replay_on_plan(
    session: AsyncSession, terms: PlanTerms, *, of_plan: str = "", month: date | None = None, rows: int = ROWS
) -> Replay:
    """What a month would have brought, had all tenants (of a plan) been on `terms`. Three statements."""
    month = month or last_month()
    catalog = await load_catalog(session)
    values = {
        "default_plan": await default_plan(session),
        "month": month,
        "plan": of_plan.replace("\x00", "")[:40],
        "most": MAX_TENANTS,
    }
    found = [_replayed(row, terms, catalog) for row in (await session.execute(_MONTH, values)).mappings()]
    return Replay(
        month=month,
        terms=terms,
        tenants=len(found),
        now_micros=sum(row.now_micros for row in found),
        then_micros=sum(row.then_micros for row in found),
        cost_micros=sum(row.cost_micros for row in found),
        beyond=sum(row.beyond for row in found),
        rows=sorted(found, key=lambda row: (-abs(row.difference_micros), row.name))[:rows],
    )


def charge(terms: PlanTerms, *, answers: int, tokens: int) -> tuple[int, bool]:
    """What a month of this use costs on a plan, in millionths, and whether it goes beyond what can be had there."""
    months = 12 if terms.interval == "year" else 1
    price = terms.price_cents * 10_000 // months
    over = max(tokens - terms.included_tokens, 0) if terms.included_tokens is not None else 0
    beyond = terms.included_messages is not None and answers > terms.included_messages
    if over and terms.overage_micros_per_1k_tokens is not None:
        price += over * terms.overage_micros_per_1k_tokens // 1000
    elif over:
        beyond = True
    return price, beyond


def _replayed(row: Any, terms: PlanTerms, catalog: Catalog) -> Replayed:
    held = catalog.get(row["plan_key"], row["plan_version"])
    pays = row["provider"] != "none" and row["status"] in ("active", "past_due")
    answers, tokens = row["answers"], row["tokens"]
    now = charge(held, answers=answers, tokens=tokens)[0] if held is not None and pays else 0
    then, beyond = charge(terms, answers=answers, tokens=tokens)
    return Replayed(
        row["tenant_id"], row["name"], row["plan_key"], answers, tokens, row["cost_micros"], now, then, beyond
    )

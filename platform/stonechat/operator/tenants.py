"""All tenants in one list: who they are, what they use, bring and cost, and which of them need a look."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.operator.summaries import default_plan

ROWS = 50
MAX_PAGES = 2000
MAX_EXPORTED = 50_000
MAX_QUERY = 100

Sort = Literal["name", "newest", "revenue", "cost", "margin", "answers", "seen"]
Health = Literal["good", "quiet", "failing", "unpaid", "suspended", "new"]
SORTS: tuple[Sort, ...] = get_args(Sort)
HEALTHS: tuple[Health, ...] = get_args(Health)

FLAGS = {
    "cost_spike": "Costs far more today than it used to",
    "loss": "Costs more than it brings",
    "unpaid_cost": "Costs much and pays nothing",
    "failing": "Many of its answers fail",
    "gone_quiet": "Pays and is not used any more",
}
"""What is unusual about a tenant, in words."""

_ORDER: dict[Sort, str] = {
    "name": "lower(t.name), t.tenant_id",
    "newest": "t.created_at desc, t.tenant_id",
    "revenue": "s.revenue_micros desc nulls last, t.tenant_id",
    "cost": "s.cost_micros desc nulls last, t.tenant_id",
    "margin": "coalesce(s.revenue_micros, 0) - coalesce(s.cost_micros, 0), t.tenant_id",
    "answers": "s.answers desc nulls last, t.tenant_id",
    "seen": "s.last_seen_at desc nulls last, t.tenant_id",
}


@dataclass(frozen=True, slots=True)
class TenantRow:
    """A tenant in the list. Sums are of the last 30 days; money is in millionths."""

    tenant_id: UUID
    name: str
    status: str
    created_at: datetime
    plan_key: str
    plan_status: str
    answers: int
    tokens: int
    revenue_micros: int
    cost_micros: int
    last_seen_at: datetime | None
    health: Health
    flags: list[str]

    @property
    def margin_micros(self) -> int:
        return self.revenue_micros - self.cost_micros


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which tenants to list, and in what order."""

    query: str = ""
    """Part of a name, a tenant's id, or a member's whole address."""
    plan: str = ""
    health: str = ""
    flagged: bool = False
    sort: Sort = "name"
    page: int = 1


@dataclass(frozen=True, slots=True)
class Totals:
    """Of all tenants that were chosen."""

    tenants: int
    answers: int
    revenue_micros: int
    cost_micros: int
    flagged: int


_SELECTED = """
    from tenants t
    left join tenant_plans p on p.tenant_id = t.tenant_id
    left join tenant_summaries s on s.tenant_id = t.tenant_id
    where (:query = '' or t.name ilike :pattern or t.tenant_id::text = lower(:query) or t.tenant_id = any(:of_member))
      and (:plan = '' or coalesce(p.plan_key, :default_plan) = :plan)
      and (:health = '' or case when t.status = 'suspended' then 'suspended' else coalesce(s.health, 'new') end = :health)
      and (not :flagged or s.flags <> '{}')"""
_COLUMNS = """
    select t.tenant_id, t.name, t.status, t.created_at, coalesce(p.plan_key, :default_plan) as plan_key,
        coalesce(p.status, 'active') as plan_status, coalesce(s.answers, 0) as answers, coalesce(s.tokens, 0) as tokens,
        coalesce(s.revenue_micros, 0) as revenue_micros, coalesce(s.cost_micros, 0) as cost_micros, s.last_seen_at,
        case when t.status = 'suspended' then 'suspended' else coalesce(s.health, 'new') end as health,
        coalesce(s.flags, '{}') as flags"""
_TOTALS = """
    select count(*) as tenants, coalesce(sum(s.answers), 0)::bigint as answers,
        coalesce(sum(s.revenue_micros), 0)::bigint as revenue_micros,
        coalesce(sum(s.cost_micros), 0)::bigint as cost_micros, count(*) filter (where s.flags <> '{}') as flagged"""
_OF_MEMBER = text("""
    select m.tenant_id from people p join directory_memberships m on m.person_id = p.person_id
    where p.email = lower(:query) limit 200""")


async def list_tenants(session: AsyncSession, chosen: Chosen) -> tuple[list[TenantRow], Totals]:
    """A page of them, `ROWS` long, and the sums over all pages. Four statements at most."""
    values = await _values(session, chosen)
    totals = (await session.execute(_statement(f"{_TOTALS} {_SELECTED}"), values)).mappings().one()
    page = min(max(chosen.page, 1), MAX_PAGES)
    # `sort` is one of ours: see `_ORDER`.
    listed = _statement(
        f"{_COLUMNS} {_SELECTED} order by {_ORDER[chosen.sort]} limit {ROWS} offset {(page - 1) * ROWS}"
    )
    rows = [_row(row) for row in (await session.execute(listed, values)).mappings()]
    return rows, Totals(**{field.name: totals[field.name] for field in fields(Totals)})


async def all_tenants(session: AsyncSession, chosen: Chosen) -> list[TenantRow]:
    """Every page of them, for export."""
    listed = _statement(f"{_COLUMNS} {_SELECTED} order by {_ORDER[chosen.sort]} limit {MAX_EXPORTED}")
    found = await session.execute(listed, await _values(session, chosen))
    return [_row(row) for row in found.mappings()]


async def _values(session: AsyncSession, chosen: Chosen) -> dict[str, Any]:
    query = chosen.query.replace("\x00", "").strip()[:MAX_QUERY]
    of_member: list[UUID] = []
    if "@" in query:
        of_member = list(await session.scalars(_OF_MEMBER, {"query": query}))
    escaped = query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return {
        "query": query,
        "pattern": f"%{escaped}%",
        "of_member": of_member,
        "plan": chosen.plan.replace("\x00", "")[:40],
        "health": chosen.health.replace("\x00", "")[:20],
        "flagged": chosen.flagged,
        "default_plan": await default_plan(session),
    }


def _statement(sql: str) -> TextClause:
    return text(sql).bindparams(bindparam("of_member", type_=ARRAY(PG_UUID(as_uuid=True))))


def _row(row: Any) -> TenantRow:
    return TenantRow(**{field.name: row[field.name] for field in fields(TenantRow)})

"""What a tenant used: by day, by agent, by model, and all of these at once for export. Days are UTC's.

Days that are over are added up once, at night, into `usage_days`; a report reads those, and the ledger for the days
since. A million entries in a month are read in milliseconds so, in seconds otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, assert_never
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Date,
    Select,
    SQLColumnExpression,
    String,
    cast,
    func,
    literal,
    null,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.models import Tenant
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.errors import InvalidInput
from stonechat.usage.ledger import UsageLedgerRow

MAX_DAYS = 366
MAX_ROWS = 20_000
"""Of one report."""
SETTLED_AFTER = timedelta(hours=1)
"""A day is added up so long after its end, when nothing of it is still to come."""
ROLL_UP_DAYS = 31
"""At a time."""
TENANTS_AT_ONCE = 1000
_log = logging.getLogger(__name__)

GroupBy = Literal["day", "agent", "model", "all"]
_KEYS = ("day", "agent_id", "provider", "model", "purpose")
_SUMS = (
    "answers",
    "calls",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "estimated_tokens",
    "cost_micros",
    "unpriced_tokens",
)


class UsageDayRow(TenantRow):
    """What was used on a day that is over, as `UsageRow` says."""

    __tablename__ = "usage_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    agent_id: Mapped[str] = mapped_column(primary_key=True)
    """Empty for calls that were no agent's."""
    provider: Mapped[str] = mapped_column(primary_key=True)
    model: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    answers: Mapped[int] = mapped_column(BigInteger)
    calls: Mapped[int] = mapped_column(BigInteger)
    input_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    estimated_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    unpriced_tokens: Mapped[int] = mapped_column(BigInteger)


class UsageRollupRow(TenantRow):
    """How far a tenant's ledger is added up."""

    __tablename__ = "usage_rollups"

    through: Mapped[date]
    """The last day that is."""


@dataclass(frozen=True, slots=True)
class Days:
    """From `first` to `last`, both included."""

    first: date
    last: date

    def __len__(self) -> int:
        return (self.last - self.first).days + 1


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What was used of one thing; what the report does not tell apart is None."""

    day: date | None
    agent_id: str | None
    provider: str | None
    model: str | None
    purpose: str | None
    answers: int
    """One that two models had to write counts for both."""
    calls: int
    """Entries of the ledger."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    estimated_tokens: int
    """Of input and output, those that are our estimate."""
    cost_micros: int
    """Millionths of a US dollar, of what has a price."""
    unpriced_tokens: int
    """Of input and output, those of models whose price is not known."""


@dataclass(frozen=True, slots=True)
class DayAnswers:
    """How many answers were given on one day (UTC), and to how many visitors. Previews count."""

    day: date
    answers: int
    visitors: int


def today() -> date:
    """In UTC."""
    return clock.now().astimezone(UTC).date()


def last_days(number: int) -> Days:
    """The last so many days, today included."""
    return Days(today() - timedelta(days=number - 1), today())


async def usage_report(session: AsyncSession, actor: Actor, *, days: Days, by: GroupBy) -> list[UsageRow]:
    """The tenant's use in these days, at most `MAX_ROWS` rows: days in order, agents and models by tokens, most first.

    Raises `InvalidInput` for days in the wrong order or more than `MAX_DAYS` of them.
    """
    asked = await ask(session, actor, days=days, by=by)
    return [row_of(values) for values in await session.execute(asked.rows.limit(MAX_ROWS))]


@dataclass(frozen=True, slots=True)
class Asked:
    """A report as statements."""

    rows: Select[*tuple[Any, ...]]
    """In order, each as `row_of` takes it."""
    order: list[ColumnElement[Any]]
    """What they are in order of, upwards, no two alike: the most tokens come first as the least of their negative."""
    total: Select[*tuple[Any, ...]]
    """One row of all."""


async def ask(session: AsyncSession, actor: Actor, *, days: Days, by: GroupBy) -> Asked:
    """The statements of a report. Raises what `usage_report` does."""
    actor.require("read")
    if days.first > days.last:
        raise InvalidInput("The first day is after the last.")
    if len(days) > MAX_DAYS:
        raise InvalidInput(f"A report covers at most {MAX_DAYS} days.")
    parts = (await _parts(session, actor.tenant_id, days)).subquery("parts")
    told = _told(by)
    keys = [parts.c[name] if name in told else null() for name in _KEYS]
    grouped = [parts.c[name] for name in _KEYS if name in told]
    first = [] if "day" in told else [-_sum(parts.c.input_tokens + parts.c.output_tokens)]
    sums = [_sum(parts.c[name]) for name in _SUMS]
    return Asked(
        rows=select(*keys, *sums).group_by(*grouped).order_by(*first, *grouped),
        order=[*first, *grouped],
        total=select(*(null() for _ in _KEYS), *sums),
    )


def row_of(values: Sequence[Any]) -> UsageRow:
    """A row of the database's as one of the report's."""
    day, agent_id, *rest = values
    return UsageRow(day, agent_id or None, *rest)


def _told(by: GroupBy) -> frozenset[str]:
    match by:
        case "day":
            return frozenset({"day"})
        case "agent":
            return frozenset({"agent_id"})
        case "model":
            return frozenset({"provider", "model"})
        case "all":
            return frozenset(_KEYS)
        case _:
            assert_never(by)


def grouped_by(rows: Sequence[UsageRow], by: GroupBy) -> list[UsageRow]:
    """The rows of a report by `all` as a report by something else, without asking the database again."""
    told = _told(by)
    groups: dict[tuple[Any, ...], list[UsageRow]] = {}
    for row in rows:
        groups.setdefault(tuple(getattr(row, name) if name in told else None for name in _KEYS), []).append(row)
    sums = [replace(total(group), **dict(zip(_KEYS, key, strict=True))) for key, group in groups.items()]
    if "day" not in told:
        sums.sort(key=lambda row: row.input_tokens + row.output_tokens, reverse=True)
    return sums


def total(rows: Sequence[UsageRow]) -> UsageRow:
    """The rows added up."""
    sums = {name: sum(getattr(row, name) for row in rows) for name in _SUMS}
    return UsageRow(day=None, agent_id=None, provider=None, model=None, purpose=None, **sums)


async def answers_by_day(session: AsyncSession, actor: Actor, *, days: int = 7) -> list[DayAnswers]:
    """The last `days` days (UTC), today included, the oldest first; days without an answer count 0."""
    actor.require("read")
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInput(f"`days` is a number from 1 to {MAX_DAYS}.")
    first = last_days(days).first
    row = UsageLedgerRow
    day = _day_of_entry()
    counted = await session.execute(
        select(day, func.count(func.distinct(row.run_id)), func.count(func.distinct(row.user_hash)))
        .where(row.tenant_id == actor.tenant_id, row.occurred_at >= _start(first))
        .group_by(day)
    )
    found = {when: (answers, visitors) for when, answers, visitors in counted}
    dates = [first + timedelta(days=number) for number in range(days)]
    return [DayAnswers(when, *found.get(when, (0, 0))) for when in dates]


async def used_since(session: AsyncSession, tenant_id: UUID, *, first: date) -> tuple[int, int]:
    """Tokens and micro-dollars from a day on."""
    parts = (await _parts(session, tenant_id, Days(first, max(first, today() + timedelta(days=1))))).subquery("parts")
    sums = select(_sum(parts.c.input_tokens + parts.c.output_tokens), _sum(parts.c.cost_micros))
    tokens, micros = (await session.execute(sums)).one()
    return tokens, micros


# Adding up


async def roll_up_all(database: Database) -> int:
    """Add up the days that are over for every tenant, each in its own transaction; one that fails holds up nobody.

    Returns how many days were.
    """
    done = failed = 0
    last: UUID | None = None
    while True:
        async with database.platform() as session:
            query = select(Tenant.tenant_id).order_by(Tenant.tenant_id).limit(TENANTS_AT_ONCE)
            tenants = list(await session.scalars(query if last is None else query.where(Tenant.tenant_id > last)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    done += await roll_up(session, tenant_id)
            except Exception:
                failed += 1
                _log.exception("could not add up a tenant's days", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < TENANTS_AT_ONCE:
            break
        last = tenants[-1]
    if failed:
        _log.error("The days of %d tenants were not added up; the next round tries again.", failed)
    return done


async def roll_up(session: AsyncSession, tenant_id: UUID) -> int:
    """Add up the tenant's days that are over and are not yet, `ROLL_UP_DAYS` at most. Returns how many."""
    row, mark = UsageLedgerRow, UsageRollupRow
    until = (clock.now() - SETTLED_AFTER).astimezone(UTC).date() - timedelta(days=1)
    through = await session.scalar(select(mark.through).where(mark.tenant_id == tenant_id).with_for_update())
    if through is None:
        begun = await session.scalar(select(func.min(row.occurred_at)).where(row.tenant_id == tenant_id))
        if begun is None:
            return 0
        through = begun.astimezone(UTC).date() - timedelta(days=1)
    days = Days(through + timedelta(days=1), min(until, through + timedelta(days=ROLL_UP_DAYS)))
    if days.last < days.first:
        return 0
    marked = insert(mark).values(tenant_id=tenant_id, through=days.last)
    # Whoever is first adds up; a second worker finds that it came too late.
    first = await session.scalar(
        marked.on_conflict_do_update(
            index_elements=[mark.tenant_id], set_={"through": days.last}, where=mark.through < days.last
        ).returning(mark.through)
    )
    if first is None:
        return 0
    entries = _entries(tenant_id, days).subquery("entries")
    columns = ("tenant_id", *_KEYS, *_SUMS)
    values = select(literal(tenant_id), *(entries.c[name] for name in (*_KEYS, *_SUMS)))
    await session.execute(insert(UsageDayRow).from_select(columns, values))
    return len(days)


async def _parts(session: AsyncSession, tenant_id: UUID, days: Days) -> CompoundSelect[Any] | Select[*tuple[Any, ...]]:
    """The days by every key: from what is added up, and for the rest from the ledger."""
    mark, row = UsageRollupRow, UsageDayRow
    through = await session.scalar(select(mark.through).where(mark.tenant_id == tenant_id))
    if through is None or through < days.first:
        return _entries(tenant_id, days)
    rolled = select(*(getattr(row, name).label(name) for name in (*_KEYS, *_SUMS))).where(
        row.tenant_id == tenant_id, row.day >= days.first, row.day <= min(through, days.last)
    )
    if through >= days.last:
        return rolled
    return union_all(rolled, _entries(tenant_id, Days(through + timedelta(days=1), days.last)))


def _entries(tenant_id: UUID, days: Days) -> Select[*tuple[Any, ...]]:
    """The ledger's entries of these days, added up by every key."""
    row = UsageLedgerRow
    tokens = row.input_tokens + row.output_tokens
    agent = func.coalesce(row.agent_id, "")
    day = _day_of_entry()
    return (
        select(
            day.label("day"),
            agent.label("agent_id"),
            row.provider.label("provider"),
            row.model.label("model"),
            row.purpose.label("purpose"),
            func.count(func.distinct(row.run_id)).filter(row.purpose == "answer").label("answers"),
            func.count().label("calls"),
            _sum(row.input_tokens).label("input_tokens"),
            _sum(row.output_tokens).label("output_tokens"),
            _sum(row.cached_tokens).label("cached_tokens"),
            cast(func.coalesce(func.sum(tokens).filter(row.estimated), 0), BigInteger).label("estimated_tokens"),
            _sum(row.cost_micros).label("cost_micros"),
            cast(func.coalesce(func.sum(tokens).filter(row.cost_micros.is_(None)), 0), BigInteger).label(
                "unpriced_tokens"
            ),
        )
        .where(row.tenant_id == tenant_id, row.occurred_at >= _start(days.first))
        .where(row.occurred_at < _start(days.last + timedelta(days=1)))
        .group_by(day, agent, row.provider, row.model, row.purpose)
    )


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _day_of_entry() -> ColumnElement[date]:
    return cast(func.timezone(literal("UTC", String, literal_execute=True), UsageLedgerRow.occurred_at), Date)


def _sum(column: SQLColumnExpression[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)

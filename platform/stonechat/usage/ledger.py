"""The usage ledger: one row a model call, written in the transaction that finishes the run, never changed after."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Date, Index, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.db.tenancy import TenantRow
from stonechat.errors import InvalidInput

MAX_DAYS = 366


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One run's use of one model. Tokens are the provider's own count; models without tokens report 0."""

    entry_id: str
    run_id: str
    agent_id: str | None
    user_hash: bytes
    """SHA-256 of tenant and user: counts visitors without naming them, and outlives their erasure."""
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    occurred_at: datetime


class UsageLedgerRow(TenantRow):
    """A ledger entry as stored; the table is partitioned by month of `occurred_at`."""

    __tablename__ = "usage_ledger"
    __table_args__ = (Index("usage_ledger_run_idx", "tenant_id", "run_id"),)

    occurred_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    entry_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[str]
    agent_id: Mapped[str | None]
    user_hash: Mapped[bytes]
    provider: Mapped[str]
    model: Mapped[str]
    input_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    output_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to, but not including, `end`; both aware."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model was used for on one day (UTC), or in all."""

    provider: str
    model: str
    runs: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class DayUsage:
    """One day (UTC) of a tenant."""

    day: str
    """`YYYY-MM-DD`."""
    runs: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class DayAnswers:
    """How many answers were given on one day (UTC), and to how many visitors. Previews count."""

    day: date
    answers: int
    visitors: int


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """A tenant's use in a period."""

    runs: int
    users: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    models: list[ModelUsage]
    days: list[DayUsage]


def hash_user(tenant_id: UUID, user_id: str) -> bytes:
    """How the ledger names a user: 32 bytes, different for the same user id of another tenant."""
    return hashlib.sha256(tenant_id.bytes + user_id.encode()).digest()


def ledger_entry(
    tenant_id: UUID,
    user_id: str,
    *,
    run_id: str,
    agent_id: str | None,
    provider: str,
    model: str,
    input_tokens: int = 0,
    output_tokens: int = 0,
    cached_tokens: int = 0,
) -> LedgerEntry:
    """The entry for one run. Negative counts, which some hosts report on errors, count as 0."""
    return LedgerEntry(
        entry_id=ids.new_id("use"),
        run_id=run_id,
        agent_id=agent_id,
        user_hash=hash_user(tenant_id, user_id),
        provider=provider,
        model=model,
        input_tokens=max(0, input_tokens),
        output_tokens=max(0, output_tokens),
        cached_tokens=max(0, cached_tokens),
        occurred_at=clock.now(),
    )


def record(session: AsyncSession, tenant_id: UUID, *, entry: LedgerEntry) -> None:
    """Add the entry to the session's transaction. The chat's hot path writes the same columns in its own function."""
    session.add(
        UsageLedgerRow(
            tenant_id=tenant_id,
            occurred_at=entry.occurred_at,
            entry_id=entry.entry_id,
            run_id=entry.run_id,
            agent_id=entry.agent_id,
            user_hash=entry.user_hash,
            provider=entry.provider,
            model=entry.model,
            input_tokens=entry.input_tokens,
            output_tokens=entry.output_tokens,
            cached_tokens=entry.cached_tokens,
        )
    )


async def usage_summary(session: AsyncSession, tenant_id: UUID, *, period: Period) -> UsageSummary:
    """What the tenant used in `period`: totals, by model, and by day in UTC."""
    row = UsageLedgerRow
    within = (row.tenant_id == tenant_id, row.occurred_at >= period.start, row.occurred_at < period.end)
    runs = func.count(func.distinct(row.run_id))
    taken, given, cached = _total(row.input_tokens), _total(row.output_tokens), _total(row.cached_tokens)
    total = (
        await session.execute(
            select(runs, func.count(func.distinct(row.user_hash)), taken, given, cached).where(*within)
        )
    ).one()
    models = await session.execute(
        select(row.provider, row.model, runs, taken, given, cached)
        .where(*within)
        .group_by(row.provider, row.model)
        .order_by(row.provider, row.model)
    )
    day = cast(func.timezone("UTC", row.occurred_at), Date)
    days = await session.execute(select(day, runs, taken, given).where(*within).group_by(day).order_by(day))
    return UsageSummary(
        runs=total[0],
        users=total[1],
        input_tokens=total[2],
        output_tokens=total[3],
        cached_tokens=total[4],
        models=[ModelUsage(name, model, count, *tokens) for name, model, count, *tokens in models],
        days=[DayUsage(when.isoformat(), count, *tokens) for when, count, *tokens in days],
    )


async def answers_by_day(session: AsyncSession, actor: Actor, *, days: int = 7) -> list[DayAnswers]:
    """The last `days` days (UTC), today included, the oldest first; days without an answer count 0."""
    actor.require("read")
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInput(f"`days` is a number from 1 to {MAX_DAYS}.")
    today = clock.now().astimezone(UTC).date()
    first = today - timedelta(days=days - 1)
    row = UsageLedgerRow
    day = cast(func.timezone("UTC", row.occurred_at), Date)
    counted = await session.execute(
        select(day, func.count(func.distinct(row.run_id)), func.count(func.distinct(row.user_hash)))
        .where(row.tenant_id == actor.tenant_id, row.occurred_at >= datetime.combine(first, time(), UTC))
        .group_by(day)
    )
    found = {when: (answers, visitors) for when, answers, visitors in counted}
    dates = [first + timedelta(days=number) for number in range(days)]
    return [DayAnswers(when, *found.get(when, (0, 0))) for when in dates]


def _total(column: InstrumentedAttribute[int]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)

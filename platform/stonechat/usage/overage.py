"""What is owed beyond the plan: tokens that a tenant used after it had agreed to pay for them, and after its plan was used up.

The ledger says what was used, `usage_overage` what was agreed and when. In an agreement's time each token is charged that
comes when more than `included_tokens` were used in the period *already*, whoever's they were. So:

- who agrees late owes nothing for what came before, and has nothing included a second time;
- an upgrade includes what the larger plan does, for the whole period; what was beyond the smaller one stays charged;
- where less is included from now on, nobody pays for what was included when it was used.

An agreement is never changed, only ended, so a sum of the past can only grow, by entries that come late. Everybody who says
how much it is, the console, the outbox to Stripe, operators, asks here, and so all say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.plans.subscription import Provider, months_after
from stonechat.usage.allowance_models import OverageRow

MAX_PIECES = 10_000
"""Agreements and periods that one look may take in: a year of changing one's mind hourly."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a tenant agreed to: so much for a thousand tokens beyond what a period includes."""

    provider: Provider
    period_start: datetime
    period_end: datetime
    included_tokens: int
    micros_per_1k_tokens: int
    currency: str | None = None
    """Of the price; None in agreements of the time before it was noted."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of time under one agreement, within one period of use. The ends are not included."""

    start: datetime
    end: datetime
    agreement: Agreement
    """Its period is the one that this stretch is in."""


@dataclass(frozen=True, slots=True)
class SoFar:
    """Tokens of one period that are charged, and what they cost in millionths of the plan's currency."""

    tokens: int = 0
    cost_micros: int = 0
    used: int | None = None
    """All tokens of the period, charged or not; None where nothing was agreed in it, and so nothing was counted."""


CHANGED_WITHIN = timedelta(seconds=100)
"""How long ago an agreement may have changed when we come to write it down. The outbox tells of nothing so young, so that
nothing was told yet under the agreement before."""


async def agree(
    session: AsyncSession, tenant_id: UUID, wanted: Agreement | None, *, since: datetime | None = None
) -> None:
    """From now on, or since a moment just gone, this is what the tenant agreed to, or nothing. Twice changes nothing.

    One at a time for a tenant: the caller holds its row in `usage_budgets`, unless nothing is wanted.
    """
    row, now = OverageRow, clock.now()
    changed = now if since is None else min(now, max(since, now - CHANGED_WITHIN))
    if since is not None and wanted is not None and changed < wanted.period_start <= now:
        changed = wanted.period_start  # the change began a period of its own
    open_one = select(row).where(row.tenant_id == tenant_id, row.until.is_(None)).with_for_update()
    held = await session.scalar(open_one.execution_options(populate_existing=True))
    if held is not None:
        if wanted is not None and held.currency is None:
            held.currency = wanted.currency  # of the time before it was noted: prices of a plan keep their currency
        before = _agreement(held)
        if before == wanted:
            return
        if wanted is not None and _follows(before, wanted, now=now):
            changed = wanted.period_start
        if changed <= held.since:
            if since is not None:
                changed = held.since
            await session.delete(held)
        else:
            held.until = changed
        await session.flush()
    if wanted is not None:
        session.add(
            row(
                tenant_id=tenant_id,
                since=changed,
                provider=wanted.provider,
                period_start=wanted.period_start,
                period_end=wanted.period_end,
                included_tokens=wanted.included_tokens,
                micros_per_1k_tokens=wanted.micros_per_1k_tokens,
                currency=wanted.currency,
            )
        )
        await session.flush()


def _agreement(row: OverageRow) -> Agreement:
    return Agreement(
        row.provider, row.period_start, row.period_end, row.included_tokens, row.micros_per_1k_tokens, row.currency
    )


def _follows(before: Agreement, after: Agreement, *, now: datetime) -> bool:
    """Whether it is the next period's, whenever we come to know: the same, or one where no more is included than before.

    Where more is included, what was told of the hours since then is not taken back.
    """
    is_next = before.period_end <= after.period_start <= now
    return is_next and (_goes_on(before, after) or after.included_tokens <= before.included_tokens)


def _goes_on(before: Agreement, after: Agreement) -> bool:
    return (before.provider, before.included_tokens, before.micros_per_1k_tokens, before.currency) == (
        after.provider,
        after.included_tokens,
        after.micros_per_1k_tokens,
        after.currency,
    )


async def pieces(
    session: AsyncSession, tenant_id: UUID, *, first: datetime, until: datetime, locked: bool = False
) -> list[Piece]:
    """The stretches that end after `first` and begin before `until`, in order; the last ends there.

    `locked` keeps agreements from being ended until the transaction is over.
    """
    row = OverageRow
    chosen = (
        select(row)
        .where(row.tenant_id == tenant_id, row.since < until, func.coalesce(row.until, until) > first)
        .order_by(row.since)
        .limit(MAX_PIECES)
        .execution_options(populate_existing=True)
    )
    found: list[Piece] = []
    for span in await session.scalars(chosen.with_for_update(read=True) if locked else chosen):
        found += _cut(span, until)
    return [piece for piece in found if piece.end > first]


def _cut(span: OverageRow, until: datetime) -> list[Piece]:
    """An agreement by the periods it reaches into: where nobody said when the next one ends, after a month."""
    start, end = span.since, until if span.until is None else min(span.until, until)
    period_start, period_end = span.period_start, span.period_end
    found: list[Piece] = []
    while start < end and len(found) < MAX_PIECES:
        if start >= period_end:
            period_start, period_end = period_end, months_after(period_end, 1)
            continue
        stop = min(period_end, end)
        agreed = replace(_agreement(span), period_start=period_start, period_end=period_end)
        found.append(Piece(start, stop, agreed))
        start = stop
    return found


async def charged(session: AsyncSession, tenant_id: UUID, stretches: Sequence[Piece]) -> list[int]:
    """Tokens that are charged in each; `stretches` are in order, and may be parts of what `pieces` gave.

    Reads each entry of the periods once: a second for a million.
    """
    return _beyond(stretches, await tokens_in(session, tenant_id, _between(stretches)))


def _between(stretches: Sequence[Piece]) -> list[tuple[datetime, datetime]]:
    """Two a stretch, without a gap in a period: what lies before it, and itself."""
    between: list[tuple[datetime, datetime]] = []
    period = reached = stretches[0].agreement.period_start if stretches else clock.now()
    for piece in stretches:
        if piece.agreement.period_start != period:
            period = reached = piece.agreement.period_start
        between += [(min(reached, piece.start), piece.start), (piece.start, piece.end)]
        reached = piece.end
    return between


def _beyond(stretches: Sequence[Piece], used: Sequence[int]) -> list[int]:
    """Of what was used in each of `_between`, that which is charged in each stretch."""
    found = []
    total = 0
    for number, piece in enumerate(stretches):
        if number and piece.agreement.period_start != stretches[number - 1].agreement.period_start:
            total = 0
        before = total + used[2 * number]
        total = before + used[2 * number + 1]
        found.append(max(0, total - max(before, piece.agreement.included_tokens)))
    return found


async def so_far(session: AsyncSession, tenant_id: UUID, *, period_start: datetime, at: datetime) -> SoFar:
    """Of the period that began then, until `at`. Where nothing was agreed in it, asks the ledger nothing."""
    found = await pieces(session, tenant_id, first=period_start, until=at)
    mine = [piece for piece in found if piece.agreement.period_start == period_start]
    if not mine:
        return SoFar()
    used = await tokens_in(session, tenant_id, [*_between(mine), (mine[-1].end, at)])
    tokens = _beyond(mine, used)
    micros = sum(each * piece.agreement.micros_per_1k_tokens for each, piece in zip(tokens, mine, strict=True))
    return SoFar(sum(tokens), micros // 1000, sum(used))


_USED = text("""
    select coalesce(sum(l.input_tokens + l.output_tokens), 0)::bigint
    from unnest(cast(:starts as timestamptz[]), cast(:ends as timestamptz[])) with ordinality as s (start, stop, place)
    left join usage_ledger l
        on l.tenant_id = :tenant and l.occurred_at >= s.start and l.occurred_at < s.stop
    group by s.place order by s.place""")


async def tokens_in(
    session: AsyncSession, tenant_id: UUID, stretches: Sequence[tuple[datetime, datetime]]
) -> list[int]:
    """What the ledger holds of each stretch, its end not included."""
    if not stretches:
        return []
    starts, ends = [start for start, _ in stretches], [end for _, end in stretches]
    return list(await session.scalars(_USED, {"tenant": tenant_id, "starts": starts, "ends": ends}))

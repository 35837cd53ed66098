"""From the ledger to Stripe's meter, by way of an outbox: nothing lost, nothing told twice, wherever a process dies.

What is told is only what is owed: tokens beyond the plan (`usage.overage`), in the time of an agreement that Stripe charges.

1. `meter_tenant` compares, slice by slice, what the ledger says is beyond with what the outbox holds for that slice, and adds a
   row for the difference. It runs under a lock of the tenant's row, in one transaction: done twice it adds nothing. What is
   beyond can only grow by what comes late, so there is never anything to take back.
2. `send_waiting` first notes that it is going to send a row, then sends it under the row's own identifier, then notes that
   it was taken. Who dies in between leaves a row that is sent again under the same identifier, which Stripe counts once.
   Stripe promises that for a day; what is older and uncertain is looked up in Stripe's own count before it is sent again.

A slice is an hour of UTC, cut where a billing period or an agreement begins or ends, so that use is invoiced with the period it
belongs to; Stripe keeps a period's invoice open for an hour. Which moment it is told as of is `billing.counting`'s to say.
Chats are not part of any of this.
"""

from __future__ import annotations

import itertools
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.models import ALL_USE, BillingCustomerRow, MeterRow
from stonechat.db.session import Database
from stonechat.usage.overage import Agreement, Piece, charged, pieces

HOUR = timedelta(hours=1)
SETTLED_AFTER = timedelta(minutes=2)
"""A slice is told of so long after its end; what comes into the ledger later still is told in a row of its own."""
LOOKED_BACK = timedelta(hours=2)
"""Every round looks at agreements this old again, for what came late; the nightly round at all that Stripe takes."""
OLDEST = timedelta(days=34)
LONGEST_PERIOD = timedelta(days=31)
KEPT_FOR = timedelta(days=400)
"""What was told; far longer than late use can come. What no invoice took is kept for good."""
TENANTS_AT_ONCE = 500
MAX_COUNTED = 10_000
_EPOCH, _TICK = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_log = logging.getLogger(__name__)


class Slice(NamedTuple):
    """A stretch of time, the end not included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class _Told:
    """What the outbox holds of a slice."""

    tokens: int
    """Beyond the plan."""
    seq: int
    all_use: bool
    """Whether all of the slice's use was told, by the scheme before."""


async def meter_all(database: Database, *, everything: bool = False) -> int:
    """Bring every customer's outbox up to the ledger; one that fails holds up nobody. Returns how many rows were added."""
    customer = BillingCustomerRow
    added = 0
    last: UUID | None = None
    while True:
        query = select(customer.tenant_id).where(customer.customer_id.is_not(None))
        async with database.platform() as session:
            later = query if last is None else query.where(customer.tenant_id > last)
            tenants = list(await session.scalars(later.order_by(customer.tenant_id).limit(TENANTS_AT_ONCE)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    added += await meter_tenant(session, tenant_id, everything=everything)
            except Exception:
                _log.exception("could not meter a tenant", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < TENANTS_AT_ONCE:
            return added
        last = tenants[-1]


async def outbox_depth(session: AsyncSession) -> tuple[int, float]:
    """How many rows wait to be told, counted up to 10000, and how many seconds ago the oldest of them was made.

    `session` is the platform's.
    """
    row = MeterRow
    waiting = (
        select(row.created_at).where(row.state == "waiting").order_by(row.created_at).limit(MAX_COUNTED).subquery()
    )
    age = func.extract("epoch", func.now() - func.min(waiting.c.created_at))
    number, seconds = (await session.execute(select(func.count(), age).select_from(waiting))).one()
    return number, float(seconds or 0)


async def meter_tenant(
    session: AsyncSession, tenant_id: UUID, *, everything: bool = False, closing: bool = False
) -> int:
    """Add to the tenant's outbox what the ledger holds beyond it, of slices that are over. Twice adds nothing.

    Looks at the whole of each period that is not long over, for what comes late may bring what came after it beyond the plan;
    `everything` looks at all that Stripe still takes. `closing` ends the last slice now, for a customer whose next invoice is
    about to be made. Returns how many rows were added.
    """
    customer = BillingCustomerRow
    locked = select(customer).where(customer.tenant_id == tenant_id).with_for_update()
    row = await session.scalar(locked.execution_options(populate_existing=True))
    if row is None or row.customer_id is None:
        return 0
    now = clock.now()
    until = now if closing else now - SETTLED_AFTER
    first = now - OLDEST if everything else max(min(row.metered_through, now - LOOKED_BACK), now - OLDEST)
    found = await pieces(
        session, tenant_id, first=max(first - LONGEST_PERIOD, row.metered_from), until=until, locked=True
    )
    # Of periods that are not long over, all. What others charge, and what costs nothing, is not told.
    owed = [
        piece
        for piece in found
        if piece.agreement.provider == "stripe"
        and piece.agreement.micros_per_1k_tokens > 0
        and piece.agreement.period_end > first
    ]
    rows = await _missing(session, row, owed, until=until, now=now, closing=closing) if owed else []
    if rows:
        await session.execute(insert(MeterRow), rows)
    if everything:
        old = (MeterRow.state == "sent") & (MeterRow.slice_end < now - KEPT_FOR)
        await session.execute(delete(MeterRow).where(MeterRow.tenant_id == tenant_id, old))
    row.metered_through = max(row.metered_through, until)
    await session.flush()
    return len(rows)


async def _missing(
    session: AsyncSession,
    customer: BillingCustomerRow,
    owed: Sequence[Piece],
    *,
    until: datetime,
    now: datetime,
    closing: bool,
) -> list[dict[str, Any]]:
    """The rows that the outbox lacks."""
    tenant_id = customer.tenant_id
    owed = [replace(piece, start=max(piece.start, customer.metered_from)) for piece in owed]
    told = await _told(session, tenant_id, since=owed[0].start)
    if sum(await charged(session, tenant_id, owed)) == sum(one.tokens for one in told.values()):
        return []
    first = min(owed[0].start, *(one.start for one in told)) if told else owed[0].start
    cuts = {edge for piece in owed for edge in (piece.start, piece.end) if edge < until} | ({now} if closing else set())
    slices = [one for one in slices_between(first, until, cuts=cuts, fixed=told) if one.end <= until]
    parts = [
        (one, replace(piece, start=max(one.start, piece.start), end=min(one.end, piece.end)))
        for one in slices
        for piece in owed
        if piece.start < one.end and piece.end > one.start
    ]
    tokens: dict[Slice, int] = defaultdict(int)
    agreed: dict[Slice, Agreement] = {}
    amounts = await charged(session, tenant_id, [part for _, part in parts])
    for (one, part), amount in zip(parts, amounts, strict=True):
        tokens[one] += amount
        agreed[one] = part.agreement
    rows = []
    for one, amount in tokens.items():
        before = told.get(one, _Told(0, 0, all_use=False))
        # All use of a slice was told by the scheme before: its invoice is made by that.
        if amount > before.tokens and not before.all_use:
            rows.append(
                {
                    "tenant_id": tenant_id,
                    "slice_start": one.start,
                    "slice_end": one.end,
                    "seq": before.seq + 1,
                    "tokens": amount - before.tokens,
                    "meter": METER_EVENT,
                    "identifier": f"stonechat-{tenant_id.hex}-{(one.start - _EPOCH) // _TICK}-{before.seq + 1}",
                    "customer_id": customer.customer_id,
                    "closes_at": agreed[one].period_end,
                    "micros_per_1k_tokens": agreed[one].micros_per_1k_tokens,
                    "currency": agreed[one].currency,
                    "next_attempt_at": now,
                    "created_at": now,
                }
            )
    return rows


def slices_between(
    first: datetime, until: datetime, *, cuts: Iterable[datetime], fixed: Iterable[Slice]
) -> list[Slice]:
    """The hours that [first, until) touches, cut at `cuts`; from `first` on, which may be within an hour.

    What the outbox holds already is `fixed`: a cut that becomes known only later does not divide it any more, so that
    nothing is counted under two slices.
    """
    known = sorted(fixed)
    points = {cut for cut in cuts if first < cut < until + HOUR and not any(one.start < cut < one.end for one in known)}
    points |= {edge for one in known for edge in one if first < edge < until + HOUR}
    hour = _hour(first) + HOUR
    while hour < until + HOUR:
        if not any(one.start < hour < one.end for one in known):
            points.add(hour)
        hour += HOUR
    edges = [first, *sorted(points)]
    return [Slice(start, end) for start, end in itertools.pairwise(edges)]


async def _told(session: AsyncSession, tenant_id: UUID, *, since: datetime) -> dict[Slice, _Told]:
    row = MeterRow
    beyond = func.coalesce(func.sum(row.tokens).filter(row.meter == METER_EVENT), 0)
    found = await session.execute(
        select(row.slice_start, row.slice_end, beyond, func.max(row.seq), func.bool_or(row.meter == ALL_USE))
        .where(row.tenant_id == tenant_id, row.slice_end > since)
        .group_by(row.slice_start, row.slice_end)
    )
    return {Slice(start, end): _Told(int(tokens), seq, all_use) for start, end, tokens, seq, all_use in found}


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)

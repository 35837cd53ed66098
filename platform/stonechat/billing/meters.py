"""From the ledger to Stripe's meter, by way of an outbox: nothing lost, nothing told twice, wherever a process dies.

1. `meter_tenant` compares, slice by slice, the ledger's tokens with what the outbox holds for that slice, and adds a row
   for the difference. It runs under a lock of the tenant's row, in one transaction: done twice it adds nothing.
2. `send_waiting` first notes that it is going to send a row, then sends it under the row's own identifier, then notes that
   it was taken. Who dies in between leaves a row that is sent again under the same identifier, which Stripe counts once.
   Stripe promises that for a day; what is older and uncertain is looked up in Stripe's own count before it is sent again.

A slice is an hour of UTC, cut where a billing period begins or ends, so that use is invoiced with the period it belongs to;
Stripe keeps a period's invoice open for an hour. It is told as of the slice's last second: after a
change of prices within the hour that is the new price's time, which is still to be invoiced; what the old one counts is told
before the change. Chats are not part of any of this.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.billing.models import BillingCustomerRow, MeterRow
from stonechat.db.session import Database
from stonechat.plans.models import TenantPlanRow

HOUR = timedelta(hours=1)
SETTLED_AFTER = timedelta(minutes=2)
"""A slice is told of so long after its end; what comes into the ledger later still is told in a row of its own."""
LOOKED_BACK = timedelta(hours=2)
"""Every round looks at slices this old again, for what came late; the nightly round at all that Stripe takes."""
OLDEST = timedelta(days=34)
KEPT_FOR = timedelta(days=400)
"""What was told; far longer than late use can come."""
TENANTS_AT_ONCE = 500
_log = logging.getLogger(__name__)


class Slice(NamedTuple):
    """A stretch of time, the end not included."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class _Told:
    """What the outbox holds of a slice."""

    tokens: int
    seq: int


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


async def meter_tenant(
    session: AsyncSession, tenant_id: UUID, *, everything: bool = False, closing: bool = False
) -> int:
    """Add to the tenant's outbox what the ledger holds beyond it, of slices that are over. Twice adds nothing.

    `everything` looks at all slices that Stripe still takes, not only at recent ones. `closing` ends the last slice now, for
    a customer who changes plans or leaves. Returns how many rows were added.
    """
    customer = BillingCustomerRow
    locked = select(customer).where(customer.tenant_id == tenant_id).with_for_update()
    row = await session.scalar(locked.execution_options(populate_existing=True))
    if row is None or row.customer_id is None:
        return 0
    now = clock.now()
    until = now if closing else now - SETTLED_AFTER
    first = now - OLDEST if everything else max(min(row.metered_through, now - LOOKED_BACK), now - OLDEST)
    first = max(_hour(first), row.metered_from)
    told = await _told(session, tenant_id, since=_hour(first))
    cuts = {*await _boundaries(session, tenant_id), row.metered_from, *([now] if closing else [])}
    slices = [one for one in slices_between(first, until, cuts=cuts, fixed=told) if one.end <= until]
    used = await _used(session, tenant_id, slices)
    rows = []
    for one, tokens in zip(slices, used, strict=True):
        before = told.get(one, _Told(0, 0))
        if tokens > before.tokens:
            rows.append(
                {
                    "tenant_id": tenant_id,
                    "slice_start": one.start,
                    "slice_end": one.end,
                    "seq": before.seq + 1,
                    "tokens": tokens - before.tokens,
                    "identifier": f"stonechat-{tenant_id.hex}-{int(one.start.timestamp())}-{before.seq + 1}",
                    "customer_id": row.customer_id,
                    "next_attempt_at": now,
                    "created_at": now,
                }
            )
    if rows:
        await session.execute(insert(MeterRow), rows)
    if everything:
        old = (MeterRow.state != "waiting") & (MeterRow.slice_end < now - KEPT_FOR)
        await session.execute(delete(MeterRow).where(MeterRow.tenant_id == tenant_id, old))
    row.metered_through = max(row.metered_through, until)
    await session.flush()
    return len(rows)


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
    found = await session.execute(
        select(row.slice_start, row.slice_end, func.sum(row.tokens), func.max(row.seq))
        .where(row.tenant_id == tenant_id, row.slice_end > since)
        .group_by(row.slice_start, row.slice_end)
    )
    return {Slice(start, end): _Told(int(tokens), seq) for start, end, tokens, seq in found}


async def _boundaries(session: AsyncSession, tenant_id: UUID) -> list[datetime]:
    plan = TenantPlanRow
    found = await session.execute(
        select(plan.period_start, plan.period_end, plan.cancel_at).where(plan.tenant_id == tenant_id)
    )
    return [edge for edges in found for edge in edges if edge is not None]


_USED = text("""
    select coalesce(sum(l.input_tokens + l.output_tokens), 0)::bigint
    from unnest(cast(:starts as timestamptz[]), cast(:ends as timestamptz[])) with ordinality as s (start, stop, place)
    left join usage_ledger l
        on l.tenant_id = :tenant and l.occurred_at >= s.start and l.occurred_at < s.stop
    group by s.place order by s.place""")


async def _used(session: AsyncSession, tenant_id: UUID, slices: Sequence[Slice]) -> list[int]:
    if not slices:
        return []
    starts, ends = [one.start for one in slices], [one.end for one in slices]
    return list(await session.scalars(_USED, {"tenant": tenant_id, "starts": starts, "ends": ends}))


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)

"""What came too late for the meter: an operator puts it on the next invoice, or waives it; once, and for good.

Rows of the outbox that expired are on no invoice. Whoever decides about them makes a settlement of all that are at one price in
one period, and the rows name it, so that nothing is decided about twice. `telling` then takes those that are to be invoiced to
Stripe as invoice items. What waits at another price than the metered item's present one is settled here by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.billing.customers import ensure_customer
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.models import MeterRow, OverageSettlementRow
from stonechat.errors import Conflict
from stonechat.plans.catalog import plan_terms
from stonechat.plans.subscription import get_subscription
from stonechat.usage.overage import pieces

MAX_ROWS = 5_000
"""That one decision takes in, the oldest first: seven months of every hour. What is left is decided about next."""
MAX_SHOWN = 50
SYSTEM = "system"
How = Literal["invoice", "waive"]


class Priced(NamedTuple):
    """A price for a thousand tokens, in millionths of the currency; None where neither is known any more."""

    micros_per_1k_tokens: int | None
    currency: str | None


@dataclass(frozen=True, slots=True)
class Late:
    """Tokens of one period at one price that are on no invoice, and that nobody has decided about."""

    price: Priced
    tokens: int
    amount_cents: int
    """Before tax; 0 where there is no price."""
    start: datetime
    end: datetime


def cents(tokens: int, micros_per_1k_tokens: int | None) -> int:
    """What so many tokens cost, as Stripe rounds it."""
    micros = Decimal(tokens * (micros_per_1k_tokens or 0)) / 1000
    return int((micros / 10_000).quantize(Decimal(1), rounding=ROUND_HALF_UP))


async def list_late(session: AsyncSession, tenant_id: UUID) -> list[Late]:
    """What is on no invoice, the oldest first; a platform session may ask, too."""
    return [late for late, _ in await _grouped(session, tenant_id, await _undecided(session, tenant_id))]


async def list_settlements(session: AsyncSession, tenant_id: UUID) -> list[OverageSettlementRow]:
    """What was decided, by people and by itself, the newest first; at most `MAX_SHOWN`."""
    row = OverageSettlementRow
    chosen = select(row).where(row.tenant_id == tenant_id).order_by(row.created_at.desc(), row.settlement_id)
    return list(await session.scalars(chosen.limit(MAX_SHOWN)))


async def decide(session: AsyncSession, actor: Actor, *, how: How, reason: str) -> list[OverageSettlementRow]:
    """Put what is on no invoice on the customer's next one, or waive it. The actor is an operator, the reason is checked.

    Waiving takes in what no price is known of as well. Raises `Conflict` where nothing is left to decide about, or nobody to
    be invoiced: who asks twice gets that the second time.
    """
    actor.require("admin")
    customer = await ensure_customer(session, actor.tenant_id, provider="stripe")
    rows = await _undecided(session, actor.tenant_id, locked=True)
    groups = await _grouped(session, actor.tenant_id, rows)
    if how == "invoice":
        if customer.customer_id is None:
            raise Conflict("This tenant is no customer at Stripe any more: it can only be waived.")
        groups = [(late, mine) for late, mine in groups if late.price.micros_per_1k_tokens is not None]
    if not groups:
        raise Conflict("There is nothing left to decide about.")
    made = [
        _settled(late, mine, how=how, reason=reason, by=actor.id or SYSTEM, customer_id=customer.customer_id)
        for late, mine in groups
    ]
    session.add_all(made)
    await session.flush()
    amounts: dict[str, int] = defaultdict(int)
    for late, _ in groups:
        amounts[late.price.currency or "unknown"] += late.amount_cents
    detail = {"tokens": sum(late.tokens for late, _ in groups), "amounts_cents": dict(amounts), "reason": reason}
    await record_audit(session, actor, f"overage.{how}", detail=detail)
    return made


async def settle_by_itself(session: AsyncSession, tenant_id: UUID, row: MeterRow, *, reason: str) -> None:
    """Have a row that expired invoiced at its own price. `row` is of this session; one of the same price and period that
    waits takes it in, unless anybody may have told Stripe of it."""
    customer = await ensure_customer(session, tenant_id, provider="stripe")
    for late, mine in await _grouped(session, tenant_id, [row]):
        if late.price.micros_per_1k_tokens is None:
            return
        made = _settled(late, mine, how="invoice", reason=reason, by=SYSTEM, customer_id=customer.customer_id)
        table = OverageSettlementRow
        alike = select(table).where(
            table.tenant_id == tenant_id,
            table.state == "waiting",
            table.attempts == 0,
            table.decided_by == SYSTEM,
            table.reason == reason,
            table.micros_per_1k_tokens == late.price.micros_per_1k_tokens,
            table.currency == late.price.currency,
            table.customer_id == customer.customer_id,
        )
        held = await session.scalar(alike.limit(1).with_for_update().execution_options(populate_existing=True))
        if held is None:
            session.add(made)
        else:
            held.tokens += late.tokens
            held.amount_cents = cents(held.tokens, held.micros_per_1k_tokens)
            held.period_start, held.period_end = min(held.period_start, late.start), max(held.period_end, late.end)
            row.settlement_id = held.settlement_id
    await session.flush()


def _settled(
    late: Late, rows: Sequence[MeterRow], *, how: How, reason: str, by: str, customer_id: str | None
) -> OverageSettlementRow:
    now = clock.now()
    settlement_id = ids.new_id("set")
    for row in rows:
        row.settlement_id = settlement_id
    return OverageSettlementRow(
        tenant_id=rows[0].tenant_id,
        settlement_id=settlement_id,
        provider="stripe",
        state="waiting" if how == "invoice" else "waived",
        tokens=late.tokens,
        micros_per_1k_tokens=late.price.micros_per_1k_tokens,
        currency=late.price.currency,
        amount_cents=late.amount_cents,
        period_start=late.start,
        period_end=late.end,
        reason=reason,
        decided_by=by,
        created_at=now,
        customer_id=customer_id,
        attempts=0,
        next_attempt_at=now,
        settled_at=None if how == "invoice" else now,
    )


async def _undecided(session: AsyncSession, tenant_id: UUID, *, locked: bool = False) -> list[MeterRow]:
    row = MeterRow
    chosen = select(row).where(row.tenant_id == tenant_id, row.state == "expired", row.settlement_id.is_(None))
    chosen = chosen.order_by(row.slice_start, row.seq).limit(MAX_ROWS).execution_options(populate_existing=True)
    return list(await session.scalars(chosen.with_for_update() if locked else chosen))


async def _grouped(
    session: AsyncSession, tenant_id: UUID, rows: Sequence[MeterRow]
) -> list[tuple[Late, list[MeterRow]]]:
    """By price, and by the period whose invoice took them no more."""
    groups: dict[tuple[Priced, datetime | None], list[MeterRow]] = defaultdict(list)
    unknown = [row for row in rows if row.meter == METER_EVENT and None in (row.micros_per_1k_tokens, row.currency)]
    before = await _looked_up(session, tenant_id, unknown)
    for row in rows:
        price = before.get((row.slice_start, row.seq), Priced(row.micros_per_1k_tokens, row.currency))
        groups[price, row.closes_at].append(row)
    found = []
    for (price, _), mine in groups.items():
        tokens = sum(row.tokens for row in mine)
        start, end = min(row.slice_start for row in mine), max(row.slice_end for row in mine)
        found.append((Late(price, tokens, cents(tokens, price.micros_per_1k_tokens), start, end), mine))
    return sorted(found, key=lambda group: group[0].start)


async def _looked_up(
    session: AsyncSession, tenant_id: UUID, rows: Sequence[MeterRow]
) -> dict[tuple[datetime, int], Priced]:
    """Prices of rows from before they were noted: of the agreement of their time, in its plan's currency."""
    if not rows:
        return {}
    first, last = min(row.slice_start for row in rows), max(row.slice_end for row in rows)
    agreed = await pieces(session, tenant_id, first=first, until=last)
    held = await get_subscription(session, tenant_id)
    currency = (await plan_terms(session, held.plan_key, version=held.plan_version)).currency
    found: dict[tuple[datetime, int], Priced] = {}
    for row in rows:
        for piece in agreed:
            if piece.start < row.slice_end and piece.end > row.slice_start:
                price = Priced(piece.agreement.micros_per_1k_tokens, piece.agreement.currency or currency)
                found[row.slice_start, row.seq] = price
                break
    return found

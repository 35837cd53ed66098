"""Invoices that we write ourselves: a plan's next period, and what the one before brought beyond its plan.

What is beyond is `usage.overage`'s to say. Each line of it is also kept as a settlement, and a later invoice holds what has been
added since: what came into the ledger late. So all lines of a period together are what is charged in it, to the token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.models import Tenant
from stonechat.billing.models import BillingCustomerRow, InvoiceRow, OverageSettlementRow
from stonechat.billing.settling import SYSTEM, cents
from stonechat.plans.catalog import plan_terms
from stonechat.plans.subscription import Subscription
from stonechat.plans.terms import PlanTerms
from stonechat.plans.words import value_in_words
from stonechat.usage.overage import charged, pieces

PAYABLE_WITHIN = timedelta(days=14)
LOOKED_BACK = {"month": timedelta(days=62), "year": timedelta(days=400)}
"""For what came late, by how long the plan's periods are: that one, and the one before."""


@dataclass(frozen=True, slots=True)
class _Beyond:
    """Tokens of a period of use that are charged and on no invoice."""

    period_start: datetime
    period_end: datetime
    micros_per_1k_tokens: int
    currency: str
    tokens: int

    @property
    def line(self) -> dict[str, Any]:
        price = value_in_words("overage_micros_per_1k_tokens", self.micros_per_1k_tokens, self.currency)
        days = f"{self.period_start:%-d %B %Y} to {self.period_end:%-d %B %Y}"
        return {
            "description": f"{self.tokens:,} tokens beyond the plan, {days}, at {price}",
            "amount_cents": cents(self.tokens, self.micros_per_1k_tokens),
            "quantity": self.tokens,
        }


async def write_invoice(
    session: AsyncSession,
    row: BillingCustomerRow,
    terms: PlanTerms,
    *,
    start: datetime,
    end: datetime,
    before: Subscription,
) -> None:
    """Number and keep the invoice of a period that begins, with what `before` left beyond its plan; a period has one, however
    often it is asked for. What is owed in another currency is on an invoice of its own. `row` is locked."""
    owed = await _owed(session, row, before, until=start)
    mine = [] if terms.is_free else [one for one in owed if one.currency == terms.currency]
    if not terms.is_free:
        line = {"description": f"{terms.name}, {start:%-d %B %Y} to {end:%-d %B %Y}", "amount_cents": terms.price_cents}
        name = f"{int(start.timestamp())}_{terms.key}_{terms.version}"
        await _write(session, row, name, [line], mine, currency=terms.currency, period=(start, end))
    await _write_apart(session, row, [one for one in owed if one not in mine], at=start)


async def write_last(session: AsyncSession, row: BillingCustomerRow, held: Subscription, *, until: datetime) -> None:
    """The invoice of what a plan that ends leaves beyond it, if it leaves anything. `row` is locked."""
    await _write_apart(session, row, await _owed(session, row, held, until=until), at=until)


async def _write_apart(
    session: AsyncSession, row: BillingCustomerRow, owed: Sequence[_Beyond], *, at: datetime
) -> None:
    by_currency: dict[str, list[_Beyond]] = defaultdict(list)
    for one in owed:
        by_currency[one.currency].append(one)
    for currency, mine in by_currency.items():
        if not any(one.line["amount_cents"] for one in mine):
            continue  # less than half a cent is worth no invoice; it waits for more
        period = min(one.period_start for one in mine), at
        name = f"{int(at.timestamp())}_beyond_{currency}_{row.next_number}"
        await _write(session, row, name, [], mine, currency=currency, period=period)


async def _owed(
    session: AsyncSession, row: BillingCustomerRow, held: Subscription, *, until: datetime
) -> list[_Beyond]:
    """What was used beyond plans by hand before `until`, and is on none of our invoices."""
    if held.provider != "manual":
        return []
    terms = await plan_terms(session, held.plan_key, version=held.plan_version)
    first = max(until - LOOKED_BACK[terms.interval], row.metered_from)
    found = [
        replace(piece, start=max(piece.start, row.metered_from))
        for piece in await pieces(session, row.tenant_id, first=first, until=until, locked=True)
        if piece.agreement.provider == "manual" and piece.agreement.micros_per_1k_tokens > 0
    ]
    tokens: dict[tuple[datetime, datetime, int, str], int] = defaultdict(int)
    for piece, amount in zip(found, await charged(session, row.tenant_id, found), strict=True):
        agreed = piece.agreement
        currency = agreed.currency or terms.currency
        tokens[agreed.period_start, agreed.period_end, agreed.micros_per_1k_tokens, currency] += amount
    written = await _written(session, row, since=min((key[0] for key in tokens), default=until))
    return [
        _Beyond(start, end, price, currency, missing)
        for (start, end, price, currency), amount in sorted(tokens.items())
        if (missing := amount - written.get((start, price, currency), 0)) > 0
    ]


async def _written(
    session: AsyncSession, row: BillingCustomerRow, *, since: datetime
) -> dict[tuple[datetime, int | None, str | None], int]:
    line = OverageSettlementRow
    mine = (line.tenant_id == row.tenant_id) & (line.provider == "manual") & (line.period_start >= since)
    keys = (line.period_start, line.micros_per_1k_tokens, line.currency)
    found = await session.execute(select(*keys, func.sum(line.tokens)).where(mine).group_by(*keys))
    return {(start, price, currency): int(tokens) for start, price, currency, tokens in found}


async def _write(
    session: AsyncSession,
    row: BillingCustomerRow,
    name: str,
    lines: Sequence[dict[str, Any]],
    beyond: Sequence[_Beyond],
    *,
    currency: str,
    period: tuple[datetime, datetime],
) -> None:
    now = clock.now()
    lines = [*lines, *(one.line for one in beyond)]
    total = sum(line["amount_cents"] for line in lines)
    billed = await session.scalar(select(Tenant.name).where(Tenant.tenant_id == row.tenant_id))
    written = await session.scalar(
        insert(InvoiceRow)
        .values(
            tenant_id=row.tenant_id,
            # One for a period: the second attempt finds the first.
            invoice_id=f"inv_{row.tenant_id.hex[-12:]}_{name}",
            provider="manual",
            number=f"{row.tenant_id.hex[-8:].upper()}-{row.next_number:04d}",
            status="open",
            currency=currency,
            total_cents=total,
            tax_cents=0,
            due_cents=total,
            paid_cents=0,
            lines=lines,
            period_start=period[0],
            period_end=period[1],
            created_at=now,
            due_at=now + PAYABLE_WITHIN,
            billed_name=billed,
        )
        .on_conflict_do_nothing()
        .returning(InvoiceRow.invoice_id)
    )
    if written is None:
        return
    row.next_number += 1
    session.add_all(
        OverageSettlementRow(
            tenant_id=row.tenant_id,
            settlement_id=ids.new_id("set"),
            provider="manual",
            state="invoiced",
            tokens=one.tokens,
            micros_per_1k_tokens=one.micros_per_1k_tokens,
            currency=one.currency,
            amount_cents=cents(one.tokens, one.micros_per_1k_tokens),
            period_start=one.period_start,
            period_end=one.period_end,
            reason="",
            decided_by=SYSTEM,
            created_at=now,
            invoice_id=written,
            next_attempt_at=now,
            settled_at=now,
        )
        for one in beyond
    )
    await session.flush()

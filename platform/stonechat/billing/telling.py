"""The way of settlements to Stripe: an item of an invoice each, once, wherever a process dies.

Each attempt is noted before it is made. Stripe remembers an item's key for a day; whoever tries again looks first whether the
item is there. Where no subscription lives, whose next invoice would take the item, an invoice of its own is made, which is
sure to be there once only because the item says on which invoice it is.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select, update

from stonechat import clock
from stonechat.billing.gateway import Json, StripeGateway
from stonechat.billing.models import MeterRow, OverageSettlementRow
from stonechat.billing.pricing import OVERAGE_NAME, OVERAGE_PRODUCT, unit_cents
from stonechat.billing.standing import standing_of
from stonechat.db.session import Database
from stonechat.errors import StonechatError

AT_ONCE = 50
TENANTS_AT_ONCE = 500
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(hours=1)
LOOKED_AT_AGAIN = timedelta(days=1)
"""Whether the item is on an invoice by now."""
SKEW = timedelta(hours=1)
"""Between Stripe's clock and ours, at most."""
DELETED = "The item was deleted at Stripe."
_log = logging.getLogger(__name__)


async def tenants_with_settlements(database: Database) -> list[UUID]:
    """Whose settlements are due to be told, or to be looked at again."""
    row = OverageSettlementRow
    due = (row.provider == "stripe") & row.state.in_(("waiting", "told")) & (row.next_attempt_at <= clock.now())
    async with database.platform() as session:
        chosen = select(row.tenant_id).where(due).distinct().order_by(row.tenant_id).limit(TENANTS_AT_ONCE)
        return list(await session.scalars(chosen))


async def tell_settlements(database: Database, gateway: StripeGateway, tenant_id: UUID, *, tax: bool) -> None:
    """Tell Stripe of what is due of one tenant's, oldest first. Raises nothing of Stripe's: what fails waits."""
    row = OverageSettlementRow
    async with database.tenant(tenant_id) as session:
        due = select(row).where(
            row.tenant_id == tenant_id,
            row.provider == "stripe",
            row.state.in_(("waiting", "told")),
            row.next_attempt_at <= clock.now(),
        )
        rows = list(await session.scalars(due.order_by(row.created_at, row.settlement_id).limit(AT_ONCE)))
    for settlement in rows:
        if not await _claim(database, settlement):
            continue
        try:
            await _tell(database, gateway, settlement, tax=tax)
        except StonechatError as error:
            await _failed(database, settlement, error)


async def is_all_settled(database: Database, tenant_id: UUID) -> bool:
    """Whether Stripe knows of everything that is to be invoiced."""
    row = OverageSettlementRow
    async with database.tenant(tenant_id) as session:
        waits = select(row.settlement_id).where(
            row.tenant_id == tenant_id, row.provider == "stripe", or_(row.state == "waiting", row.error.is_not(None)),
            row.state != "refused",
        )  # fmt: skip
        return await session.scalar(waits.limit(1)) is None


async def _tell(database: Database, gateway: StripeGateway, row: OverageSettlementRow, *, tax: bool) -> None:
    assert row.customer_id is not None  # noqa: S101 - what is to be invoiced has a customer and a price
    assert row.currency is not None  # noqa: S101
    item = await _item(gateway, row)
    if item is None:
        await _note(database, row, state="refused", error=DELETED)
        return
    if row.state == "waiting":
        told: Json = {"state": "told", "item_id": str(item["id"]), "amount_cents": int(item["amount"]), "error": None}
        await _note(database, row, **told, settled_at=clock.now())
        row.item_id = told["item_id"]
    invoice = item.get("invoice")
    if invoice is None and await standing_of(database, gateway, row.tenant_id) is None:
        made = await gateway.invoice_pending(
            row.customer_id, currency=row.currency, tax=tax, settlement_id=row.settlement_id
        )
        invoice = made["id"]
    if invoice is None:
        await _note(database, row, next_attempt_at=clock.now() + LOOKED_AT_AGAIN, error=None)
    else:
        invoice_id = str(invoice["id"]) if isinstance(invoice, dict) else str(invoice)
        await _note(database, row, state="invoiced", invoice_id=invoice_id, error=None)


async def _item(gateway: StripeGateway, row: OverageSettlementRow) -> Json | None:
    """The settlement's item, made if it is not there; None for one that was there and is gone."""
    assert row.customer_id is not None  # noqa: S101
    if row.item_id is not None:
        return await gateway.get_item(row.item_id)
    if row.attempts > 0:
        since = row.created_at - SKEW
        found = await gateway.find_item(row.customer_id, settlement_id=row.settlement_id, since=since)
        if found is not None:
            return found
    await gateway.ensure_product(OVERAGE_PRODUCT, name=OVERAGE_NAME)
    params = item_params(row)
    return await gateway.add_item(row.customer_id, params, settlement_id=row.settlement_id)


def item_params(row: OverageSettlementRow) -> Json:
    """The item: so many tokens at so much each; always the same for a settlement that was once tried."""
    days = f"{row.period_start:%-d %B %Y} to {row.period_end:%-d %B %Y}"
    return {
        "currency": row.currency,
        "description": f"{row.tokens:,} tokens beyond the plan, {days}",
        "quantity": row.tokens,
        "period": {"start": int(row.period_start.timestamp()), "end": int(row.period_end.timestamp())},
        "price_data": {
            "currency": row.currency,
            "product": OVERAGE_PRODUCT,
            "tax_behavior": "exclusive",
            "unit_amount_decimal": unit_cents(row.micros_per_1k_tokens or 0),
        },
    }


async def _failed(database: Database, row: OverageSettlementRow, error: StonechatError) -> None:
    """Stripe's refusal is final, and what it was about is open again; everything else is tried again."""
    if "stripe_status" in error.members and row.item_id is None:
        _log.error("Stripe refused to invoice %d tokens of tenant %s.", row.tokens, row.tenant_id)
        await _note(database, row, state="refused", error=str(error)[:500])
        return
    pause = min(FIRST_PAUSE * 2 ** min(row.attempts, 10), LONGEST_PAUSE)
    await _note(database, row, error=str(error)[:500], next_attempt_at=clock.now() + pause)


async def _claim(database: Database, row: OverageSettlementRow) -> bool:
    """Note the attempt, unless another is at it. Who dies after this is followed by another when the pause is over."""
    table = OverageSettlementRow
    async with database.tenant(row.tenant_id) as session:
        claimed = await session.scalar(
            update(table)
            .where(*_is(row), table.state == row.state, table.attempts == row.attempts, table.tokens == row.tokens)
            .values(attempts=table.attempts + 1, next_attempt_at=clock.now() + LONGEST_PAUSE / 6)
            .returning(table.attempts)
        )
    return claimed is not None


async def _note(database: Database, row: OverageSettlementRow, **values: Any) -> None:
    table, outbox = OverageSettlementRow, MeterRow
    async with database.tenant(row.tenant_id) as session:
        await session.execute(update(table).where(*_is(row)).values(**values))
        if values.get("state") == "refused":
            mine = (outbox.tenant_id == row.tenant_id) & (outbox.settlement_id == row.settlement_id)
            await session.execute(update(outbox).where(mine).values(settlement_id=None))


def _is(row: OverageSettlementRow) -> tuple[Any, ...]:
    return OverageSettlementRow.tenant_id == row.tenant_id, OverageSettlementRow.settlement_id == row.settlement_id

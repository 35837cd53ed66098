"""Invoices as their tenant sees them, whoever wrote them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.billing.models import InvoiceRow
from stonechat.errors import InvalidInput, NotFound
from stonechat.web.paging import MAX_PAGE, Page, encode_cursor, moment_and_id


class InvoiceLine(BaseModel):
    """One line; credits are negative."""

    model_config = ConfigDict(frozen=True)

    description: str
    amount_cents: int
    quantity: int | None = None


class InvoiceView(BaseModel):
    """An invoice. Amounts are in hundredths of `currency`."""

    model_config = ConfigDict(frozen=True)

    id: str
    provider: str
    number: str | None
    status: str
    """`draft`, `open`, `paid`, `void` or `uncollectible`."""
    currency: str
    total_cents: int
    """Tax included."""
    tax_cents: int
    due_cents: int
    paid_cents: int
    lines: list[InvoiceLine]
    period_start: AwareDatetime | None
    period_end: AwareDatetime | None
    created_at: AwareDatetime
    due_at: AwareDatetime | None
    paid_at: AwareDatetime | None
    hosted_url: str | None
    pdf_url: str | None


async def list_invoices(
    session: AsyncSession, actor: Actor, *, limit: int = 50, cursor: str | None = None
) -> Page[InvoiceView]:
    """The tenant's invoices, newest first; drafts are not shown."""
    actor.require("admin")
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInput(f"`limit` is a number from 1 to {MAX_PAGE}.")
    row = InvoiceRow
    key = (row.created_at, row.invoice_id)
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.status != "draft")
    if cursor is not None:
        chosen = chosen.where(tuple_(*key) < tuple_(*moment_and_id(cursor)))
    rows = list(await session.scalars(chosen.order_by(*(column.desc() for column in key)).limit(limit + 1)))
    last = rows[limit - 1] if len(rows) > limit else None
    return Page(
        data=[view_of(invoice) for invoice in rows[:limit]],
        next_cursor=encode_cursor(last.created_at.isoformat(), last.invoice_id) if last else None,
    )


async def get_invoice(session: AsyncSession, actor: Actor, *, invoice_id: str) -> InvoiceView:
    """One of the tenant's. Raises `NotFound`."""
    actor.require("admin")
    return view_of(await load_invoice(session, actor.tenant_id, invoice_id))


async def load_invoice(session: AsyncSession, tenant_id: UUID, invoice_id: str) -> InvoiceRow:
    """The row, locked. Raises `NotFound`."""
    row = InvoiceRow
    if "\x00" in invoice_id:
        raise NotFound("There is no such invoice.")
    chosen = select(row).where(row.tenant_id == tenant_id, row.invoice_id == invoice_id, row.status != "draft")
    found = await session.scalar(chosen.with_for_update().execution_options(populate_existing=True))
    if found is None:
        raise NotFound("There is no such invoice.")
    return found


def view_of(row: InvoiceRow) -> InvoiceView:
    """As its tenant sees it."""
    values: dict[str, Any] = {
        name: getattr(row, name) for name in InvoiceView.model_fields if name not in ("id", "lines")
    }
    return InvoiceView(id=row.invoice_id, lines=[InvoiceLine(**line) for line in row.lines], **values)

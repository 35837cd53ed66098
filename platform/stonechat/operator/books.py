"""Invoices of tenants that were deleted: what bookkeeping needs of them outlives the tenant, and nothing else does."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.billing.models import KeptInvoiceRow
from stonechat.errors import Conflict, NotFound
from stonechat.operator.operators import Operator, record

KEPT_FOR = timedelta(days=11 * 366)
"""Ten whole years after the one it was written in, as tax law asks in most places."""
ROWS = 100
MAX_ROWS = 50_000

_KEEP = text("""
    insert into kept_invoices (tenant_id, invoice_id, provider, number, status, currency, total_cents, tax_cents, paid_cents,
        billed_name, lines, period_start, period_end, created_at, due_at, paid_at, kept_at)
    select tenant_id, invoice_id, provider, number, status, currency, total_cents, tax_cents, paid_cents,
        coalesce(billed_name, :name), case when provider = 'manual' then lines else '[]' end, period_start, period_end,
        created_at, due_at, paid_at, :now
    from invoices where tenant_id = :tenant and status <> 'draft'
    on conflict (tenant_id, invoice_id) do update set status = excluded.status, paid_cents = excluded.paid_cents,
        paid_at = excluded.paid_at""")


async def keep_invoices(session: AsyncSession, tenant_id: UUID, *, name: str) -> None:
    """Copy the invoices of a tenant that is about to go; `name` is what it is called, for those that do not say so.

    `session` is the platform's. Twice changes nothing.
    """
    await session.execute(_KEEP, {"tenant": tenant_id, "name": name, "now": clock.now()})


async def forget_old_invoices(session: AsyncSession) -> None:
    """Those that no law asks for any more. `session` is the platform's."""
    await session.execute(delete(KeptInvoiceRow).where(KeptInvoiceRow.created_at < clock.now() - KEPT_FOR))


async def list_kept(session: AsyncSession, *, limit: int = ROWS) -> list[KeptInvoiceRow]:
    """The newest first."""
    row = KeptInvoiceRow
    chosen = select(row).order_by(row.created_at.desc(), row.tenant_id, row.invoice_id).limit(min(limit, MAX_ROWS))
    return list(await session.scalars(chosen))


async def pay_kept(session: AsyncSession, operator: Operator, *, tenant_id: UUID, invoice_id: str) -> None:
    """Note that an invoice of ours was paid after its tenant had gone. Raises `NotFound`, or `Conflict` if it is not open."""
    row = KeptInvoiceRow
    mine = select(row).where(row.tenant_id == tenant_id, row.invoice_id == invoice_id, row.provider == "manual")
    found = None if "\x00" in invoice_id else await session.scalar(mine.with_for_update())
    if found is None:
        raise NotFound("There is no such invoice.")
    if found.status == "paid":
        return
    if found.status != "open":
        raise Conflict(f"This invoice is {found.status} already.")
    found.status, found.paid_cents, found.paid_at = "paid", found.total_cents, clock.now()
    await record(session, operator, "invoice.pay", tenant_id=tenant_id, subject_id=invoice_id)

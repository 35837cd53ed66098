"""`/operator/books`: invoices of tenants that were deleted."""

from __future__ import annotations

from fastapi import APIRouter, Response

from stonechat.operator import books
from stonechat.plans.words import money
from stonechat_admin.operator_auth import AtDesk
from stonechat_admin.operator_pages import csv_file, tenant_of

router = APIRouter()

COLUMNS = (
    "tenant_id",
    "invoice_id",
    "provider",
    "number",
    "billed_name",
    "status",
    "currency",
    "total_cents",
    "tax_cents",
    "paid_cents",
    "period_start",
    "period_end",
    "created_at",
    "due_at",
    "paid_at",
)


@router.get("/operator/books")
async def show_books(desk: AtDesk) -> Response:
    kept = await books.list_kept(desk.session)
    return desk.page("operator/money/books.html", invoices=kept, most=books.ROWS, money=money)


@router.get("/operator/books/export")
async def export_books(desk: AtDesk) -> Response:
    kept = await books.list_kept(desk.session, limit=books.MAX_ROWS)
    return csv_file("books", COLUMNS, ([getattr(row, name) for name in COLUMNS] for row in kept))


@router.post("/operator/books/{tenant_id}/{invoice_id}/paid")
async def pay_kept(tenant_id: str, invoice_id: str, desk: AtDesk) -> Response:
    await books.pay_kept(desk.session, desk.operator, tenant_id=tenant_of(tenant_id), invoice_id=invoice_id)
    return desk.go("/operator/books", toast="Marked as paid.")

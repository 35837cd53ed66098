"""`/api/v1/invoices`: what the tenant was charged, whoever wrote the invoice."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.billing import invoices
from stonechat.billing.invoices import InvoiceView
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(prefix="/invoices", tags=["Plan"], dependencies=[Depends(limit_address)])


@router.get("", summary="List invoices, newest first; drafts are not shown")
async def list_invoices(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[InvoiceView]:
    return await invoices.list_invoices(session, actor, limit=limit, cursor=cursor)


@router.get("/{invoice_id}", summary="Get an invoice")
async def get_invoice(invoice_id: str, actor: ApiActor, session: TenantSession) -> InvoiceView:
    return await invoices.get_invoice(session, actor, invoice_id=invoice_id)

"""`/operator/deliveries`: outbound webhooks of all tenants, without what they hold, and sending one again."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Response

from stonechat.operator import deliveries
from stonechat.operator.tenant import names_of
from stonechat_admin.operator_auth import AtDesk
from stonechat_admin.operator_pages import csv_file, here, tenant_of

router = APIRouter(prefix="/operator/deliveries")

Word = Annotated[str, Query(max_length=300)]
Typed = Annotated[str, Form(max_length=300)]


@router.get("")
async def show_deliveries(desk: AtDesk, status: Word = "", tenant: Word = "", before: Word = "") -> Response:
    rows, more = await deliveries.list_deliveries(desk.session, status=status, tenant=tenant, before=before)
    asked = {"status": status, "tenant": tenant}
    return desk.page(
        "operator/machinery/deliveries.html",
        rows=rows,
        counts=await deliveries.count_deliveries(desk.session),
        most=deliveries.MAX_COUNTED,
        names=await names_of(desk.session, {row.tenant_id for row in rows}),
        chosen=status,
        tenant=tenant,
        before=before,
        words=deliveries.STATUS_WORDS,
        export=f"/operator/deliveries/export?{urlencode(asked)}",
        more=f"/operator/deliveries?{urlencode(asked | {'before': more})}" if more else None,
    )


@router.get("/export")
async def export_deliveries(desk: AtDesk, status: Word = "", tenant: Word = "") -> Response:
    rows, _ = await deliveries.list_deliveries(
        desk.session, status=status, tenant=tenant, limit=deliveries.MAX_EXPORTED
    )
    headings = ("delivery_id", "tenant_id", "kind", "host", "status", "attempts", "last_status", "created_at", "error")
    return csv_file(
        "deliveries",
        headings,
        (
            (
                row.delivery_id,
                row.tenant_id,
                row.kind,
                row.host,
                row.status,
                row.attempts,
                row.last_status,
                row.created_at,
                row.error,
            )
            for row in rows
        ),
    )


@router.post("/{tenant_id}/{endpoint_id}/{delivery_id}/replay")
async def replay_delivery(
    tenant_id: str,
    endpoint_id: str,
    delivery_id: str,
    desk: AtDesk,
    status: Typed = "",
    tenant: Typed = "",
    before: Typed = "",
) -> Response:
    await deliveries.replay(
        desk.session,
        desk.operator,
        database=desk.services.database,
        tenant_id=tenant_of(tenant_id),
        endpoint_id=endpoint_id,
        delivery_id=delivery_id,
    )
    back = here("/operator/deliveries", status=status, tenant=tenant, before=before)
    return desk.go(back, toast="It is sent again.")

"""`GET /api/v1/invoices`: what was charged, in pages, to who may know."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.accounts.api_keys import create_api_key
from stonechat.api import invoices
from stonechat.api.dependencies import Services
from stonechat.billing.models import InvoiceRow
from support.postgres import TestDatabase
from support.visitors import build_app, client_of, running_services


@pytest.fixture(scope="module")
async def services(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    async with running_services(test_database.web_url, tmp_path_factory.mktemp("invoices")) as opened:
        yield opened


async def test_a_bookkeepers_script_reads_every_invoice_once_and_no_draft(services: Services, tenant_id: UUID) -> None:
    now = clock.now()
    async with services.database.tenant(tenant_id) as session:
        _, admin = await create_api_key(session, system(tenant_id), name="books", scopes=["admin"])
        _, reader = await create_api_key(session, system(tenant_id), name="reads", scopes=["read"])
        for number, status in enumerate(["paid", "paid", "open", "draft"]):
            session.add(
                InvoiceRow(
                    tenant_id=tenant_id, invoice_id=f"inv_{number}", provider="manual", number=f"A-{number}",
                    status=status, currency="usd", total_cents=9_900, tax_cents=0, due_cents=0, paid_cents=9_900,
                    lines=[{"description": "Pro", "amount_cents": 9_900, "quantity": 1}],
                    created_at=now + timedelta(days=number),
                )
            )  # fmt: skip
    app = build_app(services)
    app.include_router(invoices.router, prefix="/api/v1")
    async with client_of(app) as api:
        api.headers["Authorization"] = f"Bearer {admin}"
        found, cursor = [], None
        for _ in range(3):
            page = (
                await api.get("/api/v1/invoices", params={"limit": 1} | ({"cursor": cursor} if cursor else {}))
            ).json()
            found += [invoice["id"] for invoice in page["data"]]
            cursor = page["next_cursor"]
        assert (found, cursor) == (["inv_2", "inv_1", "inv_0"], None)
        one = (await api.get("/api/v1/invoices/inv_2")).json()
        assert (one["status"], one["total_cents"], one["lines"][0]["description"]) == ("open", 9_900, "Pro")
        for hidden in ("inv_3", "inv_4", "%00"):
            assert (await api.get(f"/api/v1/invoices/{hidden}")).status_code == 404
        assert (await api.get("/api/v1/invoices", params={"cursor": "x"})).status_code == 400
        api.headers["Authorization"] = f"Bearer {reader}"
        assert (await api.get("/api/v1/invoices")).status_code == 403

"""Overage that missed its invoice, as operators see it and decide about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.accounts.audit import list_audit
from stonechat.billing.customers import ensure_customer
from stonechat.billing.gateway import METER_EVENT
from stonechat.billing.models import MeterRow
from stonechat.billing.settling import list_settlements
from stonechat.billing.webhooks import SYNC_JOB
from support.billing import waiting_jobs
from support.console import ConsoleWorld, check_policy
from support.operators import at_desk, press

MARCH = datetime(2027, 3, 1, tzinfo=UTC)


async def late(world: ConsoleWorld, tenant_id: UUID, *, prices: tuple[int | None, ...] = (2_000,)) -> None:
    """A million tokens at each price that no invoice took."""
    async with world.services.database.tenant(tenant_id) as session:
        (await ensure_customer(session, tenant_id, provider="stripe")).customer_id = f"cus_{uuid4().hex}"
        for number, price in enumerate(prices, start=1):
            session.add(
                MeterRow(
                    tenant_id=tenant_id, slice_start=MARCH, slice_end=MARCH + timedelta(hours=1), seq=number,
                    tokens=1_000_000, meter=METER_EVENT, identifier=f"{tenant_id}-{number}", customer_id="cus", state="expired",
                    micros_per_1k_tokens=price, currency=None if price is None else "eur", next_attempt_at=MARCH,
                )
            )  # fmt: skip


async def logged(world: ConsoleWorld, tenant_id: UUID) -> dict[str, object]:
    async with world.services.database.tenant(tenant_id) as session:
        entries = (await list_audit(session, system(tenant_id), limit=5)).data
    return {entry.action: entry.detail for entry in entries}


async def test_it_is_put_on_the_next_invoice_once_and_both_logs_say_so(
    world: ConsoleWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant_id, desk = await world.another_tenant("Came late"), await at_desk(world)
    monkeypatch.setattr(world.services.billing, "gateway", object())
    await late(world, tenant_id, prices=(2_000, 1_500))
    path = f"/operator/tenants/{tenant_id}/overage"
    tenant_page = await desk.page(f"/operator/tenants/{tenant_id}")
    assert "2,000,000 tokens beyond the plan" in tenant_page.one("#on-no-invoice").text()
    page = await desk.page(path)
    check_policy(page)
    rows = [row.text(separator=" ") for row in page.all("#late tr")]
    assert ["€2 " in rows[0] or rows[0].strip().endswith("€2"), "€1.50" in rows[1]] == [True, True]
    refused = await press(desk, path, {"how": "invoice", "reason": ""}, status=422)
    assert "Say why" in refused.text
    await press(desk, path, {"how": "invoice", "reason": "Stripe was away."})
    again = await desk.request("POST", path, data={"csrf": desk.token, "how": "waive", "reason": "Twice."})
    assert again.status == 409
    page = await desk.page(path)
    assert "Everything that is owed is on an invoice" in page.one("#nothing-late").text()
    assert [row.text().count("waits for Stripe") for row in page.all("#settled tr")] == [1, 1]
    assert await waiting_jobs(world.services.database, tenant_id, SYNC_JOB) == 1
    entry = (await logged(world, tenant_id))["overage.invoice"]
    assert entry == {"tokens": 2_000_000, "amounts_cents": {"eur": 350}, "reason": "Stripe was away."}
    async with world.services.database.platform() as session:
        done = text("select reason from operator_audit where tenant_id = :t and action = 'overage.invoice'")
        assert list(await session.scalars(done, {"t": tenant_id})) == ["Stripe was away."]
    assert not (await desk.page(f"/operator/tenants/{tenant_id}")).all("#on-no-invoice")


async def test_without_stripe_or_a_price_it_can_only_be_waived(world: ConsoleWorld) -> None:
    tenant_id, desk = await world.another_tenant("Of no price"), await at_desk(world)
    await late(world, tenant_id, prices=(2_000,))
    path = f"/operator/tenants/{tenant_id}/overage"
    page = await desk.page(path)
    assert "Stripe is not connected" in page.text
    refused = await desk.request("POST", path, data={"csrf": desk.token, "how": "invoice", "reason": "x"})
    assert refused.status == 409
    assert (await press(desk, path, {"how": "later", "reason": "x"}, status=422)).status == 422
    await press(desk, path, {"how": "waive", "reason": "An old meter."})
    async with world.services.database.tenant(tenant_id) as session:
        (row,) = await list_settlements(session, tenant_id)
    assert (row.state, row.tokens, row.reason) == ("waived", 1_000_000, "An old meter.")
    assert "An old meter." in (await desk.page(path)).one("#settled").text()

"""Sums over tenants, what is unusual about them, and a month on other terms."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.billing.models import InvoiceRow
from stonechat.operator import revenue
from stonechat.operator.models import PlatformDayRow
from stonechat.operator.summaries import refresh_summaries
from stonechat.operator.tenants import Chosen, list_tenants
from stonechat.plans.terms import PlanTerms
from stonechat.usage.report import today
from support.console import ConsoleWorld
from support.operators import at_desk, press

TERMS = PlanTerms(
    key="other",
    name="Other",
    price_cents=1_000,
    included_messages=50,
    included_tokens=10_000,
    overage_micros_per_1k_tokens=2_000_000,
)


async def use(
    world: ConsoleWorld, tenant_id: UUID, *, days_ago: int, tokens: int, cost: int, answers: int = 10
) -> None:
    """A day of use that is added up already."""
    async with world.services.database.tenant(tenant_id) as session:
        await session.execute(
            text("""insert into usage_days (tenant_id, day, agent_id, provider, model, purpose, answers, calls, input_tokens,
                    output_tokens, cached_tokens, estimated_tokens, cost_micros, unpriced_tokens)
                    values (:tenant, :day, 'a', 'p', 'm', 'answer', :answers, 1, :tokens, 0, 0, 0, :cost, 0)"""),
            {
                "tenant": tenant_id,
                "day": today() - timedelta(days=days_ago),
                "answers": answers,
                "tokens": tokens,
                "cost": cost,
            },
        )


async def test_what_is_unusual_about_a_tenant_is_flagged(world: ConsoleWorld) -> None:
    desk, spike, loss = await at_desk(world), await world.another_tenant("Spiky"), await world.another_tenant("Losing")
    for day in range(1, 15):
        await use(world, spike, days_ago=day, tokens=100, cost=100_000)
    await use(world, spike, days_ago=0, tokens=9_000, cost=9_000_000)
    await press(desk, f"/operator/tenants/{loss}/plan", {"plan_key": "starter", "reason": "x", "trial_days": "0"})
    await use(world, loss, days_ago=3, tokens=1_000, cost=90_000_000)
    for _ in range(2):  # twice changes nothing
        await refresh_summaries(world.services.database)
    async with world.services.database.platform() as session:
        rows, totals = await list_tenants(session, Chosen(flagged=True))
    flags = {row.tenant_id: row.flags for row in rows}
    assert flags[spike] == ["cost_spike", "unpaid_cost"]
    assert flags[loss] == ["loss"]
    assert totals.flagged == totals.tenants >= 2
    found = {row.tenant_id: row for row in rows}
    assert (found[loss].revenue_micros, found[loss].cost_micros) == (29_000_000, 90_000_000)
    assert (found[spike].tokens, found[spike].answers) == (14 * 100 + 9_000, 150)
    page = await desk.page("/operator/tenants?flagged=1&q=Spiky")
    assert "cost spike" in page.text
    assert "Losing" not in page.text


async def test_a_month_is_replayed_to_the_token(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Replayed")
    month = revenue.last_month()
    ago = (today() - month).days
    await press(desk, f"/operator/tenants/{tenant_id}/plan", {"plan_key": "pro", "reason": "x", "trial_days": "0"})
    await use(world, tenant_id, days_ago=ago, tokens=8_000, cost=5_000, answers=30)
    await use(world, tenant_id, days_ago=ago - 1, tokens=7_500, cost=5_000, answers=30)
    await refresh_summaries(world.services.database)
    async with world.services.database.platform() as session:
        replay = await revenue.replay_on_plan(session, TERMS, rows=revenue.MAX_TENANTS)
        own = next(row for row in replay.rows if row.tenant_id == tenant_id)
        narrow = TERMS.model_copy(update={"overage_micros_per_1k_tokens": None, "included_messages": None})
        bounded = await revenue.replay_on_plan(session, narrow, of_plan="pro", rows=revenue.MAX_TENANTS)
    assert (own.answers, own.tokens, own.cost_micros) == (60, 15_500, 10_000)
    assert own.now_micros == 99_000_000
    assert own.then_micros == 10_000_000 + 5_500 * 2_000
    assert own.beyond, "more answers than the plan includes"
    assert replay.then_micros == sum(row.then_micros for row in replay.rows)
    assert replay.tenants == len(replay.rows)
    held = next(row for row in bounded.rows if row.tenant_id == tenant_id)
    assert (held.then_micros, held.beyond) == (10_000_000, True)
    assert {row.plan_key for row in bounded.rows} == {"pro"}


@pytest.mark.parametrize(("cost", "told"), [(900_000, ()), (50_000_000, ("Models cost far more than usual",))])
async def test_an_unusual_day_is_told(world: ConsoleWorld, cost: int, told: tuple[str, ...]) -> None:
    async with world.services.database.platform() as session:
        await session.execute(text("delete from platform_days"))
        await session.execute(
            text("""insert into platform_days select current_date - n, 5, 5, 100, 1000, 1000000, 90000000
                    from generate_series(1, 20) n"""),
        )
        values = {"cost": cost}
        await session.execute(
            text("insert into platform_days values (current_date, 5, 5, 100, 1000, :cost, 90000000)"), values
        )
        days = await revenue.revenue_days(session, days=7)
        await session.execute(text("delete from platform_days"))
    assert len(days) == 7
    assert days[-1].unusual == told
    assert all(day.unusual == () for day in days[:-1])


async def months(world: ConsoleWorld) -> dict[tuple[date, str], revenue.Month]:
    await refresh_summaries(world.services.database)
    async with world.services.database.platform() as session:
        return {(month.month, month.currency): month for month in await revenue.revenue_months(session)}


async def bill(
    world: ConsoleWorld,
    tenant_id: UUID,
    number: int,
    *,
    status: str,
    cents: int,
    written: datetime,
    paid: datetime | None,
    currency: str = "nok",
) -> None:
    async with world.services.database.tenant(tenant_id) as session:
        session.add(
            InvoiceRow(
                tenant_id=tenant_id,
                invoice_id=f"inv_{number}",
                provider="manual",
                number=str(number),
                status=status,
                currency=currency,
                total_cents=cents,
                tax_cents=0,
                due_cents=0 if paid else cents,
                paid_cents=cents if paid else 0,
                lines=[],
                created_at=written,
                paid_at=paid,
            )
        )


async def test_a_month_tells_what_was_invoiced_and_paid_beside_the_list_price(world: ConsoleWorld) -> None:
    desk, tenant_id = await at_desk(world), await world.another_tenant("Invoiced")
    month = today().replace(day=1)
    now, last = clock.now(), datetime(month.year, month.month, 1, tzinfo=UTC) - timedelta(days=3)
    long_ago = datetime(2024, 5, 20, tzinfo=UTC)
    async with world.services.database.platform() as session:
        await session.execute(text("delete from platform_months"))
        await session.execute(text("insert into platform_months values ('2024-05-01', 'nok', 7, 700, 600)"))
    await bill(world, tenant_id, 1, status="paid", cents=5_000, written=last, paid=now)
    await bill(world, tenant_id, 2, status="open", cents=3_000, written=now, paid=None)
    await bill(world, tenant_id, 3, status="void", cents=1_000, written=now, paid=None)
    await bill(world, tenant_id, 4, status="draft", cents=9_000, written=now, paid=None)
    await bill(world, tenant_id, 5, status="paid", cents=2_000, written=long_ago, paid=long_ago)
    for _ in range(2):  # twice changes nothing
        held = await months(world)
    assert (held[month, "nok"].invoices, held[month, "nok"].invoiced_cents) == (1, 3_000)
    assert held[month, "nok"].paid_cents == 5_000, "what came in in the month, whenever it was invoiced"
    before = held[date(last.year, last.month, 1), "nok"]
    assert (before.invoices, before.invoiced_cents, before.paid_cents) == (1, 5_000, 0)
    kept = held[date(2024, 5, 1), "nok"]
    assert (kept.invoices, kept.invoiced_cents, kept.paid_cents) == (7, 700, 600), "a month that is over stays"
    async with world.services.database.platform() as session:
        row = await session.get_one(PlatformDayRow, today())
        listed = await session.scalar(
            text("select sum(revenue_micros)::bigint from platform_days where day >= :first"), {"first": month}
        )
    assert row is not None
    assert held[month, "nok"].list_micros == listed
    page = await desk.page("/operator/revenue")
    assert "Revenue, by list price" in page.text
    line = next(row.text(separator=" ") for row in page.all("#by-month tr") if "May 2024" in row.text())
    assert "not known" in line, "no day of that month was added up"
    taken = (await desk.page("/operator/revenue/months/export")).response.text
    assert "2024-05-01,nok,7,700,600,0,0" in taken


async def test_a_month_whose_only_invoice_is_taken_back_brought_nothing(world: ConsoleWorld) -> None:
    tenant_id, month = await world.another_tenant("Taken back"), today().replace(day=1)
    await bill(world, tenant_id, 6, status="open", cents=4_000, written=clock.now(), paid=None, currency="sek")
    held = (await months(world))[month, "sek"]
    assert (held.invoices, held.invoiced_cents) == (1, 4_000)
    async with world.services.database.tenant(tenant_id) as session:
        taken_back = text("update invoices set status = 'void' where tenant_id = :tenant")
        await session.execute(taken_back, {"tenant": tenant_id})
    held = (await months(world))[month, "sek"]
    assert (held.invoices, held.invoiced_cents, held.paid_cents) == (0, 0, 0)

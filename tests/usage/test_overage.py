"""What is owed beyond a plan: the rule itself, and who changes what while others do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.plans.overrides import add_override
from stonechat.usage import quota, report
from stonechat.usage.allowance import allowance_state, put_overage, refresh_allowance
from stonechat.usage.ledger import ledger_entry, settle
from stonechat.usage.overage import pieces, so_far
from stonechat.usage.quota import Budget, put_budget
from support.allowances import on_plan
from support.budgets import set_budget

START = datetime(2027, 1, 31, 9, tzinfo=UTC)
END = datetime(2027, 2, 28, 9, tzinfo=UTC)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], datetime]:
    """Sets the clock to so many hours after the period's beginning."""

    def move(hours: float) -> datetime:
        now = START + timedelta(hours=hours)
        monkeypatch.setattr(clock, "now", lambda: now)
        return now

    move(0)
    return move


async def used(database: Database, tenant_id: UUID, tokens: int) -> None:
    async with database.tenant(tenant_id) as session:
        entry = ledger_entry(tenant_id, None, agent_id=None, provider="openai", model="gpt-4.1", input_tokens=tokens)
        await settle(session, tenant_id, run_id=None, entries=[entry])


async def choose(database: Database, tenant_id: UUID, opt_in: bool, *, cap: int | None = None) -> int | None:
    """Returns the hard end."""
    async with database.tenant(tenant_id) as session:
        return (await put_overage(session, system(tenant_id), opt_in=opt_in, spend_cap_micros=cap)).hard.tokens


async def owed(database: Database, tenant_id: UUID) -> tuple[int, int]:
    async with database.tenant(tenant_id) as session:
        overage = (await allowance_state(session, tenant_id)).overage
    return overage.tokens, overage.cost_micros


async def on_pro(database: Database, tenant_id: UUID, *, plan: str = "pro", **more: Any) -> None:
    await on_plan(database, tenant_id, plan, period_start=START, period_end=END, **more)


async def test_each_token_is_charged_that_comes_beyond_the_plan_after_it_was_agreed_to(
    database: Database, tenant_id: UUID, at: Callable[[float], datetime]
) -> None:
    await on_pro(database, tenant_id)
    at(1)
    await used(database, tenant_id, 65_000_000)
    at(2)
    assert await choose(database, tenant_id, True, cap=4_000_000) == 67_000_000, "what came before costs nothing"
    at(3)
    await used(database, tenant_id, 1_500_000)
    at(4)
    assert await owed(database, tenant_id) == (1_500_000, 3_000_000)
    assert await choose(database, tenant_id, True, cap=4_000_000) == 67_000_000, "the cap is of the whole period"
    await choose(database, tenant_id, False)
    at(5)
    await used(database, tenant_id, 7)
    at(6)
    assert await choose(database, tenant_id, True) is None
    await on_pro(database, tenant_id, plan="business")
    at(7)
    await used(database, tenant_id, 300_000_000 - 66_500_007 + 100)
    at(8)
    assert await owed(database, tenant_id) == (1_500_100, 3_000_150)
    await on_pro(database, tenant_id, status="past_due")
    at(9)
    await used(database, tenant_id, 7)
    at(10)
    assert await owed(database, tenant_id) == (1_500_100, 3_000_150), "nothing more is charged; what was stays"
    await on_pro(database, tenant_id)
    at(11)
    await used(database, tenant_id, 9)
    at(12)
    assert (await owed(database, tenant_id))[0] == 1_500_109, "what was included when it was used stays so"


async def test_choosing_twice_at_once_or_to_and_fro_leaves_no_trace(
    database: Database, tenant_id: UUID, at: Callable[[float], datetime]
) -> None:
    await on_pro(database, tenant_id)
    for opt_in in (True, True, False, True, False, True):
        await choose(database, tenant_id, opt_in)
    async with database.tenant(tenant_id) as session:
        assert len(await pieces(session, tenant_id, first=START, until=at(1))) == 1
        await refresh_allowance(session, tenant_id)
        assert len(await pieces(session, tenant_id, first=START, until=at(2))) == 1


async def test_a_period_that_follows_counts_from_its_own_beginning(
    database: Database, tenant_id: UUID, at: Callable[[float], datetime]
) -> None:
    """Whether or not anybody has said yet that it has begun."""
    await on_pro(database, tenant_id)
    await choose(database, tenant_id, True)
    at(1)
    await used(database, tenant_id, 60_000_005)
    late = at(28 * 24 + 1)
    await used(database, tenant_id, 60_000_001)
    at(28 * 24 + 2)
    following = datetime(2027, 3, 31, 9, tzinfo=UTC)
    for _ in range(2):
        async with database.tenant(tenant_id) as session:
            assert (await so_far(session, tenant_id, period_start=START, at=late)).tokens == 5
        assert (await owed(database, tenant_id))[0] == 1
        await on_plan(database, tenant_id, "pro", period_start=END, period_end=following)
    at(24 * 57)
    async with database.tenant(tenant_id) as session:
        assert {
            piece.agreement.period_start for piece in await pieces(session, tenant_id, first=START, until=clock.now())
        } == {
            START,
            END,
        }


async def test_a_choice_and_a_change_of_plan_at_once_see_each_other(
    database: Database, tenant_id: UUID, at: Callable[[float], datetime]
) -> None:
    await on_pro(database, tenant_id)
    await used(database, tenant_id, 60_000_000)
    at(1)
    for number in range(4):
        await asyncio.gather(
            choose(database, tenant_id, True),
            on_pro(database, tenant_id, plan="business" if number % 2 else "pro"),
        )
        at(2 + number)
        async with database.tenant(tenant_id) as session:
            (*_, last) = await pieces(session, tenant_id, first=START, until=clock.now() + timedelta(minutes=1))
        included = 300_000_000 if number % 2 else 60_000_000
        assert last.agreement.included_tokens == included
        await choose(database, tenant_id, False)


async def test_a_budget_that_is_removed_while_a_plan_begins_leaves_the_plan_bounded(
    database: Database, tenant_id: UUID
) -> None:
    await set_budget(database, tenant_id, Budget(max_tokens=1000))
    begun = asyncio.Event()

    async def plan_begins() -> None:
        async with database.tenant(tenant_id) as session:
            await add_override(
                session, tenant_id, field="included_tokens", value=5, reason="A test.", expires_at=None, by="a test"
            )
            await refresh_allowance(session, tenant_id)
            begun.set()
            await asyncio.sleep(0.15)  # until the other waits for this

    async def budget_goes() -> None:
        await begun.wait()
        async with database.tenant(tenant_id) as session:
            await put_budget(session, system(tenant_id), budget=Budget())

    await asyncio.gather(plan_begins(), budget_goes())
    async with database.tenant(tenant_id) as session:
        counted = text("select count(*) from usage_budgets where tenant_id = :t")
        assert await session.scalar(counted, {"t": tenant_id}) == 1


@pytest.mark.parametrize(
    ("room", "name", "job"), [(report, "roll_up", "roll_up_all"), (quota, "recount", "recount_budgets")]
)
async def test_one_tenant_that_fails_holds_up_nobody(
    database: Database, make_tenant: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    room: Any, name: str, job: str,
) -> None:  # fmt: skip
    tenants = [await make_tenant() for _ in range(2)]
    for tenant_id in tenants:
        await set_budget(database, tenant_id, Budget(max_tokens=1000))
    seen: list[UUID] = []

    async def broken(_session: AsyncSession, tenant_id: UUID) -> int:
        seen.append(tenant_id)
        if tenant_id == min(tenants):
            raise RuntimeError("this tenant's rows are broken")
        return 1

    monkeypatch.setattr(room, name, broken)
    await getattr(room, job)(database)
    assert set(tenants) <= set(seen)
    assert "1 tenants were not" in caplog.text

"""Whether a budget is used up, for what asks models beside conversations."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import update

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import BudgetUsedUp
from stonechat.usage.quota import REFUSAL, Budget, UsageBudgetRow, budget_reached, month_of, require_budget
from support.budgets import set_budget


@pytest.mark.parametrize(
    ("used", "last_month", "reached"),
    [
        ({}, False, False),
        ({"used_tokens": 99, "used_micros": 499}, False, False),
        ({"used_tokens": 100}, False, True),
        ({"used_micros": 500}, False, True),
        ({"used_tokens": 100, "used_micros": 500}, True, False),
    ],
)
async def test_a_budget_is_used_up_by_this_months_use(
    database: Database, tenant_id: UUID, used: dict[str, int], last_month: bool, reached: bool
) -> None:
    async with database.tenant(tenant_id) as session:
        await require_budget(session, tenant_id)  # there is none yet
    await set_budget(database, tenant_id, Budget(max_tokens=100, max_cost_micros=500))
    month = month_of(clock.now())
    changed = {**used, "month": month_of(clock.now().replace(day=1) - timedelta(days=1)) if last_month else month}
    async with database.tenant(tenant_id) as session:
        await session.execute(update(UsageBudgetRow).where(UsageBudgetRow.tenant_id == tenant_id).values(changed))
        assert await budget_reached(session, tenant_id) is reached
        if not reached:
            await require_budget(session, tenant_id)
            return
        with pytest.raises(BudgetUsedUp) as refused:
            await require_budget(session, tenant_id)
    assert refused.value.detail == REFUSAL

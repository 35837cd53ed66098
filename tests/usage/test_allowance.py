"""What a plan includes: periods, soft and hard ends, grace, overage, alerts and projection."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.errors import FeatureNotInPlan, InvalidInput
from stonechat.usage.alerts import alert_tenant, send_alerts
from stonechat.usage.allowance import AllowanceState, Steps, allowance_state, put_overage, put_steps
from stonechat.usage.clockwork import refresh_allowances
from stonechat.usage.ledger import ledger_entry, settle
from stonechat.usage.quota import Budget, budget_reached
from support.allowances import include, on_plan
from support.budgets import set_budget


async def use(
    database: Database, tenant_id: UUID, tokens: int, *, run: str, model: str = "gpt-4.1", **more: Any
) -> None:
    """An answer of so many tokens."""
    async with database.tenant(tenant_id) as session:
        entry = ledger_entry(
            tenant_id, "usr_1", agent_id="agt_1", provider="openai", model=model, input_tokens=tokens, **more
        )
        await settle(session, tenant_id, run_id=run, entries=[entry])


async def state_of(database: Database, tenant_id: UUID) -> AllowanceState:
    async with database.tenant(tenant_id) as session:
        return await allowance_state(session, tenant_id)


async def opt_in(database: Database, tenant_id: UUID, *, cap: int | None) -> AllowanceState:
    async with database.tenant(tenant_id) as session:
        return await put_overage(session, system(tenant_id), opt_in=True, spend_cap_micros=cap)


async def make_old(database: Database, tenant_id: UUID, *, days: int) -> None:
    async with database.tenant(tenant_id) as session:
        await session.execute(
            text("update tenants set created_at = :then"), {"then": clock.now() - timedelta(days=days)}
        )


async def test_a_tenant_without_bounds_is_counted_all_the_same(database: Database, tenant_id: UUID) -> None:
    await use(database, tenant_id, 500, run="run_1")
    state = await state_of(database, tenant_id)
    assert (state.bounded, state.percent, state.over) == (False, 0, None)
    assert (state.used.messages, state.used.tokens) == (1, 500)


async def test_an_answer_of_two_models_is_one_message_and_none_of_ours_is(database: Database, tenant_id: UUID) -> None:
    await include(database, tenant_id, messages=10, tokens=10_000)
    async with database.tenant(tenant_id) as session:
        entries = [
            ledger_entry(tenant_id, "usr_1", agent_id="agt_1", provider=provider, model=model, input_tokens=tokens)
            for provider, model, tokens in (("openai", "a", 5), ("openai", "b", 7), ("built-in", "extractive", 0))
        ]
        await settle(session, tenant_id, run_id="run_1", entries=entries)
        ours = ledger_entry(tenant_id, "usr_1", agent_id="agt_1", provider="built-in", model="extractive")
        await settle(session, tenant_id, run_id="run_2", entries=[ours])
    await use(database, tenant_id, 30, run="run_3", purpose="title")
    counted = await state_of(database, tenant_id)
    assert (counted.used.messages, counted.used.tokens) == (1, 42)
    await refresh_allowances(database)
    assert await state_of(database, tenant_id) == counted, "the ledger says the same"


async def test_a_period_is_the_subscriptions_and_not_the_calendars(
    database: Database, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = datetime(2026, 11, 17, 9, 30, tzinfo=UTC)
    for number, moment in enumerate((start - timedelta(seconds=1), start, start + timedelta(days=8))):
        monkeypatch.setattr(clock, "now", lambda moment=moment: moment)
        await use(database, tenant_id, 100 * (number + 1), run=f"run_{number}")
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(days=10))
    await on_plan(
        database, tenant_id, "starter", period_start=start, period_end=datetime(2026, 12, 17, 9, 30, tzinfo=UTC)
    )
    state = await state_of(database, tenant_id)
    assert (state.period.start, state.used.tokens, state.used.messages) == (start, 500, 2)
    assert state.projected_at_period_end is not None
    assert (state.projected_at_period_end.tokens, state.projected_at_period_end.messages) == (1500, 6)
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(hours=1))
    assert (await state_of(database, tenant_id)).projected_at_period_end is None
    monkeypatch.setattr(clock, "now", lambda: start + timedelta(days=31))
    await refresh_allowances(database)
    following = await state_of(database, tenant_id)
    assert (following.period.start, following.used.tokens) == (datetime(2026, 12, 17, 9, 30, tzinfo=UTC), 0)


@pytest.mark.parametrize(
    ("plan", "status", "days", "grace"),
    [
        ("starter", "active", 10, 0),
        ("starter", "active", 100, 10),
        ("starter", "active", 400, 20),
        ("starter", "trialing", 400, 0),
        ("starter", "past_due", 400, 0),
        ("free", "active", 400, 0),
    ],
)
async def test_who_pays_and_has_been_here_for_long_gets_grace(
    database: Database, tenant_id: UUID, plan: str, status: str, days: int, grace: int
) -> None:
    await make_old(database, tenant_id, days=days)
    await on_plan(database, tenant_id, plan, status=status)
    state = await state_of(database, tenant_id)
    assert state.included.messages is not None
    assert (state.grace_percent, state.hard.messages) == (grace, state.included.messages * (100 + grace) // 100)


async def test_soft_and_hard_ends_differ_by_the_grace(database: Database, tenant_id: UUID) -> None:
    await make_old(database, tenant_id, days=400)
    await on_plan(database, tenant_id, "starter")
    for tokens, over, percent in ((9_999_999, None, 99), (1, "soft", 100), (1_999_999, "soft", 119), (1, "hard", 120)):
        await use(database, tenant_id, tokens, run=f"run_{tokens}_{percent}")
        state = await state_of(database, tenant_id)
        assert (state.over, state.percent) == (over, percent)
        async with database.tenant(tenant_id) as session:
            assert await budget_reached(session, tenant_id) is (over == "hard")


async def test_overage_goes_on_up_to_its_cap(database: Database, tenant_id: UUID) -> None:
    await on_plan(database, tenant_id, "pro")
    assert (await opt_in(database, tenant_id, cap=None)).hard.tokens is None
    state = await opt_in(database, tenant_id, cap=4_000_000)
    assert (state.hard.tokens, state.hard.messages) == (62_000_000, None), "two million tokens for four dollars"
    await use(database, tenant_id, 61_000_000, run="run_1")
    state = await state_of(database, tenant_id)
    assert (state.over, state.overage.tokens, state.overage.cost_micros) == ("soft", 1_000_000, 2_000_000)
    await use(database, tenant_id, 1_000_000, run="run_2")
    assert (await state_of(database, tenant_id)).over == "hard"
    await on_plan(database, tenant_id, "pro", status="past_due")
    state = await state_of(database, tenant_id)
    assert (state.overage.opt_in, state.overage.active, state.hard.tokens) == (True, False, 60_000_000)
    await on_plan(database, tenant_id, "starter")
    state = await state_of(database, tenant_id)
    assert (state.overage.micros_per_1k_tokens, state.overage.active) == (None, False)
    assert state.overage.cost_micros == 4_000_000, "what was charged in this period stays so"


async def test_odd_choices_are_refused_kindly(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(InvalidInput):
            await put_overage(session, system(tenant_id), opt_in=True, spend_cap_micros=-1)
    await on_plan(database, tenant_id, "free")
    async with database.tenant(tenant_id) as session:
        with pytest.raises(FeatureNotInPlan):
            await put_steps(session, system(tenant_id), steps=Steps(steps=("hand_over",)))


async def kinds(database: Database, tenant_id: UUID) -> list[Any]:
    async with database.tenant(tenant_id) as session:
        found = await session.execute(
            text("select payload ->> 'bound', (payload ->> 'percent')::int from events order by event_id")
        )
        return [tuple(row) for row in found]


async def mails(database: Database, tenant_id: UUID) -> list[str]:
    async with database.directory() as session:
        found = await session.scalars(
            text(
                "select convert_from(payload, 'utf8')::jsonb ->> 'subject' from jobs.pgqueuer "
                "where entrypoint = 'mail.send' and headers ->> 'tenant' = :tenant order by id"
            ),
            {"tenant": str(tenant_id)},
        )
        return list(found)


@pytest.fixture
async def owned(database: Database, tenant_id: UUID) -> UUID:
    """A tenant with an owner and an editor."""
    async with database.tenant(tenant_id) as session:
        for person, role in (("owner", "owner"), ("editor", "editor")):
            values = {"tenant": tenant_id, "id": f"per_{person}_{tenant_id.hex}", "role": role}
            await session.execute(
                text("insert into people (person_id, email, name) values (:id, :id || '@example.com', 'Somebody')"),
                values,
            )
            await session.execute(
                text("insert into memberships (tenant_id, person_id, role) values (:tenant, :id, :role)"), values
            )
    return tenant_id


async def test_alerts_come_once_each_a_period(database: Database, owned: UUID) -> None:
    await include(database, owned, tokens=1000)
    await use(database, owned, 499, run="run_1")
    await send_alerts(database, public_url="https://chat.example")
    assert await kinds(database, owned) == []
    await use(database, owned, 1, run="run_2")
    for _ in range(2):
        await send_alerts(database, public_url="https://chat.example")
    assert await kinds(database, owned) == [("plan", 50)]
    await use(database, owned, 600, run="run_3")
    await send_alerts(database, public_url="https://chat.example")
    assert await kinds(database, owned) == [("plan", 50), ("plan", 80), ("plan", 100)]
    subjects = await mails(database, owned)
    assert len(subjects) == 2, "one to the owner for each time, of the highest level"
    assert "has used 50 % of what its plan includes" in subjects[0]
    assert "has used up what its plan includes" in subjects[1]
    assert [alert.percent for alert in (await state_of(database, owned)).alerts] == [50, 80, 100]
    # Where more is included, what is ahead is told again.
    await include(database, owned, tokens=2000)
    assert [alert.percent for alert in (await state_of(database, owned)).alerts] == [50]
    await use(database, owned, 600, run="run_4")
    await send_alerts(database, public_url="https://chat.example")
    assert (await kinds(database, owned))[3:] == [("plan", 80)]


async def test_the_own_budget_alerts_too(database: Database, owned: UUID) -> None:
    await set_budget(database, owned, Budget(max_tokens=1000))
    await use(database, owned, 850, run="run_1")
    await send_alerts(database, public_url="https://chat.example")
    assert await kinds(database, owned) == [("budget", 50), ("budget", 80)]
    assert len(await mails(database, owned)) == 1
    async with database.tenant(owned) as session:
        assert not await alert_tenant(session, owned, bound="budget", public_url="https://chat.example")
        assert not await alert_tenant(session, owned, bound="plan", public_url="https://chat.example")

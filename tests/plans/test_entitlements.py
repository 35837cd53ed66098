"""What a tenant may do follows from its plan, from exceptions, and from whether the plan holds at all."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from stonechat import clock
from stonechat.db.session import Database
from stonechat.errors import FeatureNotInPlan, InvalidInput, NotFound, PlanLimitReached
from stonechat.plans.entitlements import entitlements, require_feature, require_room
from stonechat.plans.overrides import add_override, list_overrides, revoke_override
from stonechat.plans.subscription import (
    SYNC_SLACK,
    Subscription,
    get_subscription,
    set_subscription,
    start_on_default_plan,
    usage_period,
)
from stonechat.plans.terms import BUSINESS, FREE, PRO, STARTER, Feature
from support.plans import OPERATOR, set_platform

DAY = timedelta(days=1)
NOW = clock.now().replace(microsecond=0)


async def test_an_installation_without_plans_bounds_nothing(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        held = await entitlements(session, tenant_id)
        await require_room(session, tenant_id, "agents", used=10_000)
        await require_feature(session, tenant_id, *Feature)
    assert held.plan.key == "self_hosted"
    assert held.is_unbounded
    assert not held.subscription.stored


async def test_a_plan_bounds_what_comes_into_being(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key="starter", provider="manual", status="active")
        await require_room(session, tenant_id, "agents", used=2)
        with pytest.raises(PlanLimitReached, match=r"Starter, includes 3 agents, and there are 3\.") as full:
            await require_room(session, tenant_id, "agents", used=3)
        await require_feature(session, tenant_id, Feature.WEB_SOURCES)
        with pytest.raises(FeatureNotInPlan, match="Tools of MCP servers") as lacking:
            await require_feature(session, tenant_id, Feature.WEB_SOURCES, Feature.MCP_SERVERS)
    assert full.value.members == {"limit": "agents", "included": 3, "used": 3, "plan": "starter"}
    assert lacking.value.members == {"feature": "mcp_servers", "plan": "starter"}


@pytest.mark.parametrize(
    ("changed", "plan"),
    [
        ({"status": "active"}, "pro"),
        ({"status": "trialing", "trial_ends_at": NOW + DAY}, "pro"),
        ({"status": "trialing", "trial_ends_at": NOW - DAY}, "free"),
        ({"status": "trialing", "provider": "none", "trial_ends_at": NOW - SYNC_SLACK / 2}, "free"),
        ({"status": "trialing", "provider": "manual", "trial_ends_at": NOW - SYNC_SLACK / 2}, "pro"),
        ({"status": "trialing", "provider": "stripe", "trial_ends_at": NOW - SYNC_SLACK / 2}, "pro"),
        ({"status": "trialing", "provider": "stripe", "trial_ends_at": NOW - SYNC_SLACK * 2}, "free"),
        ({"status": "past_due"}, "pro"),
        ({"status": "past_due", "grace_until": NOW + DAY}, "pro"),
        ({"status": "past_due", "grace_until": NOW - DAY}, "free"),
        ({"status": "unpaid"}, "free"),
        ({"status": "canceled"}, "free"),
        ({"status": "active", "cancel_at": NOW + DAY}, "pro"),
        ({"status": "active", "cancel_at": NOW - DAY}, "free"),
        ({"status": "active", "pending_plan_key": "starter", "pending_plan_at": NOW + DAY}, "pro"),
        ({"status": "active", "pending_plan_key": "starter", "pending_plan_at": NOW - DAY}, "starter"),
    ],
)
async def test_the_plan_holds_while_it_is_paid(
    database: Database, tenant_id: UUID, changed: dict[str, object], plan: str
) -> None:
    async with database.tenant(tenant_id) as session:
        values = {"plan_key": "pro", "provider": "manual", **changed}
        await set_subscription(session, tenant_id, **values)  # type: ignore[arg-type]
        held = await entitlements(session, tenant_id)
    assert held.plan.key == plan
    assert held.lapsed == (plan == "free")


@pytest.mark.parametrize(
    ("settings", "plan"),
    [
        ({}, "free"),
        ({"default_plan": "pro"}, "free"),
        ({"default_plan": "self_hosted"}, "free"),
        ({"default_plan": "pro", "lapsed_plan": "starter"}, "starter"),
        ({"lapsed_plan": "no_such_plan"}, "free"),
    ],
)
async def test_who_lapsed_falls_back_on_no_more_than_others_have_for_nothing(
    database: Database, tenant_id: UUID, settings: dict[str, str], plan: str
) -> None:
    await set_platform(database, **settings)
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key="business", provider="manual", status="canceled")
        held = await entitlements(session, tenant_id)
    assert (held.plan.key, held.chosen.key) == (plan, "business")


async def test_the_default_plan_is_everybodys_without_one(database: Database, tenant_id: UUID) -> None:
    await set_platform(database, default_plan="free")
    async with database.tenant(tenant_id) as session:
        assert (await entitlements(session, tenant_id)).terms == FREE
        assert (await start_on_default_plan(session, tenant_id)) == FREE
        assert not (await get_subscription(session, tenant_id)).stored


async def test_a_default_plan_with_a_trial_begins_it(database: Database, tenant_id: UUID) -> None:
    await set_platform(database, default_plan="pro")
    async with database.tenant(tenant_id) as session:
        await start_on_default_plan(session, tenant_id)
        now = await entitlements(session, tenant_id)
        later = await entitlements(session, tenant_id, at=clock.now() + (PRO.trial_days + 1) * DAY)
    assert (now.plan.key, now.subscription.status) == ("pro", "trialing")
    assert later.plan.key == "free"


async def test_an_exception_is_laid_over_the_plan_and_explained(database: Database, tenant_id: UUID) -> None:
    until = datetime(2999, 3, 1, tzinfo=UTC)
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key="starter", provider="manual", status="active")
        for field, value in (("agents", 4), ("agents", 7), ("retention_days", None), ("mcp_servers", True)):
            await add_override(
                session, tenant_id, field=field, value=value, reason="They asked.", expires_at=until, by=OPERATOR
            )
        await add_override(
            session, tenant_id, field="dictation", value=False, reason="Abuse.", expires_at=None, by=OPERATOR
        )
        held = await entitlements(session, tenant_id)
        after = await entitlements(session, tenant_id, at=until)
    assert (held.terms.agents, held.terms.retention_days) == (7, None)
    assert held.has(Feature.MCP_SERVERS)
    assert not held.has(Feature.DICTATION)
    assert after.terms == STARTER.model_copy(update={"features": STARTER.features - {Feature.DICTATION}})
    lines = {line.field: line for line in held.explain}
    assert len(lines) == len(held.explain) == 8 + len(Feature)
    assert lines["agents"].in_words == "Starter: 3. Exception until 1 March 2999: 7. Reason: They asked."
    assert (lines["agents"].plan_value, lines["agents"].override_value, lines["agents"].effective) == (3, 7, 7)
    assert lines["mcp_servers"].in_words.startswith("Starter: not included. Exception until 1 March 2999: included.")
    assert lines["seats"].in_words == "Starter: 3."
    assert lines["seats"].override_id is None


async def test_an_exception_that_is_taken_back_holds_no_more(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key="free", provider="manual", status="active")
        made = await add_override(
            session, tenant_id, field="agents", value=None, reason="Why not.", expires_at=None, by=OPERATOR
        )
        assert (await entitlements(session, tenant_id)).terms.agents is None
        first = await revoke_override(session, tenant_id, override_id=made.id)
        assert await revoke_override(session, tenant_id, override_id=made.id) == first
        assert (await entitlements(session, tenant_id)).terms.agents == FREE.agents
        assert await list_overrides(session, tenant_id) == [first]
        with pytest.raises(NotFound):
            await revoke_override(session, tenant_id, override_id="ovr_none")


@pytest.mark.parametrize(
    ("field", "value"),
    [("agents", True), ("agents", "3"), ("agents", -1), ("agents", 10**9), ("mcp_servers", 1), ("price_cents", 0)],
)
async def test_an_exception_that_means_nothing_is_refused(
    database: Database, tenant_id: UUID, field: str, value: object
) -> None:
    async with database.tenant(tenant_id) as session:
        with pytest.raises(InvalidInput):
            await add_override(
                session,
                tenant_id,
                field=field,
                value=value,
                reason="x",
                expires_at=None,
                by=OPERATOR,  # type: ignore[arg-type]
            )


async def test_an_exception_needs_a_reason_and_a_future(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        for reason, expires_at in (("  ", None), ("Late.", clock.now() - DAY)):
            with pytest.raises(InvalidInput):
                await add_override(
                    session, tenant_id, field="agents", value=1, reason=reason, expires_at=expires_at, by=OPERATOR
                )


async def test_replacing_what_a_tenant_is_on_leaves_nothing_of_before(database: Database, tenant_id: UUID) -> None:
    async with database.tenant(tenant_id) as session:
        first = await set_subscription(
            session, tenant_id, plan_key="pro", provider="stripe", status="past_due", grace_until=NOW, cancel_at=NOW
        )
        assert await get_subscription(session, tenant_id) == first
        again = await set_subscription(session, tenant_id, plan_key="pro", provider="stripe", status="active")
        assert (
            await get_subscription(session, tenant_id)
            == again
            == replace(first, status="active", grace_until=None, cancel_at=None)
        )
        with pytest.raises(NotFound):
            await set_subscription(session, tenant_id, plan_key="nothing", provider="none", status="active")


@pytest.mark.parametrize(
    ("start", "end", "at", "expected"),
    [
        (None, None, "2026-02-14", ("2026-02-01", "2026-03-01")),
        ("2026-01-15", "2026-02-15", "2026-02-14", ("2026-01-15", "2026-02-15")),
        ("2026-01-15", "2026-02-15", "2026-01-14", ("2026-01-01", "2026-02-01")),  # before it began
        ("2026-01-15", "2026-02-15", "2026-04-20", ("2026-04-15", "2026-05-15")),  # nothing heard since
        ("2026-01-15", "2026-01-29", "2026-01-20", ("2026-01-15", "2026-01-29")),  # a trial
        ("2026-01-31", "2027-01-31", "2026-02-28", ("2026-02-28", "2026-03-31")),  # a year, in months
        ("2026-01-31", "2027-01-31", "2026-03-30", ("2026-02-28", "2026-03-31")),
        ("2026-01-31", "2027-01-31", "2027-01-30", ("2026-12-31", "2027-01-31")),
    ],
)
def test_use_is_counted_in_months_of_what_is_paid(
    start: str | None, end: str | None, at: str, expected: tuple[str, str]
) -> None:
    def day(text: str | None) -> datetime | None:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None

    subscription = Subscription("pro", 1, "stripe", "active", period_start=day(start), period_end=day(end))
    moment = day(at)
    assert moment is not None
    assert usage_period(subscription, moment) == (day(expected[0]), day(expected[1]))


def test_the_built_in_plans_grow_with_their_price() -> None:
    plans = [FREE, STARTER, PRO, BUSINESS]
    assert [plan.price_cents for plan in plans] == sorted(plan.price_cents for plan in plans)
    for smaller, larger in pairwise(plans):
        assert smaller.features <= larger.features
        for field in ("included_messages", "included_tokens", "agents", "seats", "sources", "retention_days"):
            less, more = getattr(smaller, field), getattr(larger, field)
            assert more is None or (less is not None and less < more)

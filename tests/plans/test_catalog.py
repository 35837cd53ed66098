"""Plans come in versions that never change: who is on one stays on it, and nobody new comes to one that was retired."""

from __future__ import annotations

from uuid import UUID

import pytest
from pydantic import ValidationError
from sqlalchemy.exc import ProgrammingError

from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.plans.catalog import list_plans, plan_terms, publish_plan, retire_plan
from stonechat.plans.entitlements import entitlements
from stonechat.plans.platform_settings import get_setting, list_settings, put_setting
from stonechat.plans.subscription import set_subscription
from stonechat.plans.terms import PRO, PlanTerms
from support.plans import OPERATOR

DEARER = PRO.model_copy(update={"price_cents": 12_900, "agents": 20})
TEAM = PlanTerms(key="team", name="Team", price_cents=5_000, agents=5)


async def publish(database: Database, terms: PlanTerms) -> PlanTerms:
    async with database.platform() as session:
        return await publish_plan(session, terms, by=OPERATOR)


async def retire(database: Database, key: str, version: int | None = None) -> None:
    async with database.platform() as session:
        await retire_plan(session, key, version=version, by=OPERATOR)


async def offered(database: Database) -> dict[str, int]:
    async with database.directory() as session:
        return {plan.key: plan.version for plan in await list_plans(session)}


async def test_plans_are_offered_in_their_newest_version_the_cheapest_first(database: Database) -> None:
    assert await offered(database) == {"free": 1, "self_hosted": 1, "starter": 1, "pro": 1, "business": 1}
    assert (await publish(database, TEAM)).version == 1
    assert (await publish(database, DEARER)).version == 2
    assert list(await offered(database)) == ["free", "self_hosted", "starter", "team", "pro", "business"]
    assert (await offered(database))["pro"] == 2
    async with database.directory() as session:
        assert (await plan_terms(session, "pro")).agents == 20
        assert (await plan_terms(session, "pro", version=1)) == PRO
        for key, version in (("none", None), ("pro", 3)):
            with pytest.raises(NotFound):
                await plan_terms(session, key, version=version)


async def test_the_same_terms_again_are_no_new_version(database: Database) -> None:
    assert (await publish(database, PRO)).version == 1
    assert (await publish(database, DEARER)).version == (await publish(database, DEARER)).version == 2


async def test_who_is_on_a_version_stays_on_it(database: Database, tenant_id: UUID, make_tenant: object) -> None:
    async with database.tenant(tenant_id) as session:
        await set_subscription(session, tenant_id, plan_key="pro", provider="manual", status="active")
    await publish(database, DEARER)
    await retire(database, "pro", 1)
    async with database.tenant(tenant_id) as session:
        assert (await entitlements(session, tenant_id)).terms == PRO
        await set_subscription(session, tenant_id, plan_key="pro", provider="manual", status="active")
        assert (await entitlements(session, tenant_id)).terms == PRO
    assert callable(make_tenant)
    newcomer = await make_tenant()
    async with database.tenant(newcomer) as session:
        await set_subscription(session, newcomer, plan_key="pro", provider="manual", status="active")
        assert (await entitlements(session, newcomer)).terms.price_cents == 12_900


async def test_a_retired_plan_is_offered_to_nobody(database: Database) -> None:
    await publish(database, DEARER)
    await retire(database, "pro", 2)
    assert (await offered(database))["pro"] == 1
    await retire(database, "pro")
    await retire(database, "pro")
    assert "pro" not in await offered(database)
    assert (await publish(database, DEARER)).version == 3
    assert (await offered(database))["pro"] == 3
    with pytest.raises(NotFound):
        await retire(database, "nothing")


async def test_only_the_platform_publishes_and_sets(database: Database) -> None:
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with database.directory() as session:
            await publish_plan(session, TEAM, by=OPERATOR)
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with database.directory() as session:
            await put_setting(session, "default_plan", value="business", by=OPERATOR)


async def test_settings_are_any_json_and_none_takes_them_away(database: Database) -> None:
    async with database.platform() as session:
        for value in ({"a": [1]}, False, "free"):
            await put_setting(session, "default_plan", value=value, by=OPERATOR)
            assert await get_setting(session, "default_plan") == value
        assert await list_settings(session) == {"default_plan": "free"}
        await put_setting(session, "default_plan", value=None, by=OPERATOR)
        assert await get_setting(session, "default_plan") is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "Team"},
        {"name": "a\nb"},
        {"price_cents": -1},
        {"currency": "US"},
        {"retention_days": 0},
        {"overage_micros_per_1k_tokens": 5},
        {"features": ["flying"]},
        {"colour": "red"},
    ],
)
def test_terms_that_mean_nothing_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PlanTerms.model_validate(TEAM.model_dump() | wrong)

"""A new tenant is on the default plan from its first moment, and its use is bounded as soon as the job ran."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import text

from stonechat.accounts.tenants import create_tenant
from stonechat.db.session import Database
from stonechat.plans.entitlements import entitlements
from stonechat.plans.subscription import PLAN_CHANGED
from stonechat.plans.terms import FREE
from stonechat.usage.allowance import allowance_state
from stonechat.usage.allowance_models import UsageAllowanceRow
from stonechat.usage.plan_changes import job_handlers
from support.plans import set_platform


async def test_a_new_tenants_use_is_bounded(database: Database) -> None:
    await set_platform(database, default_plan="free")
    made = await create_tenant(database, name="Newcomers", owner_email=f"{uuid4().hex}@example.com")
    async with database.directory() as session:
        waiting = await session.scalar(
            text("select count(*) from jobs.pgqueuer where headers->>'tenant' = :id and entrypoint = :kind"),
            {"id": str(made.tenant_id), "kind": PLAN_CHANGED},
        )
    assert waiting == 1
    await job_handlers(database)[PLAN_CHANGED](made.tenant_id, {})
    async with database.tenant(made.tenant_id) as session:
        row = await session.get(UsageAllowanceRow, made.tenant_id)
        assert row is not None
        assert (row.included_messages, row.included_tokens) == (FREE.included_messages, FREE.included_tokens)
        assert (await allowance_state(session, made.tenant_id)).included.messages == FREE.included_messages


async def test_a_trial_begins_with_the_tenant(database: Database) -> None:
    await set_platform(database, default_plan="pro")
    made = await create_tenant(database, name="Newcomers", owner_email=f"{uuid4().hex}@example.com")
    async with database.tenant(made.tenant_id) as session:
        held = await entitlements(session, made.tenant_id)
    assert (held.plan.key, held.subscription.status) == ("pro", "trialing")


async def test_without_a_default_plan_nobody_is_put_on_one(database: Database) -> None:
    made = await create_tenant(database, name="Newcomers", owner_email=f"{uuid4().hex}@example.com")
    async with database.tenant(made.tenant_id) as session:
        held = await entitlements(session, made.tenant_id)
    assert held.is_unbounded
    assert not held.subscription.stored

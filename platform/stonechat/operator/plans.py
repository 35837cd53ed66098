"""Plans as operators change them: publish a version, retire a plan, put a tenant on one by hand."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.models import Tenant
from stonechat.billing.invoices import load_invoice
from stonechat.billing.manual import assign_plan, mark_paid
from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.operator.levers import checked_reason
from stonechat.operator.operators import Operator, record
from stonechat.operator.summaries import default_plan
from stonechat.plans.catalog import publish_plan, retire_plan
from stonechat.plans.terms import PlanTerms

_ON_PLANS = text("select plan_key, count(*) from tenant_plans group by plan_key")


async def publish(session: AsyncSession, operator: Operator, terms: PlanTerms) -> PlanTerms:
    """Publish `terms` as the next version of its key. Who is on an earlier one stays there. Raises `Conflict`."""
    published = await publish_plan(session, terms, by=operator.email)
    detail = {"version": published.version, "price_cents": published.price_cents}
    await record(session, operator, "plan.publish", subject_id=published.key, detail=detail)
    return published


async def retire(session: AsyncSession, operator: Operator, *, key: str) -> None:
    """Offer a plan to nobody any more. Raises `NotFound`."""
    await retire_plan(session, key, by=operator.email)
    await record(session, operator, "plan.retire", subject_id=key)


async def count_on_plans(session: AsyncSession) -> dict[str, int]:
    """How many tenants are on each plan, by key; those without a row count for the default one."""
    counted = {key: number for key, number in await session.execute(_ON_PLANS)}  # noqa: C416
    tenants = await session.scalar(select(func.count()).select_from(Tenant)) or 0
    without, key = tenants - sum(counted.values()), await default_plan(session)
    return counted | {key: counted.get(key, 0) + max(without, 0)}


async def put_on_plan(
    platform: AsyncSession,
    operator: Operator,
    tenant_id: UUID,
    *,
    database: Database,
    plan_key: str,
    trial_days: int,
    reason: str,
) -> None:
    """Put a tenant on a plan that is paid by hand. Raises `NotFound`, `InvalidInput`, `Conflict` for one that pays by Stripe."""
    reason = checked_reason(reason)
    async with database.tenant(tenant_id) as session:
        if await session.scalar(select(Tenant.tenant_id).where(Tenant.tenant_id == tenant_id)) is None:
            raise NotFound("There is no such tenant.")
        held = await assign_plan(
            session, operator.actor(tenant_id), plan_key=plan_key, trial_days=trial_days, reason=reason
        )
        detail = {"plan": held.plan_key, "version": held.plan_version, "trial_days": trial_days}
        await record(platform, operator, "plan.assign", tenant_id=tenant_id, reason=reason, detail=detail)


async def pay_invoice(
    platform: AsyncSession,
    operator: Operator,
    tenant_id: UUID,
    *,
    database: Database,
    invoice_id: str,
    public_url: str,
) -> None:
    """Note that an invoice of ours was paid. Raises `NotFound`, `Conflict`."""
    async with database.tenant(tenant_id) as session:
        await load_invoice(session, tenant_id, invoice_id)
        await mark_paid(session, operator.actor(tenant_id), invoice_id=invoice_id, public_url=public_url)
        await record(platform, operator, "invoice.mark_paid", tenant_id=tenant_id, subject_id=invoice_id)

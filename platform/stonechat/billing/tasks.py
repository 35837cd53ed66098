"""Billing's jobs, and what it does by the clock."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import and_, or_, select

from stonechat import clock
from stonechat.billing import dunning, meters, sending, telling, webhooks
from stonechat.billing.manual import CLOSES_WITHIN
from stonechat.billing.models import BillingCustomerRow
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.jobs import GiveUpHook, Handler
from stonechat.plans.models import TenantPlanRow

_log = logging.getLogger(__name__)
SYNC_AFTER = timedelta(minutes=55)
REST_AFTER = timedelta(hours=23)
"""How often a customer without a subscription is looked at."""
TENANTS_AT_ONCE = 500


def job_handlers(database: Database, billing: BillingService) -> dict[str, Handler]:
    """Handlers of `billing.sync` and `billing.locate`, for the worker."""

    async def sync(tenant_id: UUID, _payload: dict[str, Any]) -> None:
        began = clock.now()
        await billing.sync(tenant_id)
        await billing.apply_overage(tenant_id)
        await billing.tell_settlements(tenant_id)
        await webhooks.mark_done(database, tenant_id, before=began)

    async def locate(_tenant_id: UUID, payload: dict[str, Any]) -> None:
        if billing.gateway is not None:
            await webhooks.locate(database, billing.gateway, event_id=payload["event_id"])

    return {webhooks.SYNC_JOB: sync, webhooks.LOCATE_JOB: locate}


def give_up_hooks(database: Database) -> dict[str, GiveUpHook]:
    """What is noted when a job is given up: an operator sees the events as failed, and the hourly look goes on."""

    async def sync_failed(tenant_id: UUID, _payload: dict[str, Any], reason: str) -> None:
        await webhooks.mark_failed(database, tenant_id=tenant_id, reason=reason)

    async def locate_failed(_tenant_id: UUID, payload: dict[str, Any], reason: str) -> None:
        await webhooks.mark_failed(database, event_id=payload["event_id"], reason=reason)

    return {webhooks.SYNC_JOB: sync_failed, webhooks.LOCATE_JOB: locate_failed}


async def tell_use(database: Database, billing: BillingService) -> sending.Round | None:
    """Every five minutes: from the ledger to the outbox, from the outbox to Stripe. None where there is no Stripe."""
    if billing.gateway is None:
        return None
    await meters.meter_all(database)
    done = await sending.send_all(database, billing.gateway)
    for tenant_id in await telling.tenants_with_settlements(database) if not done.is_over else []:
        try:
            await billing.tell_settlements(tenant_id)
        except Exception:
            _log.exception("could not tell Stripe of a settlement", extra={"tenant_id": str(tenant_id)})
    return done


async def tell_late_use(database: Database, billing: BillingService) -> None:
    """Every night: what came into the ledger days late; and what is long over is forgotten."""
    if billing.gateway is not None:
        await meters.meter_all(database, everything=True)
        await webhooks.purge_events(database)


async def look_at_customers(database: Database, billing: BillingService, *, public_url: str) -> int:
    """Every hour: ask for a sync of every customer, for events may be lost; and let the clocks run. Returns how many."""
    customer, plan = BillingCustomerRow, TenantPlanRow
    now = clock.now()
    of_stripe = and_(
        customer.customer_id.is_not(None),
        or_(
            customer.synced_at.is_(None),
            customer.synced_at < now - REST_AFTER,
            and_(customer.subscription_id.is_not(None), customer.synced_at < now - SYNC_AFTER),
        ),
    )
    by_hand = and_(plan.provider == "manual", or_(plan.status != "canceled", plan.cancel_at > now - CLOSES_WITHIN))
    due = of_stripe | by_hand if billing.gateway is not None else by_hand
    asked = 0
    last: UUID | None = None
    while True:
        query = select(customer.tenant_id).outerjoin(plan, plan.tenant_id == customer.tenant_id).where(due)
        async with database.platform() as session:
            later = query if last is None else query.where(customer.tenant_id > last)
            tenants = list(await session.scalars(later.order_by(customer.tenant_id).limit(TENANTS_AT_ONCE)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    await webhooks.request_sync(session, tenant_id)
                asked += 1
            except Exception:
                _log.exception("could not ask for a look at a customer", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < TENANTS_AT_ONCE:
            break
        last = tenants[-1]
    await dunning.run_clocks(database, public_url=public_url)
    return asked

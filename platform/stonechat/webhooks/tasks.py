"""The room's jobs, and what is done by the clock."""

from __future__ import annotations

import logging
from datetime import timedelta

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.models import Tenant
from stonechat.db.session import Database
from stonechat.jobs import Handler
from stonechat.webhooks.delivering import Deliverer
from stonechat.webhooks.fan_out import DELIVER, KEPT_FOR, wake
from stonechat.webhooks.models import WebhookDeliveryRow, WebhookEndpointRow

CONCURRENCY, OF_ONE_TENANT = 16, 2
"""Endpoints that a worker sends to at once, and of how many of those one tenant may be before others go first."""
PAUSED = frozenset({DELIVER})
"""Kinds of jobs that wait while their tenant is suspended."""
OVERDUE = timedelta(seconds=60)
KEPT_WAITING = timedelta(days=90)
"""A suspended tenant's deliveries wait for so long."""
AT_ONCE = 500
BATCH = 1000
MAX_BATCHES = 100
_log = logging.getLogger(__name__)


def job_handlers(deliverer: Deliverer) -> dict[str, Handler]:
    """Handler of `webhooks.deliver`, for a runner of its own: endpoints that hang hold up nothing else."""
    return {DELIVER: deliverer.deliver}


async def wake_overdue(database: Database) -> int:
    """Set the alarm for what is overdue without one: its tenant was suspended, or its job was lost. How many endpoints."""
    row, endpoint = WebhookDeliveryRow, WebhookEndpointRow
    now = clock.now()
    async with database.platform() as session:
        overdue = await session.execute(
            select(row.tenant_id, row.endpoint_id)
            .distinct()
            .join(endpoint, (endpoint.tenant_id == row.tenant_id) & (endpoint.endpoint_id == row.endpoint_id))
            .join(Tenant, Tenant.tenant_id == row.tenant_id)
            .where(row.status == "queued", row.next_attempt_at < now - OVERDUE, Tenant.status == "active")
            .where(endpoint.enabled, endpoint.paused_until.is_(None) | (endpoint.paused_until < now - OVERDUE))
            .limit(AT_ONCE)
        )
        found = overdue.all()
    for tenant_id, endpoint_id in found:
        async with database.tenant(tenant_id) as session:
            await wake(session, tenant_id, endpoint_id=endpoint_id)
    return len(found)


async def purge(database: Database) -> int:
    """Forget deliveries of more than 30 days ago, a batch of a tenant at a time. Returns how many went."""
    row, gone = WebhookDeliveryRow, 0
    now = clock.now()
    over = (row.created_at < now - KEPT_FOR) & ((row.status != "queued") | (row.created_at < now - KEPT_WAITING))
    for _ in range(MAX_BATCHES):
        async with database.platform() as session:
            tenants = set(
                await session.scalars(select(row.tenant_id).where(over).order_by(row.created_at).limit(BATCH))
            )
        for tenant_id in tenants:
            async with database.tenant(tenant_id) as session:
                gone += await _purge_batch(session, (row.tenant_id == tenant_id) & over)
        if not tenants:
            break
    return gone


async def _purge_batch(session: AsyncSession, over: object) -> int:
    row = WebhookDeliveryRow
    some = select(row.delivery_id).where(over).limit(BATCH)  # type: ignore[arg-type]
    deleted = await session.scalars(delete(row).where(over, row.delivery_id.in_(some)).returning(row.delivery_id))  # type: ignore[arg-type]
    return len(deleted.all())

"""Writing down what a tenant is on: one way in for every provider, and everything that follows from a change, once."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, events
from stonechat.accounts.actor import system
from stonechat.accounts.audit import record_audit
from stonechat.plans.subscription import Subscription, get_subscription, set_subscription
from stonechat.usage.allowance import refresh_allowance

SUBSCRIPTION_CHANGED = "subscription.changed"
_TOLD = ("plan_key", "plan_version", "provider", "status", "pending_plan_key", "cancel_at")
"""What is worth a line in the audit log; periods that follow each other are not."""


async def store_subscription(
    session: AsyncSession, tenant_id: UUID, wanted: Subscription, *, since: datetime | None = None
) -> bool:
    """Make the tenant's subscription `wanted`, and its allowance what follows. Returns whether it was another before.

    `since` is the instant of the change, if it is known and just gone.
    """
    before = await get_subscription(session, tenant_id)
    if before == wanted:
        return False
    values = asdict(wanted)
    values.pop("stored")
    await set_subscription(session, tenant_id, **values)
    await refresh_allowance(session, tenant_id, since=since)
    changed = {
        name: [_plain(getattr(before, name)), _plain(getattr(wanted, name))]
        for name in _TOLD
        if getattr(before, name) != getattr(wanted, name)
    }
    if changed:
        await record_audit(session, system(tenant_id), "subscription.change", detail=changed)
        await events.record(session, tenant_id, SUBSCRIPTION_CHANGED, changed)
    return True


def _plain(value: Any) -> Any:
    return clock.rfc3339(value) if hasattr(value, "astimezone") else value

"""Tenants whose plan bounds what they may use."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from stonechat.db.session import Database
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.usage.allowance import refresh_allowance


async def include(
    database: Database, tenant_id: UUID, *, messages: int | None = None, tokens: int | None = None
) -> None:
    """So much is included in a month, by exceptions from the plan."""
    async with database.tenant(tenant_id) as session:
        for field, value in (("included_messages", messages), ("included_tokens", tokens)):
            await add_override(
                session, tenant_id, field=field, value=value, reason="A test.", expires_at=None, by="a test"
            )
        await refresh_allowance(session, tenant_id)


async def on_plan(
    database: Database,
    tenant_id: UUID,
    plan_key: str,
    *,
    status: Any = "active",
    period_start: datetime | None = None,
    period_end: datetime | None = None,
) -> None:
    """The tenant is on this plan, without exceptions."""
    async with database.tenant(tenant_id) as session:
        await session.execute(text("delete from plan_overrides where tenant_id = :tenant"), {"tenant": tenant_id})
        await set_subscription(
            session,
            tenant_id,
            plan_key=plan_key,
            provider="manual",
            status=status,
            period_start=period_start,
            period_end=period_end,
        )
        await refresh_allowance(session, tenant_id)

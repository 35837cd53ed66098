"""Settings of the platform that operators change while it runs: one JSON value under each name."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.plans.models import PlatformSettingRow

DEFAULT_PLAN = "default_plan"
"""Key of the plan that new tenants are on, and all without a subscription; unset: `self_hosted`."""
LAPSED_PLAN = "lapsed_plan"
"""Key of the plan whose terms hold when a subscription has ended or is not paid; unset: the default plan, or `free`."""
BILLING = "billing"
"""`"manual"` or `"none"`; with STRIPE_SECRET_KEY it is Stripe whatever stands here."""


async def get_setting(session: AsyncSession, key: str) -> Any:
    """The value, or None where nothing is set. Any session may read."""
    return await session.scalar(select(PlatformSettingRow.value).where(PlatformSettingRow.key == key))


async def list_settings(session: AsyncSession) -> dict[str, Any]:
    """Everything that is set, by name."""
    row = PlatformSettingRow
    found = await session.execute(select(row.key, row.value).order_by(row.key))
    return {key: value for key, value in found}  # noqa: C416  rows are no pairs to dict()


async def put_setting(session: AsyncSession, key: str, *, value: Any, by: str) -> None:
    """Set it, in a platform session; None takes it away. Who changes, audits."""
    row = PlatformSettingRow
    if value is None:
        await session.execute(delete(row).where(row.key == key))
        return
    statement = insert(row).values(key=key, value=value, updated_at=clock.now(), updated_by=by)
    changed = {name: statement.excluded[name] for name in ("value", "updated_at", "updated_by")}
    await session.execute(statement.on_conflict_do_update(index_elements=[row.key], set_=changed))

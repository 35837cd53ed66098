"""A plan that was changed below this room: what may be used follows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from stonechat.db.session import Database
from stonechat.jobs import Handler
from stonechat.plans.subscription import PLAN_CHANGED
from stonechat.usage.allowance import refresh_allowance


def job_handlers(database: Database) -> dict[str, Handler]:
    """Handler of `plans.changed`, for the worker."""

    async def changed(tenant_id: UUID, _payload: dict[str, Any]) -> None:
        async with database.tenant(tenant_id) as session:
            await refresh_allowance(session, tenant_id)

    return {PLAN_CHANGED: changed}

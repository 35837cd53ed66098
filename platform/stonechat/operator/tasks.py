"""The operators' jobs, and what is done for them by the clock."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select

from stonechat.accounts.models import Tenant
from stonechat.billing.service import BillingService
from stonechat.db.session import Database
from stonechat.jobs import Handler
from stonechat.mail.log import purge_mail_log
from stonechat.operator.levers import SUSPENSION_JOB
from stonechat.operator.sign_in import purge_sessions


def job_handlers(database: Database, billing: BillingService) -> dict[str, Handler]:
    """Handler of `operator.suspension`, for the worker: nothing is collected from a tenant that is suspended."""

    async def suspension(tenant_id: UUID, _payload: dict[str, Any]) -> None:
        async with database.tenant(tenant_id) as session:
            status = await session.scalar(select(Tenant.status).where(Tenant.tenant_id == tenant_id))
        if status is not None:
            await billing.suspended(tenant_id, suspended=status == "suspended")

    return {SUSPENSION_JOB: suspension}


async def purge(database: Database) -> None:
    """Forget sessions that ended, and mails of long ago."""
    await purge_sessions(database)
    await purge_mail_log(database)

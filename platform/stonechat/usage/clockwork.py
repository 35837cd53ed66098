"""What is done about allowances by the clock: plans lapse, trials end and exceptions expire without anybody's doing."""

from __future__ import annotations

import logging
from uuid import UUID

from sqlalchemy import select

from stonechat.accounts.models import Tenant
from stonechat.db.session import Database
from stonechat.usage.allowance import refresh_allowance

AT_ONCE = 1000
_log = logging.getLogger(__name__)


async def refresh_allowances(database: Database) -> int:
    """Refresh every tenant's allowance, each under its own tenant. Returns how many were."""
    done = 0
    last: UUID | None = None
    while True:
        async with database.platform() as session:
            query = select(Tenant.tenant_id).order_by(Tenant.tenant_id).limit(AT_ONCE)
            tenants = list(await session.scalars(query if last is None else query.where(Tenant.tenant_id > last)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    await refresh_allowance(session, tenant_id)
                done += 1
            except Exception:
                _log.exception("could not refresh an allowance", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < AT_ONCE:
            return done
        last = tenants[-1]

"""Processes that die, without a process: what a kill leaves behind."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy import text

from stonechat.chat.hub import RunHub
from stonechat.chat.runs import Run
from stonechat.db.session import Database


async def die(hub: RunHub, run: Run) -> None:
    """No more writing, no goodbye."""
    assert hub._ticker is not None
    hub._ticker.cancel()
    run.finishing = True
    hub._finish = _nothing  # type: ignore[method-assign,assignment]
    assert run.task is not None
    run.task.cancel()
    await asyncio.wait([run.task, hub._ticker])


async def _nothing(_run: Run, _status: str) -> None:
    return None


async def expire(database: Database, tenant_id: UUID) -> None:
    """Let the leases of the tenant's runs be over."""
    async with database.tenant(tenant_id) as session:
        await session.execute(text("update runs set lease_expires_at = now() - interval '1 second'"))

"""Budgets, and what became of them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.usage.quota import Budget, BudgetState, get_budget, put_budget

ROOT = Path(__file__).parents[2]


async def set_budget(database: Database, tenant_id: UUID, budget: Budget) -> BudgetState:
    async with database.tenant(tenant_id) as session:
        return await put_budget(session, system(tenant_id), budget=budget)


async def budget_of(database: Database, tenant_id: UUID) -> BudgetState:
    async with database.tenant(tenant_id) as session:
        return await get_budget(session, system(tenant_id))


async def publish_model(database: Database, tenant_id: UUID, *, agent_id: str, model: str) -> None:
    """Version 2 of an agent, which asks this model."""
    async with database.tenant(tenant_id) as session:
        values = {"tenant": tenant_id, "agent": agent_id, "model": model}
        await session.execute(
            text(
                "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                "select tenant_id, agent_id, 2, config || jsonb_build_object('model', cast(:model as text)), 'test' "
                "from agent_versions where tenant_id = :tenant and agent_id = :agent"
            ),
            values,
        )
        await session.execute(
            text("update agents set published_version = 2 where tenant_id = :tenant and agent_id = :agent"), values
        )


async def expire_leases(database: Database, tenant_id: UUID) -> None:
    """What time does to the runs of a dead process."""
    async with database.tenant(tenant_id) as session:
        await session.execute(text("update runs set lease_expires_at = now() - interval '1 second'"))


async def entries_by_run(database: Database, tenant_id: UUID) -> dict[str, list[tuple[int, int, bool]]]:
    """Run id → its ledger entries (tokens in, tokens out, estimated); runs without any are there, too."""
    async with database.tenant(tenant_id) as session:
        rows = await session.execute(
            text(
                "select r.run_id, l.input_tokens, l.output_tokens, l.estimated from runs r "
                "left join usage_ledger l on l.tenant_id = r.tenant_id and l.run_id = r.run_id "
                "where r.tenant_id = :tenant"
            ),
            {"tenant": tenant_id},
        )
        found: dict[str, list[tuple[int, int, bool]]] = {}
        for run_id, taken, given, estimated in rows:
            entries = found.setdefault(run_id, [])
            if taken is not None:
                entries.append((taken, given, estimated))
    return found


async def ledger_total(database: Database, tenant_id: UUID) -> int:
    async with database.tenant(tenant_id) as session:
        total = text("select coalesce(sum(input_tokens + output_tokens), 0) from usage_ledger")
        return int(await session.scalar(total))


@asynccontextmanager
async def ledger_child(
    url: str, tenant_id: UUID, *, agent_id: str, mode: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`ledger_child.py` as a process, killed at the end if it is still there."""
    paths = os.pathsep.join([str(ROOT / "platform"), str(ROOT / "tests")])
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.ledger_child",
        url,
        str(tenant_id),
        agent_id,
        mode,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": paths},
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()

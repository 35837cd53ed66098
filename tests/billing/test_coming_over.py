"""Installations that told Stripe of all use: who paid for overage does so since its period began."""

from __future__ import annotations

import importlib.util
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from stonechat.accounts.actor import system
from stonechat.db.session import Database
from stonechat.db.tenancy import OWNER
from stonechat.plans.subscription import set_subscription
from stonechat.usage.allowance import allowance_state, put_overage, refresh_allowance
from support.billing import START, held_clock, paying_tenant, use
from support.postgres import migrated_database

MIGRATION = Path(__file__).parents[2] / "migrations" / "versions" / "0027_overage_beyond.py"


class Collected:
    """Alembic's `op`, as far as a backfill needs it."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def execute(self, sqltext: str) -> None:
        self.statements.append(sqltext)


def backfill() -> list[str]:
    spec = importlib.util.spec_from_file_location("overage_beyond", MIGRATION)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    collected = Collected()
    module.backfill(collected)
    return collected.statements


async def test_who_paid_for_overage_goes_on_to_and_nobody_else_begins_to(postgres_admin_url: str) -> None:
    async with migrated_database(postgres_admin_url, f"stonechat_coming_over_{os.getpid()}") as made:
        database = Database(made.web_url, pool_size=2)
        with held_clock() as hands:
            pays, does_not = await paying_tenant(database), await paying_tenant(database)
            for tenant_id in (pays, does_not):
                async with database.tenant(tenant_id) as session:
                    await set_subscription(
                        session, tenant_id, plan_key="pro", provider="stripe", status="active",
                        period_start=START, period_end=START + timedelta(days=31),
                    )  # fmt: skip
                    await put_overage(session, system(tenant_id), opt_in=tenant_id == pays, spend_cap_micros=None)
            hands.move(days=3)
            await use(database, pays, tokens=60_000_009)
            hands.move(hours=1)
            connection = await asyncpg.connect(made.admin_url)
            await connection.execute("truncate usage_overage")  # as the version before left it
            async with connection.transaction():
                await connection.execute(f"set local role {OWNER}")
                for statement in backfill():
                    await connection.execute(statement)
            rows = await connection.fetch(
                "select tenant_id, since, until, provider, included_tokens from usage_overage"
            )
            await connection.close()
            assert [tuple(row) for row in rows] == [(pays, START, None, "stripe", 60_000_000)]
            async with database.tenant(pays) as session:
                await refresh_allowance(session, pays)
                assert (await allowance_state(session, pays)).overage.tokens == 9
        await database.close()

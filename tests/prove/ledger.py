"""Kill a process that answers eight visitors, again and again, at random: the ledger loses and doubles no turn.

    make prove-ledger ARGS="--kills 200"

Needs a Postgres that may be used for it: STONECHAT_TEST_DATABASE_URL, or the embedded one. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from sqlalchemy import text

from stonechat import ids
from stonechat.chat.sweeper import sweep_crashed_runs
from stonechat.db.session import Database
from stonechat.usage.quota import Budget

CONFIG = '{"name": "Test", "model": "openai/gpt-4.1-mini", "instructions": "Answer."}'
AT_ONCE = 2
"""Processes."""


async def prove(kills: int, seed: int) -> dict[str, object]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from support.budgets import budget_of, entries_by_run, expire_leases, ledger_child, ledger_total, set_budget
    from support.postgres import admin_server, migrated_database

    chance = random.Random(seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            admin_server(Path(folder)) as admin,
            migrated_database(admin, f"stonechat_prove_ledger_{seed}") as test_database,
        ):
            database = Database(test_database.web_url)
            tenant_id, agent_id = ids.new_tenant_id(), ids.new_id("agt")
            values = {"tenant": tenant_id, "agent": agent_id, "config": CONFIG}
            async with database.tenant(tenant_id) as session:
                for statement in (
                    "insert into tenants (tenant_id, name) values (:tenant, 'Prove')",
                    "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                    "values (:tenant, :agent, 'Test', cast(:config as jsonb), 1)",
                    "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                    "values (:tenant, :agent, 1, cast(:config as jsonb), 'prove')",
                ):
                    await session.execute(text(statement), values)
            await set_budget(database, tenant_id, Budget(max_tokens=10**12))
            left = kills

            async def killer() -> None:
                nonlocal left
                while left > 0:
                    left -= 1
                    async with ledger_child(test_database.web_url, tenant_id, agent_id=agent_id, mode="crowd") as child:
                        assert child.stdout is not None
                        await asyncio.wait_for(child.stdout.readline(), 60)
                        await asyncio.sleep(chance.random() * 1.0)
                        child.kill()

            await asyncio.gather(*(killer() for _ in range(AT_ONCE)))
            await asyncio.sleep(1)  # what was already sent to the database goes on there
            await expire_leases(database, tenant_id)
            crashed = 0
            while closed := await sweep_crashed_runs(database):
                crashed += closed
            entries = await entries_by_run(database, tenant_id)
            state = await budget_of(database, tenant_id)
            found: dict[str, object] = {
                "kills": kills,
                "turns": len(entries),
                "crashed": crashed,
                "lost": sum(not each for each in entries.values()),
                "doubled": sum(len(each) > 1 for each in entries.values()),
                "reserved_tokens": state.reserved_tokens,
                "budget_differs_by": state.used_tokens - await ledger_total(database, tenant_id),
                "seconds": round(time.monotonic() - began, 1),
            }
            await database.close()
            return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.getLogger("stonechat").setLevel(logging.ERROR)  # every run that died would say so
    found = asyncio.run(prove(asked.kills, asked.seed))
    print(json.dumps(found))
    return any(found[name] for name in ("lost", "doubled", "reserved_tokens", "budget_differs_by"))


if __name__ == "__main__":
    sys.exit(main())

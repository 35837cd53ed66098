"""Kill processes that tell Stripe of overage, again and again, at random: no token is lost, none told twice.

    make prove-billing ARGS="--kills 100"

Two processes at a time write to the ledger, fill the outbox and send it to Stripe's double, which is served on the loopback
and loses a twentieth of its answers on the way back. Needs a Postgres that may be used for it: STONECHAT_TEST_DATABASE_URL,
or the embedded one. Prints a line of JSON. At most 100 kills: they live within one month of their own time, of which the plan
includes some tokens; all beyond these are told and invoiced.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

from stonechat import clock

TESTS = Path(__file__).parents[1]
AT_ONCE = 2
"""Processes."""
INCLUDED = 100_000


async def prove(kills: int, seed: int) -> dict[str, object]:
    sys.path.insert(0, str(TESTS))
    from stonechat.billing.customers import register_customer
    from stonechat.billing.gateway import METER_EVENT, StripeGateway
    from stonechat.billing.meters import meter_tenant
    from stonechat.billing.sending import send_waiting
    from stonechat.db.session import Database
    from support.billing import SECRET, ledger_tokens, outbox, paying_tenant, pays_for_all
    from support.billing_child import fast_clock
    from support.postgres import admin_server, migrated_database
    from support.stripe_double import StripeDouble

    chance, began = random.Random(seed), time.time()
    shift = timedelta(0)

    def now() -> datetime:
        return fast_clock(began) + shift

    clock.now = now
    with tempfile.TemporaryDirectory() as folder:
        async with (
            admin_server(Path(folder)) as admin,
            migrated_database(admin, f"stonechat_prove_billing_{seed}") as test_database,
        ):
            database = Database(test_database.web_url)
            double = StripeDouble(webhook_secret=SECRET, clock=now, seed=seed)
            with double.served() as stripe:
                gateway = StripeGateway("sk_test_1", base_url=stripe, retries=0)
                await gateway.ensure_meter()
                tenant_id = await paying_tenant(database)
                customer_id = await gateway.create_customer(tenant_id, name="Acme", email=None)
                async with database.tenant(tenant_id) as session:
                    await register_customer(session, tenant_id, customer_id)
                month = {"period_start": now(), "period_end": now() + timedelta(days=31)}
                await pays_for_all(database, tenant_id, **month, included=INCLUDED)
                left, lost_answers = kills, 0

                async def killer() -> None:
                    nonlocal left, lost_answers
                    while left > 0:
                        left -= 1
                        child = await asyncio.create_subprocess_exec(
                            sys.executable, "-m", "support.billing_child",
                            test_database.web_url, stripe, str(tenant_id), str(began),
                            cwd=TESTS, stdout=asyncio.subprocess.PIPE,
                            env=os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{TESTS.parent / 'platform'}"},
                        )  # fmt: skip
                        assert child.stdout is not None
                        await asyncio.wait_for(child.stdout.readline(), 60)
                        if chance.random() < 0.3:
                            double.outage("lost", times=1, paths="/v1/billing/meter_events")
                            lost_answers += 1
                        await asyncio.sleep(chance.random() * 1.5)
                        child.send_signal(signal.SIGKILL)
                        await child.wait()

                await asyncio.gather(*(killer() for _ in range(AT_ONCE)))
                double.outage(None)
                await asyncio.sleep(0.5)  # what was already sent to the database goes on there
                for _ in range(4):
                    shift += timedelta(hours=2)
                    async with database.tenant(tenant_id) as session:
                        await meter_tenant(session, tenant_id, everything=True)
                    await send_waiting(database, gateway, tenant_id)
                ledger, rows = await ledger_tokens(database, tenant_id), await outbox(database, tenant_id)
                told = double.meter_total(customer_id, METER_EVENT, 0, 2**40)
                beyond = max(0, ledger - INCLUDED)
                await gateway.aclose()
            await database.close()
            return {
                "kills": kills,
                "tokens": ledger,
                "beyond": beyond,
                "rows": len(rows),
                "sent_more_than_once": sum(row.attempts > 1 for row in rows),
                "answers_lost": lost_answers,
                "states": dict(Counter(row.state for row in rows)),
                "outbox_differs_by": sum(row.tokens for row in rows) - beyond,
                "stripe_differs_by": told - beyond,
                "seconds": round(time.time() - began, 1),
            }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.getLogger("stonechat").setLevel(logging.ERROR)
    found = asyncio.run(prove(asked.kills, asked.seed))
    print(json.dumps(found))
    return int(bool(found["outbox_differs_by"] or found["stripe_differs_by"] or found["states"].keys() != {"sent"}))  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())

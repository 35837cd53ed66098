"""A process that tells Stripe of use and is killed at it: `python -m support.billing_child URL STRIPE TENANT CUSTOMER`.

It writes to the ledger, brings the outbox up to it and sends it, again and again, as fast as it can; every entry that was
committed is said on standard output, a line of tokens each. Time runs some thousand times as fast for it, so that hours end.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from stonechat import clock
from stonechat.billing.gateway import StripeGateway
from stonechat.billing.meters import meter_tenant
from stonechat.billing.sending import send_waiting
from stonechat.db.session import Database
from support.billing import use

SPEED = 7200.0


def fast_clock(began: float) -> datetime:
    """Now, where a second is two hours; `began` is the same for every process."""
    return datetime.fromtimestamp(began, UTC) + timedelta(seconds=(time.time() - began) * SPEED)


async def main(url: str, stripe: str, tenant: str, began: str) -> None:
    clock.now = lambda: fast_clock(float(began))
    database, tenant_id = Database(url, pool_size=4), UUID(tenant)
    gateway = StripeGateway("sk_test_1", base_url=stripe, timeout=2.0, retries=0)

    async def visitors() -> None:
        while True:
            await use(database, tenant_id, tokens=random.randint(1, 1000))
            print("used", flush=True)

    async def worker() -> None:
        while True:
            async with database.tenant(tenant_id) as session:
                await meter_tenant(session, tenant_id)
            await send_waiting(database, gateway, tenant_id)

    await asyncio.gather(visitors(), worker(), worker())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))

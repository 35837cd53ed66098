"""10,000 events of Stripe's over 200 customers, shuffled, repeated, late and a tenth lost: is our copy right afterwards?"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import logging
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from stonechat.db.session import Database
from support.billing import held_clock
from support.billing_replay import Counted, Replay
from support.postgres import admin_server, migrated_database
from support.stripe_gateway import stripe_in_process


async def prove(*, customers: int, events: int, seed: int) -> Counted:
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        admin_url = await stack.enter_async_context(admin_server(Path(folder)))
        addresses = await stack.enter_async_context(migrated_database(admin_url, "stonechat_prove_billing_replay"))
        database = Database(addresses.web_url, pool_size=10)
        stack.push_async_callback(database.close)
        hands = stack.enter_context(held_clock())
        stripe = await stack.enter_async_context(stripe_in_process(clock=hands.now))
        replay = Replay(database, addresses.admin_url, stripe, hands, seed=seed)
        return await replay.run(customers=customers, events=events)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=200)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    logging.getLogger("stonechat").setLevel(
        logging.ERROR
    )  # every subscription that Stripe refused to change would say so
    found = asyncio.run(prove(customers=asked.customers, events=asked.events, seed=asked.seed))
    print(json.dumps(dataclasses.asdict(found)))
    return bool(found.wrong or found.doubled)


if __name__ == "__main__":
    sys.exit(main())

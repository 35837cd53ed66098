"""Webhooks that are shuffled, repeated, late and lost: our copy is Stripe's all the same."""

from __future__ import annotations

from stonechat.db.session import Database
from support.billing import held_clock
from support.billing_replay import Replay
from support.postgres import TestDatabase
from support.stripe_gateway import stripe_in_process


async def test_whatever_becomes_of_webhooks_every_state_is_right_and_every_effect_once(
    database: Database, test_database: TestDatabase
) -> None:
    with held_clock() as hands:
        async with stripe_in_process(clock=hands.now) as stripe:
            replay = Replay(database, test_database.admin_url, stripe, hands, seed=7)
            counted = await replay.run(customers=20, events=500)
    assert counted.events >= 500
    assert counted.lost >= 25
    assert counted.attempts > counted.taken_in, "some came twice"
    assert counted.wrong == []
    assert counted.doubled == []

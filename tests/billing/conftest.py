"""A clock held by the hands, and a tenant that buys at the double of Stripe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from stonechat.db.session import Database
from support.billing import Hands, held_clock
from support.stripe_gateway import stripe_in_process
from support.stripe_shop import Shop


@pytest.fixture
def hands() -> Iterator[Hands]:
    with held_clock() as hands:
        yield hands


@pytest.fixture
async def shop(database: Database, hands: Hands) -> AsyncIterator[Shop]:
    async with stripe_in_process(clock=hands.now) as stripe:
        yield await Shop(database, stripe, hands).open()

"""The gateway, and Stripe's double behind it in the same process: no socket, and a process that can die in between."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from stonechat.billing.gateway import METER_EVENT, StripeGateway
from support.billing import SECRET, connect
from support.crashes import PATIENCE_SECONDS, SHORT_PATIENCE_SECONDS, MortalTransport, Process
from support.stripe_double import Mode, StripeDouble

_seeds = itertools.count(1000)


@dataclass
class StripeInProcess:
    """Stripe, our gateway to it, and the process that the gateway runs in."""

    double: StripeDouble
    gateway: StripeGateway
    process: Process
    transport: MortalTransport

    @property
    def client(self) -> Any:
        """Stripe's own client: what somebody does at Stripe's pages."""
        return self.gateway._client

    def told(self, customer_id: str, *, start: datetime | None = None, end: datetime | None = None) -> int:
        """Tokens that Stripe counts for the customer in [start, end)."""
        first, last = start or datetime(2020, 1, 1, tzinfo=UTC), end or datetime(2100, 1, 1, tzinfo=UTC)
        return int(self.double.meter_total(customer_id, METER_EVENT, first, last))

    def outage(self, mode: Mode | None) -> None:
        """As `StripeDouble.outage`; what is `slow` answers later than the gateway waits."""
        self.transport.patience = SHORT_PATIENCE_SECONDS if mode == "slow" else PATIENCE_SECONDS
        self.double.outage(mode, seconds=SHORT_PATIENCE_SECONDS * 2)


@asynccontextmanager
async def stripe_in_process(*, clock: Callable[[], datetime]) -> AsyncIterator[StripeInProcess]:
    """A double of its own, and a gateway that does not try again by itself."""
    # Ids of its own: the tests share a database.
    double = StripeDouble(webhook_secret=SECRET, clock=clock, seed=next(_seeds))
    process = Process()
    gateway = StripeGateway("sk_test_123", base_url="http://stripe.test", timeout=1.0, retries=0)
    transport = MortalTransport(httpx.ASGITransport(app=double.app), process)
    await connect(gateway, transport)
    try:
        yield StripeInProcess(double, gateway, process, transport)
    finally:
        await gateway.aclose()

"""A double of Stripe: its API at the version that the installed client pins, its pages, its webhooks, its clocks.

The real client reaches it by `STRIPE_API_BASE`: `with double.served() as url:` runs it on the loopback, and `double.app` is
the ASGI application for clients in the same process. It holds what it is told in memory and forgets it with the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import httpx

from support.stripe_double import (  # noqa: F401 - each registers its routes
    catalog,
    checkout,
    clocks,
    coupons,
    customers,
    event_routes,
    invoice_routes,
    item_routes,
    meters,
    pauses,
    portal,
    schedules,
    subscription_changes,
    subscriptions,
)
from support.stripe_double.account import API_VERSION, Account
from support.stripe_double.delivery import Delivered, Delivery, Destination, Send, deliver, posting, signature
from support.stripe_double.server import Api, Outage, Seen, Served

__all__ = ["API_VERSION", "Delivered", "Delivery", "StripeDouble", "signature"]

Json = dict[str, Any]
Mode = Literal["unreachable", "slow", "429", "500", "lost"]


def _now() -> datetime:
    return datetime.now(UTC)


class StripeDouble:
    """One account of Stripe's, with the levers that a test pulls."""

    def __init__(
        self, *, webhook_secret: str, clock: Callable[[], datetime] = _now, seed: int = 0,
        payloads: tuple[Literal["snapshot", "thin"], ...] = ("snapshot",), api_key: str | None = None,
    ) -> None:  # fmt: skip
        """`clock` is the time of all that has no test clock; `payloads` says how events are queued for `deliver`."""
        self.account = Account(webhook_secret=webhook_secret, clock=clock, seed=seed)
        self.app = Api(self.account, api_key=api_key)
        self.account.destinations += [
            Destination(f"queue_{payload}", payload, webhook_secret, clock=lambda: clock().timestamp())
            for payload in payloads
        ]

    @property
    def base_url(self) -> str:
        return self.account.base_url

    @property
    def requests(self) -> list[Seen]:
        """What was asked so far, answers' statuses included."""
        return self.app.requests

    @contextmanager
    def served(self) -> Iterator[str]:
        """Serve on the loopback; the value for `STRIPE_API_BASE`."""
        served = Served(self.app)
        served.start()
        try:
            yield served.url
        finally:
            served.stop()

    # Levers

    def advance(self, test_clock_id: str, to: datetime | int) -> None:
        """Move a test clock, with all that falls due on the way."""
        with self.app.lock:
            clocks.advance(self.account, test_clock_id, to if isinstance(to, int) else int(to.timestamp()))

    def tick(self) -> None:
        """Let the time of `clock` have its effects on what has no test clock."""
        with self.app.lock:
            self.app.tick()

    def outage(
        self,
        mode: Mode | None,
        *,
        seconds: float = 0.5,
        retry_after: int = 1,
        times: int | None = None,
        paths: str = "/",
    ) -> None:
        """Misbehave, for the next `times` requests to `paths` or until `None` is passed.

        `unreachable` refuses connections; `slow` answers after `seconds`; `lost` does the work and hangs up;
        `429` says when to come again; `500` does nothing. None of these answers is kept under an idempotency key.
        """
        self.app.outage = None if mode is None else Outage(mode, seconds, retry_after, times, paths)

    def decline(self, customer_id: str, reason: str | None = "generic_decline") -> None:
        """Decline every charge of a customer's, whatever the card; None to let them through again."""
        if reason is None:
            self.account.declining.pop(customer_id, None)
        else:
            self.account.declining[customer_id] = reason

    def dunning(self, *, retry_days: tuple[int, ...], then: Literal["canceled", "unpaid", "past_due"]) -> None:
        """How often a failed renewal is tried again, each so many days after the last, and what becomes of it then."""
        self.account.retry_days, self.account.after_last_retry = retry_days, then

    # What it knows

    def meter_total(self, customer_id: str, meter: str, start: datetime | int, end: datetime | int) -> int:
        """What a meter (its event name or id) counted for a customer in [start, end)."""
        found = next(
            (row["id"] for row in self.account.rows("billing.meter") if meter in (row["id"], row["event_name"])), None
        )
        if found is None:
            return 0
        first, last = (moment if isinstance(moment, int) else int(moment.timestamp()) for moment in (start, end))
        return meters.total(self.account, found, customer_id, first, last)

    def invoices(self, customer_id: str) -> list[Json]:
        """A customer's invoices, oldest first."""
        return [row for row in self.account.rows("invoice") if row["customer"] == customer_id]

    def subscriptions(self, customer_id: str) -> list[Json]:
        """A customer's subscriptions, oldest first."""
        return [row for row in self.account.rows("subscription") if row["customer"] == customer_id]

    def tokens_invoiced(self, customer_id: str, meter: str) -> int:
        """Units of a meter on all of a customer's invoices that are not void."""
        wanted = {row["id"] for row in self.account.rows("billing.meter") if meter in (row["id"], row["event_name"])}
        total = 0
        for invoice in self.invoices(customer_id):
            for line in invoice["lines"]["data"] if invoice["status"] != "void" else []:
                price = self.account.objects.get(((line["pricing"] or {}).get("price_details") or {}).get("price", ""))
                if price is not None and price["recurring"] and price["recurring"]["meter"] in wanted:
                    total += line["quantity"]
        return total

    # People at its pages

    def pay(self, session_url: str, *, number: str = "4242424242424242", **form: str) -> Json:
        """What a customer does on Checkout's page, without a browser. Raises `Refused` for a decline."""
        session = self.account.find("checkout.session", session_url.rpartition("/")[2])
        with self.app.lock:
            return checkout.complete(self.account, session, card_number=number, **form)

    def press(self, session_url: str, **form: str) -> str:
        """A button of the portal's page, without a browser: `action` is card, cancel, resume, switch or pay."""
        session = self.account.find("billing_portal.session", session_url.rpartition("/")[2])
        with self.app.lock:
            return portal.press(self.account, session, form)

    # Webhooks

    async def deliver(
        self,
        to: str | Send,
        *,
        duplicate: float = 0.0,
        reorder: bool = False,
        delay: float = 0.0,
        drop: float = 0.0,
        seed: int = 0,
    ) -> Delivered:
        """Send what is queued to an address, or to a function that answers with a status.

        Shares are of deliveries: sent twice, held back for the next round, lost for good. What is not answered with 2xx
        stays queued, too.
        """
        how = {"duplicate": duplicate, "reorder": reorder, "delay": delay, "drop": drop, "seed": seed}
        if not isinstance(to, str):
            return await deliver(self.account.outgoing, to, **how)  # type: ignore[arg-type]
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            return await deliver(self.account.outgoing, posting(client, to), **how)  # type: ignore[arg-type]

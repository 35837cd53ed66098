"""The state behind the API: objects, the clocks they live by, and the events that their changes cause."""

from __future__ import annotations

import random
import string
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from stripe._api_version import _ApiVersion

from support.stripe_double.delivery import Delivery, Destination, body_of
from support.stripe_double.refusals import missing
from support.stripe_double.shapes import filled, known_fields
from support.stripe_double.wire import rendered

Json = dict[str, Any]
API_VERSION = _ApiVersion.CURRENT
ALPHABET = string.ascii_letters + string.digits
MAX_EVENTS = 200_000


class Account:
    """One Stripe account. Every object is a JSON dict; fields that begin with an underscore are never sent."""

    def __init__(self, *, webhook_secret: str, clock: Callable[[], datetime], seed: int = 0) -> None:
        self.clock = clock
        self.random = random.Random(seed)
        self.base_url = "http://stripe.invalid"
        self.objects: dict[str, Json] = {}
        self.tables: dict[str, dict[str, Json]] = {}
        self.events: dict[str, Json] = {}
        self.thin_events: dict[str, Json] = {}
        self.outgoing: deque[Delivery] = deque()
        self.destinations: list[Destination] = []
        self.webhook_secret = webhook_secret
        self.declining: dict[str, str] = {}
        self.retry_days: tuple[int, ...] = (3, 5, 7)
        self.after_last_retry = "canceled"
        self.tax_percent = {"DE": 19.0, "FR": 20.0, "GB": 20.0, "NL": 21.0, "AU": 10.0}
        self.unfinished: dict[str, Json] = {}
        """Invoices that will finalise or be charged again by themselves."""
        self.seen_meter_events: dict[str, int] = {}
        self.meter_sessions: dict[str, int] = {}
        self.stream_errors: list[Json] = []
        self.request: Json = {"id": None, "idempotency_key": None}
        self._past: int | None = None
        self._last_sent: dict[str, Json] = {}

    # Time

    def wall(self) -> int:
        """The time outside every test clock, in seconds."""
        return self._past if self._past is not None else int(self.clock().timestamp())

    def now(self, clock_id: str | None = None) -> int:
        """The time that objects of a test clock live in, or that of everything else."""
        return int(self.objects[clock_id]["frozen_time"]) if clock_id else self.wall()

    def at(self, clock_id: str | None, moment: int | None) -> None:
        """Set the time of a test clock; without one, pretend that it is `moment` outside (None: the real time again)."""
        if clock_id and moment is not None:
            self.objects[clock_id]["frozen_time"] = moment
        elif not clock_id:
            self._past = moment

    def clock_of(self, customer_id: str | None) -> str | None:
        return self.objects[customer_id].get("test_clock") if customer_id in self.objects else None

    def now_of(self, customer_id: str | None) -> int:
        return self.now(self.clock_of(customer_id))

    # Objects

    def new_id(self, prefix: str, length: int = 24) -> str:
        return f"{prefix}_{''.join(self.random.choices(ALPHABET, k=length))}"

    def put(self, values: Json) -> Json:
        """Keep an object, with every field of its kind that was not given as null."""
        values = filled(({"livemode": False} if "livemode" in known_fields(values["object"]) else {}) | values)
        self.objects[values["id"]] = values
        self.tables.setdefault(values["object"], {})[values["id"]] = values
        return values

    def drop(self, kind: str, object_id: str) -> Json:
        self.tables[kind].pop(object_id)
        self.objects.pop(object_id)
        return {"id": object_id, "object": kind, "deleted": True}

    def rows(self, kind: str) -> Iterable[Json]:
        return self.tables.get(kind, {}).values()

    def find(self, kind: str, object_id: str, *, param: str = "id", status: int = 404) -> Json:
        found = self.tables.get(kind, {}).get(object_id)
        if found is None:
            raise missing(kind.rpartition(".")[2].replace("_", " "), object_id, param=param, status=status)
        return found

    def named(self, kind: str, object_id: str, param: str) -> Json:
        """An object that a parameter names: refused with 400 where it does not exist."""
        return self.find(kind, object_id, param=param, status=400)

    # Events

    def emit(self, kind: str, subject: Json) -> None:
        """Record what happened, as a snapshot and as a thin event, and queue it for every destination that wants it."""
        snapshot = rendered(self, subject)
        before = self._last_sent.get(subject["id"], {})
        changed = {key: before[key] for key in before if key in snapshot and before[key] != snapshot[key]}
        if kind.endswith(".updated") and before and not changed:
            return
        self._last_sent[subject["id"]] = snapshot
        clock_id = subject["id"] if subject["object"] == "test_helpers.test_clock" else subject.get("test_clock")
        moment = self.now(clock_id or self.clock_of(subject.get("customer")))
        data: Json = {"object": snapshot} | ({"previous_attributes": changed} if kind.endswith(".updated") else {})
        event = filled(
            {
                "id": self.new_id("evt"),
                "object": "event",
                "api_version": API_VERSION,
                "created": moment,
                "data": data,
                "livemode": False,
                "pending_webhooks": len(self.destinations),
                "request": dict(self.request),
                "type": kind,
            }
        )
        assert len(self.events) < MAX_EVENTS, "the double keeps no more events"
        self.events[event["id"]] = event
        thin = self._thin(event, subject, moment)
        for destination in self.destinations:
            if destination.wants(kind):
                chosen = thin if destination.payload == "thin" else event
                self.outgoing.append(Delivery(chosen["id"], chosen["type"], body_of(chosen), destination))

    def _thin(self, event: Json, subject: Json, moment: int) -> Json:
        thin = filled(
            {
                "id": self.new_id("evt_test", 32),
                "object": "v2.core.event",
                "type": f"v1.{event['type']}",
                "created": timestamp(moment),
                "livemode": False,
                "snapshot_event": event["id"],
                "related_object": {"id": subject["id"], "type": subject["object"], "url": url_of(subject)},
                "reason": {"type": "request", "request": dict(self.request)} if self.request["id"] else None,
            }
        )
        self.thin_events[thin["id"]] = thin
        return thin


def timestamp(seconds: float) -> str:
    """A moment as v2 writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


FOLDERS = {
    "invoiceitem": "invoiceitems", "checkout.session": "checkout/sessions", "billing.meter": "billing/meters",
    "billing_portal.session": "billing_portal/sessions", "test_helpers.test_clock": "test_helpers/test_clocks",
}  # fmt: skip


def url_of(subject: Json) -> str:
    """The path that an object is fetched from."""
    return f"/v1/{FOLDERS.get(subject['object'], subject['object'] + 's')}/{subject['id']}"

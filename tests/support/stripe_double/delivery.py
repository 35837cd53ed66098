"""Webhooks on their way: signed as Stripe signs them, and duplicated, reordered, delayed or lost as a test asks."""

from __future__ import annotations

import fnmatch
import hashlib
import hmac
import json
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

ATTEMPTS = 25
"""Stripe gives a delivery up after some three days of attempts; here, after so many rounds."""


@dataclass
class Destination:
    """Where events are sent: a webhook endpoint (snapshots) or an event destination (either)."""

    id: str
    payload: Literal["snapshot", "thin"]
    secret: str
    url: str | None = None
    """None: whoever drains the queue."""
    types: tuple[str, ...] = ("*",)
    enabled: bool = True
    clock: Callable[[], float] = time.time
    """The time that attempts are signed with."""

    def wants(self, kind: str) -> bool:
        bare = [wanted.removeprefix("v1.") for wanted in self.types]
        return self.enabled and any(fnmatch.fnmatchcase(kind, wanted) for wanted in bare)


@dataclass
class Delivery:
    """One event on its way to one destination."""

    event_id: str
    type: str
    body: bytes
    destination: Destination
    attempts: int = 0

    def headers(self, *, at: float | None = None, secret: str | None = None) -> dict[str, str]:
        """The headers of an attempt made now, or at another time, or by someone who holds another secret."""
        signed = signature(
            self.body,
            self.destination.secret if secret is None else secret,
            at=self.destination.clock() if at is None else at,
        )
        return {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signed,
            "User-Agent": "Stripe/1.0",
        }


Send = Callable[[Delivery], Awaitable[int]]


@dataclass
class Delivered:
    """What a round of deliveries came to."""

    sent: int = 0
    """Attempts that reached the receiver, duplicates included."""
    refused: int = 0
    """Attempts answered with anything but a 2xx: they stay queued."""
    dropped: int = 0
    waiting: int = 0
    """Held back, or refused: the next round tries them."""
    statuses: dict[int, int] = field(default_factory=dict)


def body_of(event: dict[str, Any]) -> bytes:
    return json.dumps(event, indent=2).encode()


def signature(body: bytes, secret: str, *, at: float | None = None) -> str:
    """The `Stripe-Signature` header: a timestamp, and an HMAC-SHA256 over timestamp, dot and body."""
    moment = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={moment},v1={digest}"


def posting(client: httpx.AsyncClient, url: str | None) -> Send:
    """Sends by HTTP, to the destination's own address or to `url` for those that have none."""

    async def send(delivery: Delivery) -> int:
        target = delivery.destination.url or url
        assert target, "a delivery without an address: pass one"
        try:
            answer = await client.post(target, content=delivery.body, headers=delivery.headers())
        except httpx.TransportError:
            return 0
        return answer.status_code

    return send


async def deliver(
    queue: deque[Delivery],
    send: Send,
    *,
    duplicate: float = 0.0,
    reorder: bool = False,
    delay: float = 0.0,
    drop: float = 0.0,
    seed: int = 0,
) -> Delivered:
    """Send what is queued now. The shares are of the queue: of copies sent twice, held back a round, lost for good."""
    chance = random.Random(seed)
    round_, outcome = list(queue), Delivered()
    queue.clear()
    batch: list[Delivery] = []
    for delivery in round_:
        if chance.random() < drop:
            outcome.dropped += 1
        elif chance.random() < delay:
            queue.append(delivery)
        else:
            batch += [delivery] * (2 if chance.random() < duplicate else 1)
    if reorder:
        chance.shuffle(batch)
    for delivery in batch:
        delivery.attempts += 1
        status = await send(delivery)
        outcome.sent += status != 0
        outcome.statuses[status] = outcome.statuses.get(status, 0) + 1
        if not 200 <= status < 300:
            outcome.refused += 1
            if delivery.attempts < ATTEMPTS and delivery not in queue:
                queue.append(delivery)
    outcome.waiting = len(queue)
    return outcome

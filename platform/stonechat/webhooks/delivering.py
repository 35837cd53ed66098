"""Sending what is due at one endpoint: one attempt after the other, each begun and recorded in a transaction of its own.

The table is the truth, jobs are only its alarm clock. A worker takes a lease of the endpoint, so that nobody is sent two
things at once; an attempt is counted, and its next one set, before it is made. Whatever dies in between, the delivery is
due again when the lease is over, with the same `webhook-id`: at least once, never lost.

An endpoint that keeps failing rests between attempts, however much waits for it, so that it costs its neighbours little.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids, metrics
from stonechat.accounts.models import Tenant
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import StonechatError
from stonechat.outbound.client import OutboundClient
from stonechat.settings import Settings
from stonechat.webhooks.disabling import FAILING_FOR, disable_and_tell
from stonechat.webhooks.endpoints import http_allowed, signing_secrets
from stonechat.webhooks.fan_out import wake
from stonechat.webhooks.models import WebhookDeliveryRow, WebhookEndpointRow
from stonechat.webhooks.sending import Outcome, send
from stonechat.webhooks.signing import signed_headers

SCHEDULE = (
    timedelta(seconds=5),
    timedelta(minutes=1),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
)
"""How long after each failed attempt the next one is made; after the last there is none. About 18 hours in all."""
IN_A_ROW = 50
"""Deliveries for one job; then others have their turn."""
LEASE = timedelta(seconds=30)
"""Longer than any attempt."""
RESTS_AFTER, FIRST_REST, LONGEST_REST = 3, timedelta(seconds=10), timedelta(minutes=10)
"""Failures in a row, of whatever deliveries, after which the endpoint itself rests, and for how long."""
LONGEST_ASKED_REST = timedelta(hours=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One that was begun."""

    delivery_id: str
    number: int
    url: str
    headers: dict[str, str]
    body: bytes


class Deliverer:
    """Sends what is due. Many may be at work; each endpoint is sent to by one of them."""

    def __init__(self, database: Database, *, keyring: Keyring, outbound: OutboundClient, settings: Settings) -> None:
        self._database = database
        self._keyring = keyring
        self._outbound = outbound
        self._allow_http = http_allowed(settings)
        self._public_url = settings.public_url

    async def deliver(self, tenant_id: UUID, payload: dict[str, Any]) -> None:
        """The job `webhooks.deliver`. Nothing is sent for a tenant that is suspended, or to an endpoint that rests."""
        endpoint_id, lease = str(payload["endpoint_id"]), ids.new_id("lse")
        begun: _Attempt | None = None
        outcome: Outcome | None = None
        for turn in range(IN_A_ROW + 1):
            async with self._database.tenant(tenant_id) as session:
                endpoint = await _locked(session, tenant_id, endpoint_id)
                if endpoint is None:
                    return
                if begun is not None and outcome is not None:
                    await self._record(session, endpoint, begun, outcome)
                begun = await self._begin(session, endpoint, lease=lease, last=turn == IN_A_ROW)
            if begun is None:
                return
            outcome = await send(
                self._outbound, begun.url, headers=begun.headers, body=begun.body, allow_http=self._allow_http
            )

    async def _begin(
        self, session: AsyncSession, endpoint: WebhookEndpointRow, *, lease: str, last: bool
    ) -> _Attempt | None:
        """Take the lease and what is due first; None, with the alarm set, where there is nothing to do now."""
        now = clock.now()
        if endpoint.lease not in (None, lease) and endpoint.leased_until is not None and endpoint.leased_until > now:
            await wake(session, endpoint.tenant_id, endpoint_id=endpoint.endpoint_id, at=endpoint.leased_until)
            return None
        endpoint.lease, endpoint.leased_until = None, None
        row = WebhookDeliveryRow
        due = (
            select(row)
            .where(
                row.tenant_id == endpoint.tenant_id,
                row.endpoint_id == endpoint.endpoint_id,
                row.status == "queued",
            )
            .order_by(row.next_attempt_at)
            .limit(1)
        )
        delivery = await session.scalar(due.execution_options(populate_existing=True))
        if delivery is None or delivery.next_attempt_at is None or await _suspended(session, endpoint.tenant_id):
            return None  # who resumes or replays sets the alarm anew, and the clock looks as well
        at = max(delivery.next_attempt_at, endpoint.paused_until or delivery.next_attempt_at)
        if at > now or last:
            again = at if at > now else None
            await wake(session, endpoint.tenant_id, endpoint_id=endpoint.endpoint_id, at=again)
            return None
        try:
            secrets = await signing_secrets(session, endpoint, keyring=self._keyring)
        except StonechatError as error:
            delivery.status, delivery.next_attempt_at, delivery.finished_at = "failed", None, now
            delivery.last_error = str(error)[:500]
            await wake(session, endpoint.tenant_id, endpoint_id=endpoint.endpoint_id)
            return None
        endpoint.lease, endpoint.leased_until = lease, now + LEASE
        delivery.attempts += 1
        delivery.last_attempt_at, delivery.next_attempt_at = now, now + LEASE
        body = delivery.body.encode()
        headers = signed_headers(secrets, message_id=delivery.event_id, attempted_at=now, body=body)
        return _Attempt(delivery.delivery_id, delivery.attempts, endpoint.url, dict(headers), body)

    async def _record(
        self, session: AsyncSession, endpoint: WebhookEndpointRow, begun: _Attempt, outcome: Outcome
    ) -> None:
        metrics.WEBHOOKS.of(outcome.result).add()
        _log.info(
            "webhook attempt: %s",
            outcome.result,
            extra={
                "tenant_id": str(endpoint.tenant_id),
                "endpoint_id": endpoint.endpoint_id,
                "delivery_id": begun.delivery_id,
                "attempt": begun.number,
                "status": outcome.status,
                "duration_ms": outcome.duration_ms,
            },
        )
        row, now = WebhookDeliveryRow, clock.now()
        delivery = await session.scalar(
            select(row)
            .where(row.tenant_id == endpoint.tenant_id, row.delivery_id == begun.delivery_id)
            .execution_options(populate_existing=True)
            .with_for_update()
        )
        if delivery is None or delivery.attempts != begun.number or delivery.status != "queued":
            return  # another took it up, or it was replayed: theirs is the last word
        delivery.duration_ms, delivery.last_status = outcome.duration_ms, outcome.status
        delivery.last_error, delivery.response = outcome.error, outcome.response
        if outcome.result == "delivered":
            delivery.status, delivery.next_attempt_at, delivery.finished_at = "delivered", None, now
            endpoint.failures, endpoint.failing_since, endpoint.paused_until = 0, None, None
            endpoint.last_success_at = now
            return
        endpoint.failures += 1
        endpoint.failing_since = endpoint.failing_since or now
        endpoint.paused_until = _rest(endpoint, outcome, now)
        if delivery.attempts > len(SCHEDULE) or outcome.result == "gone":
            delivery.status, delivery.next_attempt_at, delivery.finished_at = "failed", None, now
        else:
            delivery.next_attempt_at = now + after(delivery.attempts, outcome.retry_after)
        if outcome.result == "gone":
            await disable_and_tell(session, endpoint, reason="gone", public_url=self._public_url)
        elif endpoint.enabled and now - endpoint.failing_since >= FAILING_FOR:
            await disable_and_tell(session, endpoint, reason="failing", public_url=self._public_url)


def after(failures: int, asked: timedelta | None = None) -> timedelta:
    """The pause after so many failed attempts (from 1): by the schedule, up to a fifth longer, and what was asked at least."""
    planned = SCHEDULE[min(failures, len(SCHEDULE)) - 1] * random.uniform(1.0, 1.2)  # noqa: S311
    return max(planned, asked or timedelta(0))


def _rest(endpoint: WebhookEndpointRow, outcome: Outcome, now: datetime) -> datetime | None:
    if outcome.retry_after is not None and outcome.status in (429, 503):
        return now + min(outcome.retry_after, LONGEST_ASKED_REST)
    if endpoint.failures < RESTS_AFTER:
        return None
    doubled = FIRST_REST * (1 << min(endpoint.failures - RESTS_AFTER, 20))
    return now + min(doubled, LONGEST_REST)


async def _locked(session: AsyncSession, tenant_id: UUID, endpoint_id: str) -> WebhookEndpointRow | None:
    """The enabled endpoint, locked until the transaction ends: whoever has it sees every delivery committed before."""
    row = WebhookEndpointRow
    chosen = select(row).where(row.tenant_id == tenant_id, row.endpoint_id == endpoint_id, row.enabled)
    found: WebhookEndpointRow | None = await session.scalar(chosen.with_for_update())
    return found


async def _suspended(session: AsyncSession, tenant_id: UUID) -> bool:
    status = await session.scalar(select(Tenant.status).where(Tenant.tenant_id == tenant_id))
    return status != "active"

"""From events to deliveries: one for each endpoint that wants to be told, written down with the job that will send it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, ScalarSelect, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, events, ids
from stonechat.db.session import Database
from stonechat.events import Event, Subscriber
from stonechat.jobs import enqueue
from stonechat.webhooks.catalogue import KINDS, TEST, data_of
from stonechat.webhooks.models import WebhookDeliveryRow, WebhookEndpointRow

DELIVER = "webhooks.deliver"
"""The kind of job that sends what is due at one endpoint, `{"endpoint_id"}`."""
MAX_WAITING = 10_000
"""Deliveries that wait at one endpoint, be it slow or failing. Beyond, an event is noted as failed at once, with the reason,
and can be replayed: what waits already was told of first, and goes first."""
KEPT_FOR = timedelta(days=30)
_MAX_BODY = 60_000
_PURGED_AT_ONCE = 20
_WAKE_SECONDS = 5
_TOO_MANY = f"{MAX_WAITING:,} deliveries were waiting at this endpoint already."


async def tell(session: AsyncSession, tenant_id: UUID, kind: str, payload: Mapping[str, Any]) -> None:
    """Record an event that only webhooks are for, if an endpoint of the tenant's wants it.

    For what happens often, such as documents that become ready: most tenants have no endpoint, and pay one look-up.
    """
    if await session.scalar(select(1).where(*_wanting(tenant_id, kind)).limit(1)) is not None:
        await events.record(session, tenant_id, kind, payload)


def subscribers(database: Database) -> dict[str, Sequence[Subscriber]]:
    """For the dispatcher: every kind of the catalogue."""

    async def fan_out(event: Event) -> None:
        async with database.tenant(event.tenant_id) as session:
            await deliver_event(session, event)

    return dict.fromkeys(KINDS, (fan_out,))


async def deliver_event(session: AsyncSession, event: Event) -> int:
    """Have an event delivered to whoever wants it. Again, it changes nothing. Returns how many deliveries are new."""
    endpoint = WebhookEndpointRow
    found = await session.execute(
        select(endpoint.endpoint_id, _waiting()).where(*_wanting(event.tenant_id, event.kind))
    )
    made = 0
    for endpoint_id, number in found.all():
        made += (
            await add_delivery(
                session,
                event.tenant_id,
                endpoint_id=endpoint_id,
                event_id=event.event_id,
                kind=event.kind,
                data=data_of(event.kind, event.payload),
                occurred_at=event.occurred_at,
                refused=_TOO_MANY if number >= MAX_WAITING else "",
            )
            is not None
        )
    if made:
        await _purge_some(session, event.tenant_id)
    return made


def _waiting() -> ScalarSelect[int]:
    """In SQL, how many deliveries wait at an endpoint, counted up to `MAX_WAITING`."""
    endpoint, row = WebhookEndpointRow, WebhookDeliveryRow
    queued = (
        (row.tenant_id == endpoint.tenant_id) & (row.endpoint_id == endpoint.endpoint_id) & (row.status == "queued")
    )
    some = select(1).where(queued).limit(MAX_WAITING).correlate(endpoint).subquery()
    return select(func.count()).select_from(some).scalar_subquery()


async def room_at(session: AsyncSession, tenant_id: UUID, *, endpoint_id: str) -> int:
    """How many more deliveries may wait at an endpoint."""
    endpoint = WebhookEndpointRow
    mine = (endpoint.tenant_id == tenant_id) & (endpoint.endpoint_id == endpoint_id)
    return max(0, MAX_WAITING - (await session.scalar(select(_waiting()).where(mine)) or 0))


async def add_delivery(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    endpoint_id: str,
    event_id: str,
    kind: str,
    data: Mapping[str, Any],
    occurred_at: datetime,
    refused: str = "",
) -> str | None:
    """Write a delivery down and have it sent; its id, or None if this event has one for this endpoint.

    With `refused` (why, in words) it is noted as failed and not sent.
    """
    row, now = WebhookDeliveryRow, clock.now()
    user_id = data.get("user_id")
    made: str | None = await session.scalar(
        insert(row)
        .values(
            tenant_id=tenant_id,
            delivery_id=ids.new_id("dlv"),
            endpoint_id=endpoint_id,
            event_id=event_id,
            kind=kind,
            user_id=user_id if isinstance(user_id, str) else None,
            body=body_of(kind, occurred_at=occurred_at, data=data),
            status="failed" if refused else "queued",
            next_attempt_at=None if refused else now,
            finished_at=now if refused else None,
            last_error=refused,
            occurred_at=occurred_at,
            created_at=now,
        )
        .on_conflict_do_nothing()
        .returning(row.delivery_id)
    )
    if made is not None and not refused:
        await wake(session, tenant_id, endpoint_id=endpoint_id)
    return made


async def wake(session: AsyncSession, tenant_id: UUID, *, endpoint_id: str, at: datetime | None = None) -> None:
    """Have somebody look at what is due at an endpoint, now or at a moment. Many a wish within seconds is one job."""
    if at is None:
        await enqueue(session, tenant_id, DELIVER, {"endpoint_id": endpoint_id}, dedupe_key=endpoint_id)
        return
    moment = -(-int(at.timestamp() * 1000) // (_WAKE_SECONDS * 1000)) * _WAKE_SECONDS
    delay = max(timedelta(0), at - clock.now())
    if delay > timedelta(seconds=2 * _WAKE_SECONDS):
        delay = timedelta(seconds=moment - clock.now().timestamp())
    else:
        moment = int(at.timestamp() * 1000)  # soon: to the point
    await enqueue(
        session,
        tenant_id,
        DELIVER,
        {"endpoint_id": endpoint_id},
        dedupe_key=f"{endpoint_id}:{moment}",
        delay=delay,
    )


def body_of(kind: str, *, occurred_at: datetime, data: Mapping[str, Any]) -> str:
    """The body, exactly as it is signed and sent. Long texts are cut rather than that an event is not told."""
    whole = json.dumps(
        {"type": kind, "timestamp": clock.rfc3339(occurred_at), "data": data},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    if len(whole.encode()) <= _MAX_BODY:
        return whole
    cut = {name: value[:1000] if isinstance(value, str) else None for name, value in data.items()}
    return body_of(kind, occurred_at=occurred_at, data=cut)


async def send_test(session: AsyncSession, tenant_id: UUID, *, endpoint_id: str) -> str:
    """Queue a test event; the delivery's id."""
    data = {"endpoint_id": endpoint_id, "message": "This is a test. Your endpoint is reached."}
    made = await add_delivery(
        session,
        tenant_id,
        endpoint_id=endpoint_id,
        event_id=ids.new_id("evt"),
        kind=TEST,
        data=data,
        occurred_at=clock.now(),
    )
    assert made is not None, "the event is new"  # noqa: S101
    return made


def _wanting(tenant_id: UUID, kind: str) -> tuple[ColumnElement[bool], ...]:
    endpoint = WebhookEndpointRow
    wants = or_(endpoint.events.is_(None), endpoint.events.contains([kind]))
    return endpoint.tenant_id == tenant_id, endpoint.enabled.is_(True), wants


async def _purge_some(session: AsyncSession, tenant_id: UUID) -> None:
    """A few old deliveries go with new ones; the clock sees to the rest."""
    row = WebhookDeliveryRow
    oldest = select(row.delivery_id).where(row.tenant_id == tenant_id).order_by(row.delivery_id).limit(_PURGED_AT_ONCE)
    over = (row.created_at < clock.now() - KEPT_FOR) & (row.status != "queued")
    await session.execute(delete(row).where(row.tenant_id == tenant_id, row.delivery_id.in_(oldest), over))

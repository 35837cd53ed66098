"""The log of deliveries as its tenant sees it, and sending something again."""

from __future__ import annotations

from typing import Literal, cast, get_args

from pydantic import AwareDatetime, BaseModel
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import Conflict, NotFound
from stonechat.web import Page, decode_cursor, encode_cursor
from stonechat.webhooks.endpoints import load_endpoint
from stonechat.webhooks.fan_out import MAX_WAITING, room_at, send_test, wake
from stonechat.webhooks.models import WebhookDeliveryRow

DeliveryStatus = Literal["queued", "delivered", "failed"]
STATUSES: tuple[DeliveryStatus, ...] = get_args(DeliveryStatus)
MAX_REPLAYED = 1000
"""At once; whoever asks again goes on."""
_OFF = "This endpoint is switched off. Switch it on, then send it again."


class DeliveryView(BaseModel):
    """One event for one endpoint, and what became of it so far."""

    id: str
    endpoint_id: str
    event_id: str
    """Sent as `webhook-id`."""
    type: str
    status: DeliveryStatus
    attempts: int
    """Since it was first sent, or replayed last."""
    next_attempt_at: AwareDatetime | None
    last_attempt_at: AwareDatetime | None
    last_status: int | None
    """The status code of the last answer; null where there was none."""
    error: str
    duration_ms: int | None
    occurred_at: AwareDatetime
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class DeliveryDetail(DeliveryView):
    """With what was sent, and the beginning of what was answered last."""

    body: str
    response: str


class Replayed(BaseModel):
    """How many deliveries are sent again."""

    replayed: int
    more: bool
    """Whether there are more that failed: ask again."""


async def list_deliveries(
    session: AsyncSession,
    actor: Actor,
    *,
    endpoint_id: str,
    status: DeliveryStatus | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> Page[DeliveryView]:
    """An endpoint's deliveries of the last 30 days, newest first. Raises `NotFound`."""
    actor.require("read")
    await load_endpoint(session, actor, endpoint_id=endpoint_id)
    row = WebhookDeliveryRow
    chosen = select(row).where(row.tenant_id == actor.tenant_id, row.endpoint_id == endpoint_id)
    if status is not None:
        chosen = chosen.where(row.status == status)
    if cursor is not None:
        chosen = chosen.where(row.delivery_id < decode_cursor(cursor, str)[0])
    rows = list(await session.scalars(chosen.order_by(row.delivery_id.desc()).limit(limit + 1)))
    following = encode_cursor(rows[limit - 1].delivery_id) if len(rows) > limit else None
    return Page(data=[DeliveryView.model_validate(_values(each)) for each in rows[:limit]], next_cursor=following)


async def get_delivery(session: AsyncSession, actor: Actor, *, endpoint_id: str, delivery_id: str) -> DeliveryDetail:
    """One delivery with what was sent and answered. Raises `NotFound`."""
    actor.require("read")
    return _detail(await _load(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id))


async def send_test_event(session: AsyncSession, actor: Actor, *, endpoint_id: str) -> DeliveryDetail:
    """Send a `webhook.test`, whatever kinds the endpoint wants. Raises `NotFound`, or `Conflict` where it is off."""
    actor.require("write")
    endpoint = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    if not endpoint.enabled:
        raise Conflict("This endpoint is switched off. Switch it on, then send a test.")
    await _require_room(session, actor, endpoint_id)
    endpoint.paused_until = None
    delivery_id = await send_test(session, actor.tenant_id, endpoint_id=endpoint_id)
    await record_audit(session, actor, "webhook_endpoint.test", subject_id=endpoint_id)
    return _detail(await _load(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id))


async def replay_delivery(session: AsyncSession, actor: Actor, *, endpoint_id: str, delivery_id: str) -> DeliveryDetail:
    """Send it again now, whatever became of it, under the same `webhook-id`. Raises `NotFound`, `Conflict`."""
    actor.require("write")
    endpoint = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    delivery = await _load(session, actor, endpoint_id=endpoint_id, delivery_id=delivery_id)
    if not endpoint.enabled:
        raise Conflict(_OFF)
    if delivery.status != "queued":
        await _require_room(session, actor, endpoint_id)
    now = clock.now()
    delivery.status, delivery.attempts, delivery.next_attempt_at, delivery.finished_at = "queued", 0, now, None
    endpoint.paused_until = None
    await session.flush()
    await wake(session, actor.tenant_id, endpoint_id=endpoint_id)
    await record_audit(
        session, actor, "webhook_delivery.replay", subject_id=delivery_id, detail={"endpoint_id": endpoint_id}
    )
    return _detail(delivery)


async def replay_failed(session: AsyncSession, actor: Actor, *, endpoint_id: str, since: AwareDatetime) -> Replayed:
    """Send again what failed for good since a moment, oldest first, up to a thousand, and as many as may wait there.

    Raises `NotFound`, `Conflict`.
    """
    actor.require("write")
    endpoint = await load_endpoint(session, actor, endpoint_id=endpoint_id, lock=True)
    if not endpoint.enabled:
        raise Conflict(_OFF)
    row = WebhookDeliveryRow
    most = min(MAX_REPLAYED, await _require_room(session, actor, endpoint_id))
    chosen = (
        select(row.delivery_id)
        .where(
            row.tenant_id == actor.tenant_id,
            row.endpoint_id == endpoint_id,
            row.status == "failed",
            row.created_at >= since,
        )
        .order_by(row.delivery_id)
        .limit(most + 1)
    )
    found = list(await session.scalars(chosen))
    if found:
        await session.execute(
            update(row)
            .where(row.tenant_id == actor.tenant_id, row.delivery_id.in_(found[:most]))
            .values(status="queued", attempts=0, next_attempt_at=clock.now(), finished_at=None)
            .execution_options(synchronize_session=False)
        )
        endpoint.paused_until = None
        await session.flush()
        await wake(session, actor.tenant_id, endpoint_id=endpoint_id)
    replayed = min(len(found), most)
    await record_audit(
        session, actor, "webhook_endpoint.replay", subject_id=endpoint_id, detail={"deliveries": replayed}
    )
    return Replayed(replayed=replayed, more=len(found) > most)


async def _require_room(session: AsyncSession, actor: Actor, endpoint_id: str) -> int:
    room = await room_at(session, actor.tenant_id, endpoint_id=endpoint_id)
    if not room:
        raise Conflict(
            f"{MAX_WAITING:,} deliveries wait at this endpoint already. Send it again once some have gone out."
        )
    return room


async def _load(session: AsyncSession, actor: Actor, *, endpoint_id: str, delivery_id: str) -> WebhookDeliveryRow:
    row, found = WebhookDeliveryRow, None
    if "\x00" not in delivery_id + endpoint_id:
        found = await session.scalar(
            select(row).where(
                row.tenant_id == actor.tenant_id, row.endpoint_id == endpoint_id, row.delivery_id == delivery_id
            )
        )
    if found is None:
        raise NotFound("There is no such delivery.")
    return found


def _values(row: WebhookDeliveryRow) -> dict[str, object]:
    return {
        "id": row.delivery_id,
        "endpoint_id": row.endpoint_id,
        "event_id": row.event_id,
        "type": row.kind,
        "status": cast("DeliveryStatus", row.status),
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at,
        "last_attempt_at": row.last_attempt_at,
        "last_status": row.last_status,
        "error": row.last_error,
        "duration_ms": row.duration_ms,
        "occurred_at": row.occurred_at,
        "created_at": row.created_at,
        "finished_at": row.finished_at,
    }


def _detail(row: WebhookDeliveryRow) -> DeliveryDetail:
    return DeliveryDetail.model_validate({**_values(row), "body": row.body, "response": row.response})

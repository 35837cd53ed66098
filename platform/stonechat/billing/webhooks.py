"""What Stripe tells us: verified, written down once, and answered; then the customer is looked at.

An event only says that something changed. Snapshot events (v1) name their customer; thin events name an object, whose
customer is asked for in a job. Either ends in `billing.sync`, one waiting job a tenant, however many events there are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, metrics
from stonechat.billing.customers import tenant_of_customer
from stonechat.billing.gateway import StripeGateway, verify_signature
from stonechat.billing.models import BillingEventRow, WebhookRefusalRow
from stonechat.db.session import Database
from stonechat.errors import MalformedBody, NotFound, WebhookRefused
from stonechat.jobs import enqueue
from stonechat.mail import PLATFORM_TENANT

SYNC_JOB, LOCATE_JOB = "billing.sync", "billing.locate"
LOCATED_TYPES = frozenset({"customer", "subscription", "invoice", "checkout.session", "subscription_schedule"})
"""What a thin event may be about that a customer can be asked of."""
KEPT_FOR = timedelta(days=180)
_log = logging.getLogger(__name__)

EventState = Literal["queued", "unmatched", "ignored"]


@dataclass(frozen=True, slots=True)
class Heard:
    """What an event says about itself."""

    event_id: str
    kind: str
    thin: bool
    object_type: str | None
    object_id: str | None
    customer_id: str | None
    livemode: bool
    happened_at: datetime


async def receive(
    database: Database, payload: bytes, *, signature: str | None, secrets: Sequence[str], address: str = ""
) -> bool:
    """Take in one webhook. Returns False for one that was taken in before.

    Raises `WebhookRefused` for what is not signed by us and Stripe alone, or is old, and `MalformedBody`.
    """
    try:
        verify_signature(payload, signature, secrets=secrets)
        heard = parse(payload)
    except (WebhookRefused, MalformedBody) as error:
        reason = str(error.members.get("reason", "malformed"))
        known = {"refused": "webhook", "reason": reason}
        _log.warning("A webhook from %s was refused: %s", address or "somewhere", error, extra=known)
        metrics.STRIPE_REFUSED.of(reason).add()
        await count_refusal(database, reason)
        raise
    async with database.directory() as session:
        tenant_id = await tenant_of_customer(session, heard.customer_id) if heard.customer_id else None
        state = _state_of(heard, tenant_id)
        row = BillingEventRow
        written = await session.scalar(
            insert(row)
            .values(
                event_id=heard.event_id,
                kind=heard.kind,
                thin=heard.thin,
                object_type=heard.object_type,
                object_id=heard.object_id,
                customer_id=heard.customer_id,
                tenant_id=tenant_id,
                livemode=heard.livemode,
                happened_at=heard.happened_at,
                received_at=clock.now(),
                state=state,
            )
            .on_conflict_do_nothing(index_elements=[row.event_id])
            .returning(row.event_id)
        )
        metrics.STRIPE_WEBHOOKS.of("again" if written is None else "new").add()
        if written is None:
            return False
        if tenant_id is not None:
            await request_sync(session, tenant_id)
        elif state == "queued":
            await enqueue(session, PLATFORM_TENANT, LOCATE_JOB, {"event_id": heard.event_id})
    return True


async def count_refusal(database: Database, reason: str) -> None:
    """One more today, for operators. Refusing waits for nothing: while this cannot be written, it is not."""
    row = WebhookRefusalRow
    statement = insert(row).values(day=clock.now().date(), reason=reason, refused=1)
    one_more = {"refused": row.refused + 1}
    try:
        async with database.platform() as session:
            await session.execute(text("set local lock_timeout = '200ms'"))
            await session.execute(statement.on_conflict_do_update(index_elements=[row.day, row.reason], set_=one_more))
    except (SQLAlchemyError, OSError, TimeoutError):
        _log.warning("A refused webhook could not be counted.", exc_info=True)


async def count_refusals(session: AsyncSession, *, day: date) -> dict[str, int]:
    """How many webhooks were refused on a day (UTC's), by reason. `session` is the platform's."""
    row = WebhookRefusalRow
    counted = await session.execute(select(row.reason, row.refused).where(row.day == day).order_by(row.refused.desc()))
    return {reason: number for reason, number in counted}  # noqa: C416


def parse(payload: bytes) -> Heard:
    """Raises `MalformedBody`."""
    try:
        event = json.loads(payload)
        thin = event["object"] == "v2.core.event"
        kind, event_id = _text(event["type"]), _text(event["id"])
        if thin:
            subject = event.get("related_object") or {}
            object_type, object_id = subject.get("type"), subject.get("id")
            customer = object_id if object_type == "customer" else None
            happened_at = datetime.fromisoformat(event["created"])
        else:
            subject = event["data"]["object"]
            object_type, object_id = subject.get("object"), subject.get("id")
            customer = object_id if object_type == "customer" else subject.get("customer")
            happened_at = datetime.fromtimestamp(int(event["created"]), UTC)
        if happened_at.tzinfo is None:
            raise ValueError("a time without a zone")
        return Heard(
            event_id=event_id,
            kind=kind,
            thin=thin,
            object_type=_optional(object_type),
            object_id=_optional(object_id),
            customer_id=_optional(customer["id"] if isinstance(customer, dict) else customer),
            livemode=bool(event.get("livemode")),
            happened_at=happened_at,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise MalformedBody("This is not an event of Stripe's.") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 255 or "\x00" in value:
        raise ValueError("a name of 1 to 255 characters")
    value.encode()  # half of a surrogate pair, which JSON can spell, is no text
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _state_of(heard: Heard, tenant_id: UUID | None) -> EventState:
    if tenant_id is not None:
        return "queued"
    if heard.customer_id is not None:
        return "unmatched"
    if heard.thin and heard.object_type in LOCATED_TYPES:
        return "queued"
    if "meter.error_report" in heard.kind or "no_meter_found" in heard.kind:
        _log.error("Stripe could not use what it was told of use: event %s (%s).", heard.event_id, heard.kind)
    return "ignored"


async def request_sync(session: AsyncSession, tenant_id: UUID) -> None:
    """Look at the tenant's customer once this transaction has committed; one waiting job stands for all that ask."""
    await enqueue(session, tenant_id, SYNC_JOB, {}, dedupe_key="sync")


async def locate(database: Database, gateway: StripeGateway, *, event_id: str) -> None:
    """Find out whose a thin event is, and look at that customer."""
    row = BillingEventRow
    async with database.directory() as session:
        event = await session.get(row, event_id)
    if event is None or event.state != "queued" or event.object_type is None or event.object_id is None:
        return
    customer_id = event.customer_id or await gateway.customer_of(event.object_type, event.object_id)
    async with database.directory() as session:
        tenant_id = await tenant_of_customer(session, customer_id) if customer_id else None
        if tenant_id is not None:
            await request_sync(session, tenant_id)
    state = "unmatched" if customer_id else "ignored"
    values = {"customer_id": customer_id, "tenant_id": tenant_id} | ({} if tenant_id else {"state": state})
    async with database.platform() as session:
        await session.execute(update(row).where(row.event_id == event_id, row.state == "queued").values(values))


async def mark_done(database: Database, tenant_id: UUID, *, before: datetime) -> None:
    """The tenant's events that were received by then have had their effect."""
    row = BillingEventRow
    waiting = (row.tenant_id == tenant_id) & row.state.in_(("queued", "failed")) & (row.received_at <= before)
    async with database.platform() as session:
        await session.execute(update(row).where(waiting).values(state="done", error=None, processed_at=clock.now()))


async def mark_failed(
    database: Database, *, reason: str, tenant_id: UUID | None = None, event_id: str | None = None
) -> None:
    """A job about these events was given up; an operator can have them done again."""
    row = BillingEventRow
    chosen = row.event_id == event_id if event_id is not None else row.tenant_id == tenant_id
    async with database.platform() as session:
        values = {"state": "failed", "error": reason[:500], "processed_at": clock.now()}
        await session.execute(update(row).where(chosen, row.state == "queued").values(values))


async def match_events(database: Database, tenant_id: UUID, *, customer_id: str) -> int:
    """Events that came before their customer was known are the tenant's now. Returns how many."""
    row = BillingEventRow
    async with database.platform() as session:
        found = await session.scalars(
            update(row)
            .where(row.customer_id == customer_id, row.state == "unmatched")
            .values(tenant_id=tenant_id, state="queued")
            .returning(row.event_id)
        )
        number = len(list(found))
    if number:
        async with database.tenant(tenant_id) as session:
            await request_sync(session, tenant_id)
    return number


async def purge_events(database: Database) -> int:
    """Forget events whose effect was half a year ago. Returns how many."""
    row = BillingEventRow
    async with database.platform() as session:
        refused = WebhookRefusalRow.day < (clock.now() - KEPT_FOR).date()
        await session.execute(delete(WebhookRefusalRow).where(refused))
    old = (row.received_at < clock.now() - KEPT_FOR) & row.state.in_(("done", "ignored", "unmatched"))
    async with database.platform() as session:
        gone = await session.scalars(delete(row).where(old).returning(row.event_id))
        return len(list(gone))


async def replay_event(database: Database, event_id: str) -> None:
    """Have an event's effect again, for an operator: its customer is looked at anew. Raises `NotFound`."""
    row = BillingEventRow
    async with database.platform() as session:
        event = await session.scalar(select(row).where(row.event_id == event_id))
        if event is None:
            raise NotFound("There is no such event.")
        tenant_id = event.tenant_id
        if tenant_id is None and event.customer_id is not None:
            tenant_id = await tenant_of_customer(session, event.customer_id)
        event.tenant_id, event.state, event.error = tenant_id, "queued", None
    if tenant_id is not None:
        async with database.tenant(tenant_id) as session:
            await request_sync(session, tenant_id)
    else:
        async with database.directory() as session:
            await enqueue(session, PLATFORM_TENANT, LOCATE_JOB, {"event_id": event_id})

"""A tenant with webhook endpoints, a receiver on the loopback that behaves as a test wants, and deliveries made at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from sqlalchemy import select, update

from stonechat import clock, events
from stonechat.accounts.actor import Actor, system
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.events import Dispatcher
from stonechat.events.models import EventRow
from stonechat.settings import Settings
from stonechat.webhooks.delivering import Deliverer
from stonechat.webhooks.endpoints import EndpointFields, EndpointWithSecret, create_endpoint
from stonechat.webhooks.fan_out import subscribers
from stonechat.webhooks.models import WebhookDeliveryRow, WebhookEndpointRow
from support.identity import PLATFORM_KEY
from support.loopback import Received, plain
from support.outbound import TableResolver, client_for

SETTINGS = Settings().model_copy(
    update={
        "secret_keys": (SecretStr(PLATFORM_KEY),),
        "configured_public_url": "http://platform.example",
        "outbound_allowed": ("127.0.0.0/8",),
    }
)
KEYRING = Keyring([key.get_secret_value() for key in SETTINGS.secret_keys])
OK = plain(b"thanks", status=200)
TAKEN = {"conversation_id": "thr_1", "agent_id": "agt_1", "user_id": "usr_1", "handled_by": "per_1"}


def signature_of(secret: str, request: Received) -> str:
    """What the specification says that the receiver computes, written anew from its text. In lower case, as it is heard here."""
    key = base64.b64decode(secret[len("whsec_") :])
    content = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    return ("v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()).lower()


@dataclass
class Hooks:
    """One tenant's webhooks."""

    database: Database
    tenant_id: UUID
    deliverer: Deliverer

    @property
    def actor(self) -> Actor:
        return system(self.tenant_id)

    async def endpoint(self, url: str, *, events: Sequence[str] | None = None) -> EndpointWithSecret:
        fields = EndpointFields(url=url, events=None if events is None else list(events))
        async with self.database.tenant(self.tenant_id) as session:
            return await create_endpoint(session, self.actor, keyring=KEYRING, settings=SETTINGS, fields=fields)

    async def happen(self, kind: str = "conversation.taken_over", payload: dict[str, Any] | None = None) -> str:
        """Something happens, and the dispatcher tells of it; the event's id."""
        async with self.database.tenant(self.tenant_id) as session:
            event_id = await events.record(session, self.tenant_id, kind, TAKEN if payload is None else payload)
        await self.dispatch(event_id)
        return event_id

    async def dispatch(self, event_id: str) -> None:
        await Dispatcher(self.database, subscribers(self.database)).dispatch(self.tenant_id, {"event_id": event_id})

    async def deliver(self, endpoint_id: str) -> None:
        """What the job does."""
        await self.deliverer.deliver(self.tenant_id, {"endpoint_id": endpoint_id})

    async def pass_time(self, endpoint_id: str, by: timedelta) -> None:
        """Everything that waits at the endpoint, and its rest, comes this much nearer."""
        row, endpoint = WebhookDeliveryRow, WebhookEndpointRow
        async with self.database.tenant(self.tenant_id) as session:
            await session.execute(
                update(row)
                .where(row.tenant_id == self.tenant_id, row.endpoint_id == endpoint_id)
                .values(next_attempt_at=row.next_attempt_at - by)
            )
            await session.execute(
                update(endpoint)
                .where(endpoint.tenant_id == self.tenant_id, endpoint.endpoint_id == endpoint_id)
                .values(
                    paused_until=endpoint.paused_until - by,
                    leased_until=endpoint.leased_until - by,
                    failing_since=endpoint.failing_since - by,
                )
            )

    async def deliveries(self, endpoint_id: str) -> list[WebhookDeliveryRow]:
        row = WebhookDeliveryRow
        async with self.database.tenant(self.tenant_id) as session:
            chosen = select(row).where(row.tenant_id == self.tenant_id, row.endpoint_id == endpoint_id)
            return list(await session.scalars(chosen.order_by(row.delivery_id)))

    async def row(self, endpoint_id: str) -> WebhookEndpointRow:
        endpoint = WebhookEndpointRow
        async with self.database.tenant(self.tenant_id) as session:
            chosen = select(endpoint).where(endpoint.tenant_id == self.tenant_id, endpoint.endpoint_id == endpoint_id)
            found = await session.scalar(chosen)
            assert found is not None
            return found

    async def recorded(self) -> list[EventRow]:
        async with self.database.tenant(self.tenant_id) as session:
            return list(await session.scalars(select(EventRow).where(EventRow.tenant_id == self.tenant_id)))

    def until_next(self, delivery: WebhookDeliveryRow) -> timedelta:
        assert delivery.next_attempt_at is not None
        assert delivery.last_attempt_at is not None
        return delivery.next_attempt_at - delivery.last_attempt_at


@asynccontextmanager
async def hooks_of(database: Database, tenant_id: UUID) -> AsyncIterator[Hooks]:
    """`one.test` is the loopback, which this installation lets requests into; `sly.test` is a private address."""
    outbound = client_for(TableResolver({"one.test": ["127.0.0.1"], "sly.test": ["10.0.0.1"]}))
    try:
        yield Hooks(database, tenant_id, Deliverer(database, keyring=KEYRING, outbound=outbound, settings=SETTINGS))
    finally:
        await outbound.aclose()


def at(port: int, path: str = "/hook") -> str:
    return f"http://one.test:{port}{path}"


def past() -> Any:
    return clock.now() - timedelta(days=1)

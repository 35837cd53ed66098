"""Tenants that pay: their owners, their use, and events as Stripe would send them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import stripe
from sqlalchemy import select, text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.accounts.tenants import create_tenant
from stonechat.billing.counting import Counting, counting_json
from stonechat.billing.customers import ensure_customer
from stonechat.billing.gateway import StripeGateway
from stonechat.billing.models import BillingCustomerRow, MeterRow
from stonechat.db.session import Database
from stonechat.plans.overrides import add_override
from stonechat.plans.subscription import set_subscription
from stonechat.usage.allowance import put_overage
from stonechat.usage.ledger import ledger_entry, settle

SECRET = "whsec_for_tests_only_0123456789abcdef"
START = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)


class Hands:
    """A clock that stands still until it is moved."""

    def __init__(self, at: datetime = START) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def move(self, **by: float) -> datetime:
        self.at += timedelta(**by)
        return self.at


@contextmanager
def held_clock(at: datetime = START) -> Iterator[Hands]:
    """Time as the test says."""
    hands = Hands(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock, "now", hands.now)
        yield hands


async def paying_tenant(database: Database, *, name: str = "Acme") -> UUID:
    """A tenant with an owner."""
    made = await create_tenant(database, name=name, owner_email=f"{ids.new_id('own')}@acme.example")
    return made.tenant_id


async def use(database: Database, tenant_id: UUID, *, tokens: int, at: datetime | None = None) -> None:
    """Let the ledger say that so many tokens were used."""
    given = tokens // 4
    entry = ledger_entry(
        tenant_id,
        None,
        agent_id=None,
        provider="openai",
        model="gpt-4.1-mini",
        input_tokens=tokens - given,
        output_tokens=given,
    )
    if at is not None:
        object.__setattr__(entry, "occurred_at", at)
    async with database.tenant(tenant_id) as session:
        await settle(session, tenant_id, run_id=None, entries=[entry])


async def pays_for_all(
    database: Database, tenant_id: UUID, *, period_start: datetime, period_end: datetime, included: int = 0
) -> None:
    """A subscription to Pro by Stripe, with overage agreed to, of which nothing (or so much) is included; with a metered
    item that counts since the period began. What is beyond is then all use, or all beyond that."""
    async with database.tenant(tenant_id) as session:
        await set_subscription(
            session, tenant_id, plan_key="pro", provider="stripe", status="active",
            period_start=period_start, period_end=period_end,
        )  # fmt: skip
        await add_override(
            session, tenant_id, field="included_tokens", value=included, reason="A test.", expires_at=None, by="a test"
        )
        await put_overage(session, system(tenant_id), opt_in=True, spend_cap_micros=None)
        row = await ensure_customer(session, tenant_id, provider="stripe")
        counting = Counting("sub_1", "si_1", "price_1", period_start, period_start, period_start, period_end)
        row.overage_item = counting_json(counting)


async def ledger_tokens(database: Database, tenant_id: UUID) -> int:
    """All that the ledger holds."""
    async with database.tenant(tenant_id) as session:
        summed = text("select coalesce(sum(input_tokens + output_tokens), 0) from usage_ledger where tenant_id = :t")
        return int(await session.scalar(summed, {"t": tenant_id}) or 0)


async def outbox(database: Database, tenant_id: UUID) -> list[MeterRow]:
    """The tenant's rows, oldest first."""
    async with database.tenant(tenant_id) as session:
        rows = select(MeterRow).where(MeterRow.tenant_id == tenant_id).order_by(MeterRow.slice_start, MeterRow.seq)
        return list(await session.scalars(rows))


async def customer(database: Database, tenant_id: UUID) -> BillingCustomerRow:
    """The tenant's row."""
    async with database.tenant(tenant_id) as session:
        row = await session.get(BillingCustomerRow, tenant_id)
    assert row is not None
    return row


async def mails_to(database: Database, tenant_id: UUID) -> list[str]:
    """Subjects of the mails that wait to be sent for the tenant, in the order they were written."""
    async with database.directory() as session:
        found = await session.execute(
            text(
                "select convert_from(payload, 'utf8') from jobs.pgqueuer "
                "where entrypoint = 'mail.send' and headers->>'tenant' = :tenant order by id"
            ),
            {"tenant": str(tenant_id)},
        )
        return [json.loads(row[0])["subject"] for row in found]


async def waiting_jobs(database: Database, tenant_id: UUID, kind: str) -> int:
    """How many jobs of a kind wait for the tenant."""
    async with database.directory() as session:
        counted = text("select count(*) from jobs.pgqueuer where entrypoint = :kind and headers->>'tenant' = :tenant")
        return int(await session.scalar(counted, {"kind": kind, "tenant": str(tenant_id)}) or 0)


def snapshot(customer_id: str, *, kind: str = "customer.subscription.updated", event_id: str | None = None) -> bytes:
    """A snapshot event about a subscription of the customer's."""
    subject: dict[str, Any] = {"id": "sub_1", "object": "subscription", "customer": customer_id}
    return json.dumps(
        {
            "id": event_id or ids.new_id("evt"),
            "object": "event",
            "type": kind,
            "created": int(clock.now().timestamp()),
            "livemode": False,
            "data": {"object": subject},
        }
    ).encode()


def thin(object_type: str, object_id: str, *, event_id: str | None = None) -> bytes:
    """A thin event about an object."""
    return json.dumps(
        {
            "id": event_id or ids.new_id("evt"),
            "object": "v2.core.event",
            "type": f"v1.{object_type}.updated",
            "created": clock.rfc3339(clock.now()),
            "livemode": False,
            "related_object": {"id": object_id, "type": object_type, "url": f"/v1/{object_type}s/{object_id}"},
        }
    ).encode()


def signature(payload: bytes, *, secret: str = SECRET, at: datetime | None = None) -> str:
    """The header that Stripe would send."""
    moment = int((at or clock.now()).timestamp())
    return stripe.WebhookSignature.generate_signature_header(payload.decode(), secret, moment)


async def connect(gateway: StripeGateway, transport: httpx.AsyncBaseTransport) -> None:
    """Let the gateway's requests go over this transport, once each."""
    http: Any = gateway._http
    await http._client_async.aclose()
    http._client_async = httpx.AsyncClient(transport=transport)
    gateway._client._requestor._options.max_network_retries = 0

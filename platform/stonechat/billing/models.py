"""Tables of billing: customers, invoices, the outbox of use, and what Stripe told us."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import Base, TenantRow

ALL_USE = "stonechat_tokens"
"""The meter of the scheme before, which was told of all use. Its tiered items stay until nothing is left on them."""


class BillingCustomerRow(TenantRow):
    """A tenant that is, or may become, somebody's customer: at most one row each."""

    __tablename__ = "billing_customers"

    provider: Mapped[str]
    """`stripe` or `manual`."""
    customer_id: Mapped[str | None]
    """Stripe's; None for `manual`."""
    subscription_id: Mapped[str | None]
    """The one that counts now."""
    has_payment_method: Mapped[bool] = mapped_column(server_default=text("false"))
    trial_used_at: Mapped[datetime | None]
    """A tenant has one trial in its life."""
    past_due_since: Mapped[datetime | None]
    """When the payment failed that is still owed: the grace clock's beginning."""
    dunning: Mapped[str] = mapped_column(server_default="")
    """The last mail of this episode: empty, `failed`, `reminded` or `ended`."""
    trial_mail_for: Mapped[datetime | None]
    """The end of trial that was written about."""
    metered_from: Mapped[datetime]
    """Use before this is nobody's to bill."""
    metered_through: Mapped[datetime]
    """Every hour before this has been looked at at least once."""
    overage_item: Mapped[dict[str, Any] | None]
    """Stripe's metered item as the last sync saw it: see `billing.counting`."""
    next_number: Mapped[int] = mapped_column(server_default="1")
    """Of the tenant's next invoice of ours, with `manual`."""
    sync_lock: Mapped[str | None]
    """Who replaces our state by Stripe's right now."""
    sync_locked_until: Mapped[datetime | None]
    synced_at: Mapped[datetime | None]
    sync_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DirectoryBillingCustomer(Base):
    """Stripe's customer → tenant."""

    __tablename__ = "directory_billing_customers"

    customer_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]


class InvoiceRow(TenantRow):
    """An invoice: Stripe's, replaced by every sync, or our own."""

    __tablename__ = "invoices"
    __table_args__ = (Index("invoices_created_at_idx", "tenant_id", "created_at"),)

    invoice_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    number: Mapped[str | None]
    """None for drafts."""
    status: Mapped[str]
    """`draft`, `open`, `paid`, `void` or `uncollectible`."""
    currency: Mapped[str]
    total_cents: Mapped[int] = mapped_column(BigInteger)
    tax_cents: Mapped[int] = mapped_column(BigInteger)
    due_cents: Mapped[int] = mapped_column(BigInteger)
    """What is still to be paid."""
    paid_cents: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB())
    """`[{"description", "amount_cents", "quantity"}]`."""
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    hosted_url: Mapped[str | None]
    """Where it is paid."""
    pdf_url: Mapped[str | None]


class MeterRow(TenantRow):
    """The outbox of overage: so many tokens of one slice of time, to be told to Stripe under one identifier, once.

    A slice is an hour, or a part of one. What comes into the ledger late is another row.
    """

    __tablename__ = "meter_outbox"
    __table_args__ = (
        Index("meter_outbox_due_idx", "tenant_id", "next_attempt_at", postgresql_where=text("state = 'waiting'")),
    )

    slice_start: Mapped[datetime] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    slice_end: Mapped[datetime]
    tokens: Mapped[int] = mapped_column(BigInteger)
    meter: Mapped[str] = mapped_column(Text(), server_default=ALL_USE)
    """The name of the events. Before overage was counted here, all use was told to a meter of its own."""
    identifier: Mapped[str]
    customer_id: Mapped[str]
    closes_at: Mapped[datetime | None]
    """The end of the period that it belongs to."""
    state: Mapped[str] = mapped_column(Text(), server_default="waiting")
    """`waiting`, `sent`, or `expired`: no invoice takes it any more. What expired is kept for good."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    first_attempt_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    told_as_of: Mapped[datetime | None]
    """The time that the last attempt told it as of."""
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BillingEventRow(Base):
    """A webhook of Stripe's, once. It says that something changed, never what: that is fetched."""

    __tablename__ = "billing_events"
    __table_args__ = (
        Index("billing_events_received_at_idx", "received_at"),
        Index("billing_events_unmatched_idx", "customer_id", postgresql_where=text("state = 'unmatched'")),
    )

    event_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """Stripe's type, such as `invoice.paid` or `v1.invoice.paid`."""
    thin: Mapped[bool]
    object_type: Mapped[str | None]
    object_id: Mapped[str | None]
    customer_id: Mapped[str | None]
    tenant_id: Mapped[UUID | None]
    livemode: Mapped[bool]
    happened_at: Mapped[datetime]
    received_at: Mapped[datetime]
    state: Mapped[str]
    """`queued`, `done`, `failed`, `unmatched` (no tenant of ours) or `ignored` (nothing to do with a customer)."""
    error: Mapped[str | None]
    processed_at: Mapped[datetime | None]


class WebhookRefusalRow(Base):
    """How many webhooks were refused on a day, and why; of what they said, nothing is kept."""

    __tablename__ = "webhook_refusals"

    day: Mapped[date] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    refused: Mapped[int] = mapped_column(BigInteger)

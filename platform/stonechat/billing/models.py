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
    changed_at: Mapped[datetime | None]
    """The instant at which Stripe was last asked to let another plan begin: from then on its terms hold here as well."""
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
    billed_name: Mapped[str | None]
    """Whom it was made out to, of invoices that we wrote: the tenant's name at that time."""
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
    micros_per_1k_tokens: Mapped[int | None] = mapped_column(BigInteger)
    """The price that was agreed to; None in rows of the time before it was noted, and of all use."""
    currency: Mapped[str | None]
    settlement_id: Mapped[str | None]
    """What became of a row that expired: see `OverageSettlementRow`. None: nobody has decided yet."""
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OverageSettlementRow(TenantRow):
    """So many tokens beyond the plan, at one price, that are an item of an invoice of their own or were waived.

    With `stripe` it is what came too late for the meter; with `manual` each line of overage that we wrote on an invoice.
    """

    __tablename__ = "overage_settlements"
    __table_args__ = (
        Index(
            "overage_settlements_due_idx",
            "tenant_id",
            "next_attempt_at",
            postgresql_where=text("state in ('waiting', 'told')"),
        ),
    )

    settlement_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    state: Mapped[str]
    """`waiting` to be told; `told`: Stripe's next invoice takes it; `invoiced`, on `invoice_id`; `waived`; `refused`."""
    tokens: Mapped[int] = mapped_column(BigInteger)
    micros_per_1k_tokens: Mapped[int | None] = mapped_column(BigInteger)
    """None where no price is known any more: such tokens can only be waived."""
    currency: Mapped[str | None]
    amount_cents: Mapped[int] = mapped_column(BigInteger)
    """Before tax."""
    period_start: Mapped[datetime]
    """Of the use; with `manual`, of its period."""
    period_end: Mapped[datetime]
    reason: Mapped[str]
    decided_by: Mapped[str]
    """The operator's id, or `system`."""
    created_at: Mapped[datetime]
    customer_id: Mapped[str | None]
    item_id: Mapped[str | None]
    """Stripe's, of the invoice item."""
    invoice_id: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    error: Mapped[str | None]


class KeptInvoiceRow(Base):
    """An invoice of a tenant that was deleted: what bookkeeping needs of it, no person, no address and nothing of theirs."""

    __tablename__ = "kept_invoices"
    __table_args__ = (Index("kept_invoices_created_at_idx", "created_at"),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[str] = mapped_column(primary_key=True)
    provider: Mapped[str]
    number: Mapped[str | None]
    status: Mapped[str]
    currency: Mapped[str]
    total_cents: Mapped[int] = mapped_column(BigInteger)
    tax_cents: Mapped[int] = mapped_column(BigInteger)
    paid_cents: Mapped[int] = mapped_column(BigInteger)
    billed_name: Mapped[str]
    """The tenant's, when the invoice was written."""
    lines: Mapped[list[dict[str, Any]]] = mapped_column(JSONB())
    """Of invoices that we wrote: plan, period, tokens, price. Stripe keeps the lines of its own."""
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    created_at: Mapped[datetime]
    due_at: Mapped[datetime | None]
    paid_at: Mapped[datetime | None]
    kept_at: Mapped[datetime]


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

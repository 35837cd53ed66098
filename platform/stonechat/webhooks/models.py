"""The tables `webhook_endpoints` and `webhook_deliveries`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class WebhookEndpointRow(TenantRow):
    """An address of a tenant's that wants to be told."""

    __tablename__ = "webhook_endpoints"

    endpoint_id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    events: Mapped[list[str] | None]
    """The kinds it wants; None: all, those that are yet to come too."""
    enabled: Mapped[bool] = mapped_column(server_default=text("true"))
    disabled_reason: Mapped[str] = mapped_column(server_default="")
    """`by_hand`, `failing` or `gone`; empty while enabled."""
    sealed_secret: Mapped[bytes]
    sealed_old_secret: Mapped[bytes | None]
    old_secret_until: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default=text("0"))
    """Attempts that failed since the last that did not."""
    failing_since: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    """Nothing is sent before: it asked for a pause, or failed several times in a row."""
    lease: Mapped[str | None]
    leased_until: Mapped[datetime | None]
    """Who sends to it just now: one at a time, however many workers there are."""
    last_success_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class WebhookDeliveryRow(TenantRow):
    """One event for one endpoint, and what became of it."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("tenant_id", "endpoint_id", "event_id"),
        Index(
            "webhook_deliveries_due_idx",
            "tenant_id",
            "endpoint_id",
            "next_attempt_at",
            postgresql_where=text("status = 'queued'"),
        ),
        Index("webhook_deliveries_log_idx", "tenant_id", "endpoint_id", "delivery_id"),
        Index("webhook_deliveries_waiting_idx", "next_attempt_at", postgresql_where=text("status = 'queued'")),
        Index("webhook_deliveries_status_idx", "status", "created_at"),
        Index("webhook_deliveries_created_at_idx", "created_at"),
        Index("webhook_deliveries_user_idx", "tenant_id", "user_id", postgresql_where=text("user_id is not null")),
    )

    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str]
    event_id: Mapped[str]
    """Sent as `webhook-id`, the same on every attempt."""
    kind: Mapped[str]
    user_id: Mapped[str | None]
    """The visitor whom it is about: it goes when they are erased."""
    body: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    next_attempt_at: Mapped[datetime | None]
    last_attempt_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str] = mapped_column(server_default="")
    response: Mapped[str] = mapped_column(server_default="")
    """The beginning of the last answer."""
    occurred_at: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

"""The table `events`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class EventRow(TenantRow):
    """Something that happened; `dispatched_at` once every subscriber knows."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_pending_idx", "tenant_id", "event_id", postgresql_where=text("dispatched_at is null")),
        Index(
            "events_conversation_idx",
            "tenant_id",
            text("(payload ->> 'conversation_id')"),
            postgresql_where=text("payload ->> 'conversation_id' is not null"),
        ),
    )

    event_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    payload: Mapped[dict[str, Any]]
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    dispatched_at: Mapped[datetime | None]

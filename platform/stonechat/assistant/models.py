"""The tables `agents` and `agent_versions`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class Agent(TenantRow):
    """An agent: its draft, and which of its versions visitors meet."""

    __tablename__ = "agents"

    agent_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    """The draft's name, for lists."""
    draft: Mapped[dict[str, Any]]
    draft_revision: Mapped[int] = mapped_column(server_default="1")
    """Counts edits of the draft, so that two editors notice each other."""
    published_version: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    archived_at: Mapped[datetime | None]


class AgentVersion(TenantRow):
    """One published configuration. Never changed: the database grants no update."""

    __tablename__ = "agent_versions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "agent_id"], ["agents.tenant_id", "agents.agent_id"], ondelete="CASCADE"),
    )

    agent_id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    config: Mapped[dict[str, Any]]
    published_by: Mapped[str]
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())

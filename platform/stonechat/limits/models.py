"""The table `limit_rules`: one row for a tenant that changed the defaults."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class LimitRulesRow(TenantRow):
    """A tenant's rules."""

    __tablename__ = "limit_rules"

    rules: Mapped[dict[str, Any]]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())

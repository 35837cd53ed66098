"""Plans and settings of the platform; of each tenant, what it is on and the exceptions from it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import Base, TenantRow


class PlanVersionRow(Base):
    """A version of a plan that an operator published, or a built-in one that was retired."""

    __tablename__ = "plan_versions"

    key: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    terms: Mapped[dict[str, Any]]
    """As `PlanTerms` has them; never changed once published."""
    published_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    """From then on nobody can choose it; who is on it stays on it."""
    created_by: Mapped[str]


class PlatformSettingRow(Base):
    """One setting of the platform that operators change while it runs."""

    __tablename__ = "platform_settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Any] = mapped_column(JSONB(none_as_null=False))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_by: Mapped[str]


class TenantPlanRow(TenantRow):
    """What a tenant is on. Without a row it is on the platform's default plan."""

    __tablename__ = "tenant_plans"

    plan_key: Mapped[str]
    plan_version: Mapped[int]
    provider: Mapped[str]
    status: Mapped[str] = mapped_column(Text())
    trial_ends_at: Mapped[datetime | None]
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    cancel_at: Mapped[datetime | None]
    grace_until: Mapped[datetime | None]
    pending_plan_key: Mapped[str | None]
    pending_plan_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PlanOverrideRow(TenantRow):
    """An exception from a tenant's plan; the newest that holds wins."""

    __tablename__ = "plan_overrides"

    override_id: Mapped[str] = mapped_column(primary_key=True)
    field: Mapped[str]
    """A bound of `PlanTerms`, or a feature."""
    value: Mapped[Any] = mapped_column(JSONB(none_as_null=False))
    """A number, or null for no bound; true or false for a feature."""
    reason: Mapped[str]
    expires_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]

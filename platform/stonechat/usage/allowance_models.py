"""What a plan allows a tenant in a period, what the tenant chose for its end, and which alerts it was given."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sqlalchemy import BigInteger, Index, Text, func
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow
from stonechat.plans.subscription import Provider

Bound = Literal["plan", "budget"]
"""Whose bound an alert is about: the plan's, or the tenant's own monthly budget."""


class UsageAllowanceRow(TenantRow):
    """What a tenant whose plan bounds it may use in its period. Beside it there is always a row in `usage_budgets`,
    which everything that is counted for one tenant is locked by. None is no bound."""

    __tablename__ = "usage_allowances"

    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    included_messages: Mapped[int | None] = mapped_column(BigInteger)
    included_tokens: Mapped[int | None] = mapped_column(BigInteger)
    hard_messages: Mapped[int | None] = mapped_column(BigInteger)
    """Where questions begin to be refused: what is included, with grace, or with as much overage as the cap pays for."""
    hard_tokens: Mapped[int | None] = mapped_column(BigInteger)
    overage_micros_per_1k_tokens: Mapped[int | None] = mapped_column(BigInteger)
    """What overage costs, where the plan offers it and the tenant opted in."""
    grace_percent: Mapped[int] = mapped_column(server_default=sql("0"))
    used_messages: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    used_tokens: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    refused: Mapped[int] = mapped_column(server_default=sql("0"))
    """Questions of this period that met its hard end."""
    refused_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageChoicesRow(TenantRow):
    """What the tenant chose about the end of what it may use. Outlives changes of plan."""

    __tablename__ = "usage_choices"

    steps: Mapped[list[str]] = mapped_column(server_default=sql("'{message}'"))
    cheaper_model: Mapped[str | None]
    email_request: Mapped[str | None]
    """How visitors are asked for their address, in the tenant's own words."""
    email_thanks: Mapped[str | None]
    overage_opt_in: Mapped[bool] = mapped_column(server_default=sql("false"))
    spend_cap_micros: Mapped[int | None] = mapped_column(BigInteger)
    """What overage may cost in a period at most."""
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageAlertRow(TenantRow):
    """That so many percent were reached, once in a period."""

    __tablename__ = "usage_alerts"

    bound: Mapped[str] = mapped_column(primary_key=True)
    period_start: Mapped[datetime] = mapped_column(primary_key=True)
    percent: Mapped[int] = mapped_column(primary_key=True)
    alerted_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OverageRow(TenantRow):
    """That the tenant pays, from `since` until just before `until`, for each token beyond what its period includes.

    Only ever ended; see `usage.overage`.
    """

    __tablename__ = "usage_overage"
    __table_args__ = (Index("usage_overage_open_idx", "tenant_id", unique=True, postgresql_where=sql("until is null")),)

    since: Mapped[datetime] = mapped_column(primary_key=True)
    until: Mapped[datetime | None]
    """None while it holds."""
    provider: Mapped[Provider] = mapped_column(Text())
    """By whom it is charged."""
    period_start: Mapped[datetime]
    period_end: Mapped[datetime]
    """Of the period of use in which it began; where it goes on beyond, months follow."""
    included_tokens: Mapped[int] = mapped_column(BigInteger)
    micros_per_1k_tokens: Mapped[int] = mapped_column(BigInteger)
    currency: Mapped[str | None]
    """Of the price; None in agreements of the time before it was noted, which are in their plan's."""

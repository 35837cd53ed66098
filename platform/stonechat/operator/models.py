"""The platform's own tables about operators and what they do. `suspended_tenants`, grants and mail stand in lower rooms."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Index, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import Base


class OperatorRow(Base):
    """A person who may run the platform."""

    __tablename__ = "operators"

    operator_id: Mapped[str] = mapped_column(primary_key=True)
    person_id: Mapped[str] = mapped_column(unique=True)
    totp_sealed: Mapped[bytes | None]
    """The shared secret of the second factor, encrypted; see `second_factor.py`."""
    totp_confirmed_at: Mapped[datetime | None]
    """When the first code fitted; until then the secret is made anew at each sign-in."""
    totp_last_step: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The time step of the last code that fitted: no code serves twice."""
    recovery_hashes: Mapped[list[str]] = mapped_column(server_default="{}")
    """SHA-256, hexadecimal, of the codes that are left."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    disabled_at: Mapped[datetime | None]


class OperatorSessionRow(Base):
    """SHA-256 of an operator's cookie → the operator, how far they have proved who they are, the grant they look through."""

    __tablename__ = "operator_sessions"
    __table_args__ = (Index("operator_sessions_operator_id_idx", "operator_id", "created_at"),)

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    operator_id: Mapped[str]
    stage: Mapped[str]
    """`password`: the second factor is still to come; `full`."""
    address: Mapped[str] = mapped_column(server_default="")
    password_mark: Mapped[str]
    """Of the password that opened it: a new password ends the session."""
    grant_id: Mapped[str | None]
    grant_tenant_id: Mapped[UUID | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]


class OperatorAuditRow(Base):
    """One thing that an operator did. Entries are added, never changed; they outlive tenants."""

    __tablename__ = "operator_audit"
    __table_args__ = (Index("operator_audit_tenant_id_idx", "tenant_id", "audit_id"),)

    audit_id: Mapped[str] = mapped_column(primary_key=True)
    occurred_at: Mapped[datetime] = mapped_column(server_default=func.now())
    operator_id: Mapped[str | None]
    """None for the command line."""
    operator_email: Mapped[str]
    address: Mapped[str] = mapped_column(server_default="")
    action: Mapped[str]
    tenant_id: Mapped[UUID | None]
    subject_id: Mapped[str | None]
    reason: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class OperatorNoteRow(Base):
    """What operators tell each other about a tenant."""

    __tablename__ = "operator_notes"
    __table_args__ = (Index("operator_notes_tenant_id_idx", "tenant_id", "note_id"),)

    note_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    text: Mapped[str]
    operator_email: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantDeletionRow(Base):
    """A tenant that is to be deleted, or was."""

    __tablename__ = "tenant_deletions"

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_name: Mapped[str]
    reason: Mapped[str]
    asked_by: Mapped[str]
    asked_at: Mapped[datetime] = mapped_column(server_default=func.now())
    due_at: Mapped[datetime]
    begun_at: Mapped[datetime | None]
    """When it was first tried: from then on there is no way back."""
    done_at: Mapped[datetime | None]
    tried_at: Mapped[datetime | None]
    """When it was last tried: whoever failed waits for the others."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    problem: Mapped[str] = mapped_column(server_default="")
    """The kind of its last failure."""


class AnnouncementRow(Base):
    """What the platform tells everybody in the console."""

    __tablename__ = "announcements"

    announcement_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    title: Mapped[str]
    body: Mapped[str] = mapped_column(server_default="")
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    withdrawn_at: Mapped[datetime | None]


class FeatureFlagRow(Base):
    """A part of the platform that was switched; without a row, it is as `flags.KNOWN` says."""

    __tablename__ = "feature_flags"

    key: Mapped[str] = mapped_column(primary_key=True)
    is_on: Mapped[bool]
    except_tenants: Mapped[list[UUID]] = mapped_column(ARRAY(PG_UUID(as_uuid=True)), server_default="{}")
    """For whom it is the other way round."""
    updated_by: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TenantSummaryRow(Base):
    """The last 30 days of a tenant, as they were a few minutes ago."""

    __tablename__ = "tenant_summaries"
    __table_args__ = (Index("tenant_summaries_flags_idx", "tenant_id", postgresql_where=text("flags <> '{}'")),)

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    answers: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    revenue_micros: Mapped[int] = mapped_column(BigInteger)
    """What the plan brings in 30 days, in millionths of its currency."""
    cost_today_micros: Mapped[int] = mapped_column(BigInteger)
    cost_usual_micros: Mapped[int] = mapped_column(BigInteger)
    """The mean of the 14 days before today."""
    runs: Mapped[int]
    """Answers begun in the last day."""
    failed_runs: Mapped[int]
    last_seen_at: Mapped[datetime | None]
    """When a model was last asked for this tenant."""
    health: Mapped[str]
    flags: Mapped[list[str]] = mapped_column(server_default="{}")
    refreshed_at: Mapped[datetime]


class TenantMonthRow(Base):
    """What a tenant used in a month."""

    __tablename__ = "tenant_months"
    __table_args__ = (Index("tenant_months_tenant_id_idx", "tenant_id", "month"),)

    month: Mapped[date] = mapped_column(primary_key=True)
    """Its first day."""
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    answers: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)


class PlatformDayRow(Base):
    """One day of the whole platform."""

    __tablename__ = "platform_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    tenants: Mapped[int]
    active_tenants: Mapped[int]
    answers: Mapped[int] = mapped_column(BigInteger)
    tokens: Mapped[int] = mapped_column(BigInteger)
    cost_micros: Mapped[int] = mapped_column(BigInteger)
    revenue_micros: Mapped[int] = mapped_column(BigInteger)
    """A thirtieth of what the plans brought a month, as they were on that day."""


class PlatformMonthRow(Base):
    """What was invoiced and paid in a month, in one currency; months before the last outlive the tenants that paid."""

    __tablename__ = "platform_months"

    month: Mapped[date] = mapped_column(primary_key=True)
    """Its first day."""
    currency: Mapped[str] = mapped_column(primary_key=True)
    invoices: Mapped[int] = mapped_column(BigInteger)
    invoiced_cents: Mapped[int] = mapped_column(BigInteger)
    """Of invoices that were written in the month, neither drafts nor taken back."""
    paid_cents: Mapped[int] = mapped_column(BigInteger)
    """What was paid in the month, whenever it was invoiced."""

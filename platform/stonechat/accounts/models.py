"""Tenants, and who may do what in them. People stand in the directory (`db/directory.py`): they belong to no tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow

Role = Literal["owner", "admin", "editor", "viewer"]


class Tenant(TenantRow):
    """A customer."""

    __tablename__ = "tenants"

    name: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="active")
    """`active` or `suspended`."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Membership(TenantRow):
    """A person's role in a tenant. The directory knows which tenants to look in."""

    __tablename__ = "memberships"

    person_id: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[Role] = mapped_column(Text())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Invitation(TenantRow):
    """Somebody asked to join by mail. The link's secret is kept nowhere."""

    __tablename__ = "invitations"
    __table_args__ = (Index("invitations_email_idx", "tenant_id", "email"),)

    invitation_id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str]
    role: Mapped[Role] = mapped_column(Text())
    invited_by: Mapped[str | None]
    """A person's id."""
    token_hash: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class ApiKey(TenantRow):
    """A key to the management API. The secret itself is kept nowhere."""

    __tablename__ = "api_keys"

    api_key_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str]
    """The first characters of the secret, to tell keys apart."""
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    """Within a minute."""
    revoked_at: Mapped[datetime | None]


class AuditEntry(TenantRow):
    """One thing that somebody did. The application can add entries and read them, nothing else."""

    __tablename__ = "audit_log"

    occurred_at: Mapped[datetime] = mapped_column(primary_key=True, server_default=func.now())
    audit_id: Mapped[str] = mapped_column(primary_key=True)
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    action: Mapped[str]
    """`<noun>.<verb>`, such as `api_key.revoke`."""
    subject_id: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

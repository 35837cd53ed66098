"""The directory: the few tables read before the tenant is known.

Each answers one question, "whose is this?", from something that only its holder has or that is public anyway: the hash
of an API key or a console's cookie, a domain key, an e-mail address. They hold nothing else of a tenant's, so they carry no row-level
security, and the catalogue test exempts exactly the names in `DIRECTORY_TABLES`.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import Base

DIRECTORY_TABLES = frozenset(
    {
        "people",
        "directory_memberships",
        "directory_api_keys",
        "directory_domain_keys",
        "directory_invitations",
        "setup_tokens",
        "console_sessions",
        "sign_in_failures",
        "directory_billing_customers",
        "stonechat_partitioned",
        "alembic_version",
    }
)
"""Tables without a tenant, by name. The job queue lives in a schema of its own, `jobs`."""

PLATFORM_TABLES = frozenset(
    {
        "billing_events",
        "plan_versions",
        "platform_settings",
        "operators",
        "operator_sessions",
        "operator_audit",
        "operator_notes",
        "suspended_tenants",
        "tenant_deletions",
        "announcements",
        "feature_flags",
        "mail_log",
        "tenant_summaries",
        "tenant_months",
        "platform_days",
        "platform_months",
        "webhook_refusals",
        "kept_invoices",
    }
)
"""Tables of the platform's own: plans, settings, operators, what billing heard. They hold nothing of a tenant's that another
could find by asking: the application may read or add there at most, and only operators and sweepers change them."""


class Person(Base):
    """Someone who signs in. One person may belong to several tenants."""

    __tablename__ = "people"

    person_id: Mapped[str] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)
    """Lower-cased."""
    name: Mapped[str]
    password_hash: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DirectoryMembership(Base):
    """Which tenants a person may choose from. The role stands in the tenant's own `memberships`."""

    __tablename__ = "directory_memberships"

    person_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)


class DirectoryApiKey(Base):
    """SHA-256 of an API key → tenant."""

    __tablename__ = "directory_api_keys"

    secret_hash: Mapped[bytes] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    api_key_id: Mapped[str]


class DirectoryDomainKey(Base):
    """Public domain key (`pk_…`) → tenant. The origins are public too, in the frame's headers: see `is_listed_origin`."""

    __tablename__ = "directory_domain_keys"
    __table_args__ = (Index("directory_domain_keys_origins_idx", "origins", postgresql_using="gin"),)

    public_key: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    domain_key_id: Mapped[str]
    origins: Mapped[list[str]] = mapped_column(server_default="{}")


class SetupToken(Base):
    """SHA-256 of a one-time link → the person whose password it sets."""

    __tablename__ = "setup_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    person_id: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="setup")
    """`setup` (the first password) or `reset` (a forgotten one)."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ConsoleSession(Base):
    """SHA-256 of a console cookie → the person signed in, and the tenant they chose to work in."""

    __tablename__ = "console_sessions"
    __table_args__ = (
        Index("console_sessions_person_id_idx", "person_id", "created_at"),
        Index("console_sessions_expires_at_idx", "expires_at"),
    )

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[str]
    """What a person names a session by, to end it; of no use as a cookie."""
    person_id: Mapped[str]
    tenant_id: Mapped[UUID | None]
    user_agent: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Within a minute."""
    expires_at: Mapped[datetime]
    """Whatever happens; idle sessions end sooner."""


class SignInFailures(Base):
    """Failed sign-ins under one key: an address, or an e-mail address as tried from one address."""

    __tablename__ = "sign_in_failures"
    __table_args__ = (Index("sign_in_failures_forget_at_idx", "forget_at"),)

    key_hash: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    blocked_until: Mapped[datetime]
    forget_at: Mapped[datetime]


class DirectoryInvitation(Base):
    """SHA-256 of an invitation's link → tenant."""

    __tablename__ = "directory_invitations"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    invitation_id: Mapped[str]


async def tenant_of_domain_key(session: AsyncSession, public_key: str) -> tuple[UUID, str] | None:
    """The tenant and the domain key's id, or None."""
    row = await session.get(DirectoryDomainKey, public_key)
    return (row.tenant_id, row.domain_key_id) if row else None


async def is_listed_origin(session: AsyncSession, patterns: list[str]) -> bool:
    """Whether any tenant's domain key lists one of these: a CORS preflight names no key, and grants nothing."""
    listed = select(DirectoryDomainKey.public_key).where(DirectoryDomainKey.origins.overlap(patterns)).limit(1)
    return await session.scalar(listed) is not None


async def tenant_of_api_key(session: AsyncSession, secret_hash: bytes) -> tuple[UUID, str] | None:
    """The tenant and the API key's id, or None."""
    row = await session.get(DirectoryApiKey, secret_hash)
    return (row.tenant_id, row.api_key_id) if row else None


async def tenants_of_person(session: AsyncSession, person_id: str) -> list[UUID]:
    """Every tenant the person belongs to, oldest first."""
    chosen = select(DirectoryMembership.tenant_id).where(DirectoryMembership.person_id == person_id)
    return list(await session.scalars(chosen.order_by(DirectoryMembership.tenant_id)))

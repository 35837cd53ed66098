"""Tables of visitors and users, and of the keys that admit and vouch for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class User(TenantRow):
    """Someone who chats: an anonymous visitor (`visitor_hash`), or a user of the tenant's own site (`external_id`)."""

    __tablename__ = "users"
    __table_args__ = (UniqueConstraint("tenant_id", "external_id"), UniqueConstraint("tenant_id", "visitor_hash"))

    user_id: Mapped[str] = mapped_column(primary_key=True)
    external_id: Mapped[str | None]
    visitor_hash: Mapped[bytes | None]
    """SHA-256 of the visitor secret that the browser keeps."""
    verified: Mapped[bool] = mapped_column(server_default=text("false"))
    name: Mapped[str | None]
    email: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DomainKey(TenantRow):
    """A public key on a customer's page: which agent answers there, and on which sites it may appear."""

    __tablename__ = "domain_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "public_key"),)

    domain_key_id: Mapped[str] = mapped_column(primary_key=True)
    agent_id: Mapped[str]
    public_key: Mapped[str]
    name: Mapped[str]
    environment: Mapped[str]
    origins: Mapped[list[str]]
    openai_domain_key: Mapped[str | None]
    """What the stock ChatKit script needs to verify the site with OpenAI; of no meaning to us."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    last_seen_origin: Mapped[str | None]


class IdentityKey(TenantRow):
    """A key with which the tenant's own server signs user tokens."""

    __tablename__ = "identity_keys"
    __table_args__ = (UniqueConstraint("tenant_id", "kid"),)

    identity_key_id: Mapped[str] = mapped_column(primary_key=True)
    kid: Mapped[str]
    kind: Mapped[str]
    sealed_secret: Mapped[bytes | None]
    """The shared secret of an `hs256` key, under the tenant's data key."""
    public_keys: Mapped[dict[str, Any] | None]
    """For `pem` and `jwks`: `{kid: {"alg": ..., "pem": ... | "jwk": {...}}}`."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class UserTokenUse(TenantRow):
    """Which visitor first brought a user token with this `jti`; kept until the token has expired."""

    __tablename__ = "user_token_uses"
    __table_args__ = (Index("user_token_uses_expires_at_idx", "tenant_id", "expires_at"),)

    jti: Mapped[str] = mapped_column(primary_key=True)
    visitor_hash: Mapped[bytes]
    expires_at: Mapped[datetime]

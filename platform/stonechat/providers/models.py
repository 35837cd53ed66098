"""The table `model_providers`."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class ModelProvider(TenantRow):
    """A place where a tenant's models are reached, with the tenant's own key."""

    __tablename__ = "model_providers"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    provider_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    """The `<provider>` of a model's name."""
    kind: Mapped[str]
    """`openai` (Responses) or `openai_compatible` (Chat Completions)."""
    base_url: Mapped[str | None]
    """None for `openai`, whose address is known."""
    preset: Mapped[str | None]
    """Which of `presets.PRESETS` it is; None for OpenAI and for hosts of other kinds."""
    sealed_api_key: Mapped[bytes | None]
    """None where the preset needs no key."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """Moves when the key or the address does; clients built before it are not used after it."""

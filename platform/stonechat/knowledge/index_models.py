"""How a tenant searches, the generations of its index, and embeddings already made, as they stand in Postgres."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, Index, LargeBinary, func
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow


class KnowledgeSettings(TenantRow):
    """How a tenant searches. Without a row: by words alone."""

    __tablename__ = "knowledge_settings"

    embedding_provider: Mapped[str | None]
    embedding_model: Mapped[str | None]
    embedding_dimensions: Mapped[int | None]
    """As asked for; None: whatever the model makes."""
    fusion: Mapped[str] = mapped_column(server_default="rrf")
    reranker_url: Mapped[str | None]
    reranker_model: Mapped[str | None]
    reranker_secret: Mapped[str | None]
    """Name of one of the tenant's secrets."""
    score_floor: Mapped[float | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Generation(TenantRow):
    """One build of a tenant's index. Which one is live, `knowledge_indexes.generation` says; the first has no row."""

    __tablename__ = "knowledge_generations"
    __table_args__ = (
        Index(
            "knowledge_generations_building_idx", "tenant_id", unique=True, postgresql_where=sql("state = 'building'")
        ),
    )

    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str]
    """`building`, `live`, `retired` or `failed`."""
    layout: Mapped[str]
    embedding_provider: Mapped[str | None]
    embedding_model: Mapped[str | None]
    asked_dimensions: Mapped[int | None]
    """What the model was asked for; None: whatever it makes."""
    dimensions: Mapped[int | None]
    """Of the vectors; None: no vectors, or not yet known."""
    done: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    total: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    error: Mapped[str | None]
    """Why it failed, and what to do, in sentences for people."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Embedding(TenantRow):
    """A vector by the model that made it and the SHA-256 of its text: 32-bit floats, little-endian."""

    __tablename__ = "knowledge_embeddings"
    __table_args__ = (Index("knowledge_embeddings_used_idx", "tenant_id", "used_at"),)

    model: Mapped[str] = mapped_column(primary_key=True)
    content_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    used_at: Mapped[datetime] = mapped_column(server_default=func.now())

"""Sources, documents and chunks, as they stand in Postgres."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import BigInteger, ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint, func
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow

SourceKind = Literal["upload", "text", "url", "sitemap", "site", "faq"]
SourceStatus = Literal["ready", "syncing", "failed", "cancelled"]
Schedule = Literal["never", "daily", "weekly", "monthly"]
DocumentStatus = Literal["pending", "processing", "ready", "failed"]


class Source(TenantRow):
    """Where documents come from. A file uploaded by itself has none."""

    __tablename__ = "sources"
    __table_args__ = (Index("sources_next_sync_idx", "next_sync_at", postgresql_where=sql("next_sync_at IS NOT NULL")),)

    source_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    name: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """Of web sources: the bounds, as `knowledge.web.progress.Bounds` has them."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    synced_at: Mapped[datetime | None]
    """When all of it was last fetched to the end."""
    url: Mapped[str | None]
    """Of web sources: where fetching begins, in its normal form."""
    status: Mapped[str] = mapped_column(server_default=sql("'ready'"))
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    """What went wrong with the source as a whole, and what to do, in sentences for people."""
    schedule: Mapped[str] = mapped_column(server_default=sql("'never'"))
    next_sync_at: Mapped[datetime | None]
    sync_id: Mapped[str | None]
    """The sync at work. Jobs of any other do nothing."""
    sync_started_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """Of the present or last sync, as `knowledge.web.progress.Progress` has it."""


class Document(TenantRow):
    """One document. Its original bytes are in the file store, its passages in `chunks`."""

    __tablename__ = "documents"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "source_id"],
            ["sources.tenant_id", "sources.source_id"],
            ondelete="SET NULL (source_id)",
        ),
        ForeignKeyConstraint(
            ["tenant_id", "parent_id"],
            ["documents.tenant_id", "documents.document_id"],
            name="documents_parent_fkey",
            ondelete="SET NULL (parent_id)",
        ),
        Index("documents_status_idx", "tenant_id", "status", "document_id"),
        Index("documents_parent_idx", "tenant_id", "parent_id", postgresql_where=sql("parent_id IS NOT NULL")),
    )

    document_id: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[str | None]
    parent_id: Mapped[str | None]
    """The archive that it came out of."""
    title: Mapped[str]
    title_given: Mapped[bool] = mapped_column(server_default=sql("false"))
    """Whether a person chose the title; otherwise reading the document may improve it."""
    url: Mapped[str | None]
    """Where a citation leads."""
    filename: Mapped[str | None]
    media_type: Mapped[str]
    bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[builtins.bytes] = mapped_column(LargeBinary)
    status: Mapped[str] = mapped_column(server_default=sql("'pending'"))
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    """Why it failed, in a sentence for people."""
    version: Mapped[int] = mapped_column(server_default=sql("0"))
    """The version of the passages that answer; 0 before the first. Passages of other versions never answer."""
    chunks: Mapped[int] = mapped_column(server_default=sql("0"))
    language: Mapped[str | None]
    """ISO 639-1, as detected."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    """Set first of all when a document is deleted: from then on it is not found and never answers."""
    tags: Mapped[list[str]] = mapped_column(server_default=sql("'{}'"))
    """Words to filter searches by."""
    reading: Mapped[str | None]
    """The attempt at reading it that counts; whoever started another, or cancelled, takes this one's word away."""
    progress_stage: Mapped[str | None]
    """What is counted while it is read: `pages`, `files` of an archive, or `passages` written to the index."""
    progress_done: Mapped[int] = mapped_column(server_default=sql("0"))
    progress_total: Mapped[int] = mapped_column(server_default=sql("0"))


class Chunk(TenantRow):
    """A passage: `text` is exactly `extracted[start_offset:end_offset]`."""

    __tablename__ = "chunks"
    __table_args__ = (
        UniqueConstraint("tenant_id", "document_id", "version", "ordinal"),
        ForeignKeyConstraint(
            ["tenant_id", "document_id"], ["documents.tenant_id", "documents.document_id"], ondelete="CASCADE"
        ),
    )

    chunk_id: Mapped[str] = mapped_column(primary_key=True)
    document_id: Mapped[str]
    version: Mapped[int]
    ordinal: Mapped[int]
    text: Mapped[str]
    start_offset: Mapped[int]
    end_offset: Mapped[int]
    page: Mapped[int | None]
    """Counted from 1; only for media that have pages."""
    headings: Mapped[list[str]] = mapped_column(server_default=sql("'{}'"))
    anchor: Mapped[str | None]
    columns: Mapped[str | None]
    """The header row of the table that the passage continues, if it begins inside one."""


class IndexState(TenantRow):
    """What a search must know of a tenant's index: which generation is live, and which languages it holds."""

    __tablename__ = "knowledge_indexes"

    generation: Mapped[int] = mapped_column(server_default=sql("1"))
    languages: Mapped[list[str]] = mapped_column(server_default=sql("'{}'"))
    layout: Mapped[str] = mapped_column(server_default=sql("'per_tenant'"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class KnowledgeCheck(TenantRow):
    """How far the checks of a tenant's index have come, and what they found and repaired, added up over a round."""

    __tablename__ = "knowledge_checks"

    passages_after: Mapped[str | None]
    """The chunk id up to which index and Postgres were compared in this round; null: it begins anew."""
    files_after: Mapped[str | None]
    """The document id up to which files and rows were compared in this round."""
    checked_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    """When everything had been compared once."""
    found: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """Of the last complete round, by the names of `consistency.Findings`."""
    repaired: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'"))
    """Of the round that goes on."""
    reindex_after: Mapped[str | None]
    reindex_done: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    reindex_total: Mapped[int] = mapped_column(BigInteger, server_default=sql("0"))
    reindex_asked_at: Mapped[datetime | None]
    reindexed_at: Mapped[datetime | None]

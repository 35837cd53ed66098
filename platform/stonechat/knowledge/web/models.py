"""The pages that a web source consists of: what is known of each, and which are still to be fetched."""

from __future__ import annotations

import builtins
from datetime import datetime
from typing import Literal

from sqlalchemy import ForeignKeyConstraint, Index, LargeBinary, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from stonechat.db.tenancy import TenantRow

PageState = Literal["waiting", "kept", "duplicate", "moved", "skipped", "failed", "gone"]


class SourcePage(TenantRow):
    """One address of a source: a page, a file, or a sitemap."""

    __tablename__ = "source_pages"
    __table_args__ = (
        UniqueConstraint("tenant_id", "source_id", "url"),
        ForeignKeyConstraint(
            ["tenant_id", "source_id"], ["sources.tenant_id", "sources.source_id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["tenant_id", "document_id"],
            ["documents.tenant_id", "documents.document_id"],
            ondelete="SET NULL (document_id)",
        ),
        Index(
            "source_pages_due_idx",
            "tenant_id",
            "source_id",
            "tries",
            "depth",
            "page_id",
            postgresql_where=sql("due"),
        ),
        Index(
            "source_pages_digest_idx",
            "tenant_id",
            "source_id",
            "digest",
            postgresql_where=sql("document_id IS NOT NULL"),
        ),
        Index(
            "source_pages_document_idx",
            "tenant_id",
            "document_id",
            postgresql_where=sql("document_id IS NOT NULL"),
        ),
        Index(
            "source_pages_same_idx", "tenant_id", "source_id", "same_as", postgresql_where=sql("same_as IS NOT NULL")
        ),
    )

    page_id: Mapped[str] = mapped_column(primary_key=True)
    source_id: Mapped[str]
    url: Mapped[str]
    """In its normal form (`urls.normalise`)."""
    kind: Mapped[str] = mapped_column(server_default=sql("'page'"))
    depth: Mapped[int]
    """Links from where the source begins. Of sitemaps it is negative, so that they come first."""
    redirects: Mapped[int] = mapped_column(server_default=sql("0"))
    """How many redirects in a row led here."""
    state: Mapped[str] = mapped_column(server_default=sql("'waiting'"))
    due: Mapped[bool] = mapped_column(server_default=sql("true"))
    """Whether the sync at work has yet to fetch it."""
    tries: Mapped[int] = mapped_column(server_default=sql("0"))
    """Failures in the sync at work."""
    seen_in: Mapped[str | None]
    """The sync in which a sitemap last named it."""
    same_as: Mapped[str | None]
    """The address of the page that this one is a copy of."""
    document_id: Mapped[str | None]
    """The document it became; it may have been deleted since."""
    etag: Mapped[str | None]
    last_modified: Mapped[str | None]
    digest: Mapped[builtins.bytes | None] = mapped_column(LargeBinary)
    """SHA-256 of the text, of files that are no web pages of their bytes."""
    code: Mapped[str | None]
    reason: Mapped[str | None]
    """Why it is not kept, in sentences for people."""
    status: Mapped[int | None]
    """Of the last answer."""
    fetched_at: Mapped[datetime | None]

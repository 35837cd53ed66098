"""The room's shapes on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from stonechat.knowledge.index import Narrowing
from stonechat.knowledge.models import Document, DocumentStatus, Schedule, Source, SourceKind, SourceStatus
from stonechat.knowledge.search import Passage
from stonechat.knowledge.web.models import PageState, SourcePage
from stonechat.knowledge.web.progress import (
    DEFAULT_DEPTH,
    DEFAULT_PAGES,
    MAX_DEPTH,
    MAX_EXCLUDED,
    MAX_PAGES,
    Bounds,
    Progress,
)


class ReadingOut(BaseModel):
    """How far the reading of a document has come."""

    stage: Literal["pages", "files", "passages"]
    done: int
    total: int


class DocumentOut(BaseModel):
    """A document as the API shows it."""

    id: str
    title: str
    url: str | None
    filename: str | None
    media_type: str
    source_id: str | None
    parent_id: str | None = Field(description="The archive that it came out of; null for others.")
    status: DocumentStatus
    error: str | None = Field(description="Why it failed, or what of it could not be read, in a sentence; else null.")
    error_code: str | None
    progress: ReadingOut | None = Field(description="While it is read, and as soon as there is something to count.")
    bytes: int
    chunks: int
    language: str | None
    tags: list[str] = Field(description="Words to narrow searches by.")
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None

    @classmethod
    def of(cls, document: Document) -> Self:
        """From the row."""
        plain = {name: getattr(document, name) for name in cls.model_fields if name not in ("id", "progress")}
        stage, done, total = document.progress_stage, document.progress_done, document.progress_total
        progress = {"stage": stage, "done": done, "total": total} if document.status == "processing" and stage else None
        return cls.model_validate({"id": document.document_id, "progress": progress} | plain)


class PassageOut(BaseModel):
    """A search result."""

    document_id: str
    chunk_id: str
    title: str
    url: str | None
    text: str
    score: float
    headings: list[str]
    page: int | None

    @classmethod
    def of(cls, passage: Passage) -> Self:
        """From a passage."""
        return cls.model_validate(
            {name: getattr(passage, name) for name in cls.model_fields} | {"headings": list(passage.headings)}
        )


class SearchIn(BaseModel):
    """A search."""

    model_config = ConfigDict(extra="forbid")

    query: str = Field(min_length=1, max_length=4000)
    limit: int = Field(8, ge=1, le=100)
    agent_id: str | None = Field(None, max_length=128)
    source_id: str | None = Field(None, max_length=128, description="Only passages of this source.")
    tags: list[str] = Field([], max_length=20, description="Only of documents that bear any of these tags.")
    language: str | None = Field(None, pattern="^[a-z]{2}$", description="Only of documents in it: ISO 639-1.")

    @property
    def only(self) -> Narrowing:
        """The filters."""
        tags = tuple(tag.lower()[:100] for tag in self.tags)
        return Narrowing(source_id=self.source_id, tags=tags, language=self.language)


class TagsIn(BaseModel):
    """All of a document's tags."""

    model_config = ConfigDict(extra="forbid")

    tags: list[str] = Field(max_length=20)


class SearchOut(BaseModel):
    """Search results, best first."""

    results: list[PassageOut]


class _SourceBase(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class TextSourceIn(_SourceBase):
    """A text written by hand; Markdown is understood."""

    type: Literal["text"]
    name: str = Field(min_length=1, max_length=300)
    text: str = Field(min_length=1, max_length=2_000_000)
    url: str | None = Field(None, max_length=2000)


class Pair(_SourceBase):
    """A question and its answer (Markdown)."""

    question: str = Field(min_length=1, max_length=1000)
    answer: str = Field(min_length=1, max_length=20_000)
    variants: list[Annotated[str, Field(min_length=1, max_length=1000)]] = Field(
        default_factory=list, max_length=20, description="Other ways to ask it."
    )


class FaqSourceIn(_SourceBase):
    """Question-answer pairs; each becomes a passage of its own."""

    type: Literal["faq"]
    name: str = Field(min_length=1, max_length=300)
    pairs: list[Pair] = Field(min_length=1, max_length=1000)
    url: str | None = Field(None, max_length=2000)


class WebSourceIn(_SourceBase):
    """A page (`url`), the pages that a sitemap lists, or what can be reached by links from a page and lies below it (`site`)."""

    type: Literal["url", "sitemap", "site"]
    url: str = Field(min_length=1, max_length=2000)
    name: str | None = Field(None, min_length=1, max_length=300)
    schedule: Schedule = Field("never", description="How often it is fetched again.")
    max_pages: int = Field(DEFAULT_PAGES, ge=1, le=MAX_PAGES)
    max_depth: int = Field(
        DEFAULT_DEPTH, ge=0, le=MAX_DEPTH, description="Links to follow from the first page; sites only."
    )
    exclude: list[Annotated[str, Field(pattern="^/", max_length=500)]] = Field(
        default_factory=list, max_length=MAX_EXCLUDED, description="Paths to leave out, with all below them."
    )


class SourcePatch(_SourceBase):
    """What can be changed of a source; what is left out stays."""

    name: str | None = Field(None, min_length=1, max_length=300)
    schedule: Schedule | None = None
    text: str | None = Field(None, min_length=1, max_length=2_000_000, description="Of a text that was written here.")
    pairs: list[Pair] | None = Field(None, max_length=1000, description="In place of all that there are.")
    url: str | None = Field(None, max_length=2000, description="Of what was written here; empty for none.")


SourceIn = Annotated[TextSourceIn | FaqSourceIn | WebSourceIn, Field(discriminator="type")]


class SyncProgress(BaseModel):
    """How far the present, or the last, sync of a web source has come."""

    found: int = Field(description="Addresses known.")
    done: int = Field(description="Of these, settled.")
    documents: int = Field(description="Pages that answer.")
    added: int
    changed: int
    unchanged: int
    removed: int
    skipped: int = Field(description="Left out for a reason that is no failure, such as copies and redirects.")
    failed: int
    bytes: int
    notes: list[str] = Field(description="Which bounds were reached, in sentences.")
    started_at: datetime | None


class SourceOut(BaseModel):
    """A source as the API shows it."""

    id: str
    type: SourceKind
    name: str
    url: str | None
    status: SourceStatus
    error: str | None = Field(description="What went wrong with the source as a whole, and what to do; else null.")
    error_code: str | None
    schedule: Schedule
    next_sync_at: datetime | None
    max_pages: int | None = Field(description="Null for what was written here, as are the next three.")
    max_depth: int | None
    exclude: list[str] | None
    progress: SyncProgress | None
    created_at: datetime
    synced_at: datetime | None

    @classmethod
    def of(cls, source: Source) -> Self:
        """From the row."""
        of_the_web = source.url is not None
        bounds, progress = Bounds.of(source), Progress.of(source)
        return cls.model_validate(
            {name: getattr(source, name) for name in ("name", "url", "status", "error", "error_code", "schedule")}
            | {name: getattr(source, name) for name in ("next_sync_at", "created_at", "synced_at")}
            | {
                "id": source.source_id,
                "type": source.kind,
                "max_pages": bounds.max_pages if of_the_web else None,
                "max_depth": bounds.max_depth if of_the_web else None,
                "exclude": list(bounds.exclude) if of_the_web else None,
                "progress": progress.model_dump() | {"started_at": source.sync_started_at} if of_the_web else None,
            }
        )


class SourcePageOut(BaseModel):
    """An address of a web source."""

    id: str
    url: str
    kind: Literal["page", "sitemap"]
    state: PageState
    document_id: str | None
    same_as: str | None = Field(description="The page that this one is a copy of.")
    code: str | None
    reason: str | None = Field(description="Why it is not kept, in sentences.")
    http_status: int | None
    fetched_at: datetime | None

    @classmethod
    def of(cls, page: SourcePage) -> Self:
        """From the row."""
        names = ("url", "kind", "state", "document_id", "same_as", "code", "reason", "fetched_at")
        return cls.model_validate(
            {name: getattr(page, name) for name in names} | {"id": page.page_id, "http_status": page.status}
        )


class SourceDetailOut(SourceOut):
    """A source, and what failed in it of late."""

    recent_errors: list[SourcePageOut]

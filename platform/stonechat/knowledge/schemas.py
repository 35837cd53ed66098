"""The room's shapes on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from stonechat.knowledge.models import Document, DocumentStatus, Source, SourceKind
from stonechat.knowledge.search import Passage


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
    bytes: int
    chunks: int
    language: str | None
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None

    @classmethod
    def of(cls, document: Document) -> Self:
        """From the row."""
        return cls.model_validate(
            {"id": document.document_id} | {name: getattr(document, name) for name in cls.model_fields if name != "id"}
        )


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


class FaqSourceIn(_SourceBase):
    """Question-answer pairs; each becomes a passage of its own."""

    type: Literal["faq"]
    name: str = Field(min_length=1, max_length=300)
    pairs: list[Pair] = Field(min_length=1, max_length=1000)
    url: str | None = Field(None, max_length=2000)


class WebSourceIn(_SourceBase):
    """A page or a site. Understood, and refused with `source_type_not_supported` until it can be fetched."""

    type: Literal["url", "sitemap"]
    url: str = Field(min_length=1, max_length=2000)
    name: str | None = Field(None, max_length=300)


SourceIn = Annotated[TextSourceIn | FaqSourceIn | WebSourceIn, Field(discriminator="type")]


class SourceOut(BaseModel):
    """A source as the API shows it."""

    id: str
    type: SourceKind
    name: str
    created_at: datetime
    synced_at: datetime | None

    @classmethod
    def of(cls, source: Source) -> Self:
        """From the row."""
        return cls.model_validate(
            {
                "id": source.source_id,
                "type": source.kind,
                "name": source.name,
                "created_at": source.created_at,
                "synced_at": source.synced_at,
            }
        )

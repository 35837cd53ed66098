"""Documents in words: kinds, sizes, states, and what to do about one that could not be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stonechat.knowledge.browse import WRITTEN
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.models import Document, DocumentStatus

Show = Literal["", "waiting", "ready", "failed"]
"""What the list is narrowed to."""
STATUSES: dict[Show, tuple[DocumentStatus, ...]] = {
    "": ("pending", "processing", "ready", "failed"),
    "waiting": ("pending", "processing"),
    "ready": ("ready",),
    "failed": ("failed",),
}
_STATES: dict[str, tuple[str, str]] = {
    "pending": ("Waiting to be read", "info"),
    "processing": ("Being read", "info"),
    "ready": ("Ready", "success"),
    "failed": ("Not readable", "error"),
}
_KINDS = {
    MediaType.TEXT: "Text file",
    MediaType.MARKDOWN: "Markdown file",
    MediaType.HTML: "Web page (HTML)",
    MediaType.PDF: "PDF",
    MediaType.RST: "reStructuredText file",
    MediaType.DOCX: "Word document",
    MediaType.PPTX: "Presentation",
    MediaType.XLSX: "Spreadsheet",
    MediaType.ODT: "OpenDocument text",
    MediaType.EPUB: "E-book",
    MediaType.RTF: "RTF document",
    MediaType.EML: "E-mail",
    MediaType.CSV: "Table (CSV)",
    MediaType.TSV: "Table (TSV)",
    MediaType.JSON: "JSON file",
    MediaType.VTT: "Subtitles",
    MediaType.SRT: "Subtitles",
    MediaType.CODE: "Source code",
    MediaType.ARCHIVE: "Archive",
    MediaType.FAQ: "Question and answer",
}
_ADVICE = {
    "document_encrypted": "Save a copy without a password and upload that one.",
    "document_without_text": "If it is a scan, run text recognition (OCR) over it first, or type the important parts as a text.",
    "document_too_demanding": "Cut it into smaller files, or save it as plain text, and upload those.",
}
_OTHER_ADVICE = "Read it again; if that does not help, save it afresh as a PDF or as plain text, and upload it in place of this one."


@dataclass(frozen=True, slots=True)
class DocumentLine:
    """A document as the console shows it."""

    id: str
    title: str
    kind: str
    name: str
    """The file's name, or where on the web it was found; empty for what was written by hand."""
    url: str | None
    size: str
    passages: int
    state: str
    badge: str
    waiting: bool
    failed: bool
    reason: str
    advice: str
    has_original: bool
    written: bool
    language: str | None
    created_at: datetime
    ready_at: datetime | None
    status: str
    answers: bool
    """Whether it is answering now: a document that is read again answers with what was read before."""
    progress: str
    """How far it is, or what it waits for, in words; empty if there is nothing to say."""
    note: str
    """What to know of a document that is ready; empty if there is nothing."""
    look: str
    """Changes whenever there is something new to show of a document that waits. Without a dot."""


def describe(document: Document, kinds: dict[str, str], places: dict[str, int] | None = None) -> DocumentLine:
    """`kinds`: of the sources of documents that somebody wrote, by their ids; `places`: in the line, of those that wait."""
    source = kinds.get(document.source_id or "")
    written = source in WRITTEN
    state, badge = _STATES[document.status]
    failed = document.status == "failed"
    reason = (document.error or "No text could be read from it.") if failed else ""
    media_type = MediaType(document.media_type)
    return DocumentLine(
        id=document.document_id,
        title=document.title,
        kind="Text" if source == "text" else _KINDS[media_type],
        name="" if written else document.filename or (document.url or "").partition("://")[2],
        url=document.url,
        size=in_bytes(document.bytes),
        passages=document.chunks,
        state=state,
        badge=badge,
        waiting=document.status in STATUSES["waiting"],
        failed=failed,
        reason=reason,
        # A reason of two sentences says already what to do.
        advice=_ADVICE.get(document.error_code or "", _OTHER_ADVICE) if failed and ". " not in reason else "",
        has_original=media_type is not MediaType.FAQ,
        written=written,
        language=document.language,
        created_at=document.created_at,
        ready_at=document.ready_at,
        status=document.status,
        answers=document.chunks > 0 and not failed,
        progress=_progress(document, (places or {}).get(document.document_id)),
        note=(document.error or "") if document.status == "ready" else "",
        look=look(document),
    )


def look(document: Document) -> str:
    """What a page compares to learn whether there is news of a document."""
    if document.status == "processing" and document.progress_stage:
        return f"processing-{document.progress_stage}-{document.progress_done}"
    return "pending-again" if document.status == "pending" and document.error else document.status


def _progress(document: Document, place: int | None) -> str:
    match document.status, document.progress_stage:
        case "pending", _ if document.error:
            return document.error
        case "pending", _ if place is not None:
            before = "One of your documents is" if place == 1 else f"{place} of your documents are"
            return f"{before} read before it." if place else "Next in line."
        case "processing", "pages":
            return f"Page {document.progress_done:,} of {document.progress_total:,}"
        case "processing", "files":
            return f"{document.progress_done:,} of {document.progress_total:,} files taken out"
        case "processing", "passages":
            return f"{document.progress_done:,} of {document.progress_total:,} passages made searchable"
        case _:
            return ""


def by_filter(counts: dict[str, int]) -> dict[str, Any]:
    """What the filter above the list is drawn from, from how many documents are in each status."""
    held = {name: sum(counts.get(status, 0) for status in statuses) for name, statuses in STATUSES.items()}
    return {"counts": held, "total": held[""]}


def in_bytes(size: int) -> str:
    """`512 bytes`, `3 KB`, `2.4 MB`."""
    if size < 1024:
        return f"{size} byte{'' if size == 1 else 's'}"
    if size < 1024 * 1024:
        return f"{round(size / 1024)} KB"
    return f"{size / 1024 / 1024:.1f} MB"

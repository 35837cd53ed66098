"""Web sources in words: what they are, how far they have come, and what became of each page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from stonechat.knowledge.models import Source
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.progress import DEFAULT_PAGES, MAX_PAGES, Bounds, Progress
from stonechat_admin.forms import Filled

KINDS = [
    ("site", "A whole site, or a part of it", "Everything below this address that can be reached by links from it."),
    ("sitemap", "The pages of a sitemap", "The XML file that lists a site’s pages, often at /sitemap.xml."),
    ("url", "One page", "This address and nothing else; a PDF or an Office file will do, too."),
]
SCHEDULES = [
    ("never", "Only when asked to"),
    ("daily", "Every day"),
    ("weekly", "Every week"),
    ("monthly", "Every month"),
]
SITE_FORM: dict[str, Any] = {
    "site_form": Filled({"url": "", "type": "site", "schedule": "weekly", "max_pages": DEFAULT_PAGES, "exclude": ""}),
    "kinds": KINDS,
    "schedules": SCHEDULES,
    "most_pages": MAX_PAGES,
}
"""What the form for a new source is drawn from."""
PageFilter = Literal["", "kept", "failed", "left"]
PAGE_FILTERS: dict[PageFilter, tuple[str, ...]] = {
    "": (),
    "kept": ("kept",),
    "failed": ("failed", "gone"),
    "left": ("skipped", "duplicate", "moved"),
}
_STATES = {
    "ready": ("Up to date", "success"),
    "syncing": ("Being fetched", "info"),
    "failed": ("Failed", "error"),
    "cancelled": ("Stopped", "warning"),
}
_PAGE_STATES = {
    "waiting": ("Not fetched yet", "neutral"),
    "kept": ("Read", "success"),
    "duplicate": ("Copy", "neutral"),
    "moved": ("Redirects", "neutral"),
    "skipped": ("Left out", "neutral"),
    "failed": ("Failed", "error"),
    "gone": ("Gone", "warning"),
}


@dataclass(frozen=True, slots=True)
class SiteLine:
    """A web source as the console shows it."""

    id: str
    name: str
    url: str
    kind: str
    bounds: str
    """What belongs to it, in a sentence."""
    state: str
    badge: str
    at_work: bool
    error: str
    progress: Progress
    percent: int
    schedule: str
    synced_at: datetime | None
    next_sync_at: datetime | None


@dataclass(frozen=True, slots=True)
class PageLine:
    """An address of a source as the console shows it."""

    id: str
    url: str
    state: str
    badge: str
    reason: str
    document_id: str | None
    fetched_at: datetime | None


def describe(source: Source) -> SiteLine:
    """From the row."""
    state, badge = _STATES[source.status]
    progress = Progress.of(source)
    return SiteLine(
        id=source.source_id,
        name=source.name,
        url=source.url or "",
        kind={value: label for value, label, _ in KINDS}.get(source.kind, ""),
        bounds=_bounds(source),
        state=state,
        badge=badge,
        at_work=source.status == "syncing",
        error=source.error or "",
        progress=progress,
        percent=min(100, round(100 * progress.done / progress.found)) if progress.found else 0,
        schedule=dict(SCHEDULES).get(source.schedule, ""),
        synced_at=source.synced_at,
        next_sync_at=source.next_sync_at,
    )


def _bounds(source: Source) -> str:
    bounds = Bounds.of(source)
    if source.kind == "url":
        return "This page and nothing else."
    what = "pages that the sitemap lists" if source.kind == "sitemap" else "pages below this address"
    left_out = f", but for {', '.join(bounds.exclude)}" if bounds.exclude else ""
    return f"At most {bounds.max_pages:,} {what}{left_out}."


def describe_page(page: SourcePage) -> PageLine:
    """From the row."""
    state, badge = _PAGE_STATES[page.state]
    return PageLine(
        id=page.page_id,
        url=page.url,
        state="Read as a list" if page.kind == "sitemap" and page.state == "kept" else state,
        badge=badge,
        reason=page.reason or "",
        document_id=page.document_id,
        fetched_at=page.fetched_at,
    )

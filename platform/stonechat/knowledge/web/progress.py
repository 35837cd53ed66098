"""How far a sync has come, and the bounds of what it may fetch, as they stand in a source's row."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from stonechat.knowledge.models import Source

DEFAULT_PAGES, MAX_PAGES = 500, 5000
DEFAULT_DEPTH, MAX_DEPTH = 10, 50
MAX_EXCLUDED = 50
VISITS_PER_PAGE = 3
SPARE_VISITS = 100
MAX_RUN_BYTES = 2 * 1024 * 1024 * 1024
MAX_RUN_HOURS = 24
MAX_FILES = 200


class Bounds(BaseModel):
    """What of a site belongs to a source."""

    model_config = ConfigDict(extra="ignore")

    max_pages: int = DEFAULT_PAGES
    max_depth: int = DEFAULT_DEPTH
    exclude: tuple[str, ...] = ()

    @property
    def max_visits(self) -> int:
        """Requests for pages in one sync, and addresses that are remembered: redirects, copies and failures count, too."""
        return VISITS_PER_PAGE * self.max_pages + SPARE_VISITS

    @classmethod
    def of(cls, source: Source) -> Self:
        """From the row."""
        return cls.model_validate(source.settings)


class Progress(BaseModel):
    """Counts of the present sync, or of the last one."""

    model_config = ConfigDict(extra="ignore")

    found: int = 0
    """Addresses known."""
    done: int = 0
    """Of these, settled in this sync."""
    documents: int = 0
    """Pages that answer."""
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    skipped: int = 0
    """Left out for a reason that is not a failure: copies, redirects, what robots are told to leave alone."""
    failed: int = 0
    files: int = 0
    """Documents other than web pages."""
    bytes: int = 0
    """Of the bodies received."""
    part: int = 0
    """Which of the sync's jobs is at work: a job of another number does nothing."""
    visits: int = 0
    copies: int = 0
    """Copies come across, whose originals may yet turn out not to be kept."""
    streak: int = 0
    """Failures of the site in a row."""
    sitemap_failed: bool = False
    notes: list[str] = Field(default_factory=list, max_length=10)
    """Which bounds were reached, in sentences."""

    @classmethod
    def of(cls, source: Source) -> Self:
        """From the row."""
        return cls.model_validate(source.progress)

    def note(self, sentence: str) -> None:
        """Remember that a bound was reached."""
        if sentence not in self.notes and len(self.notes) < 10:
            self.notes.append(sentence)

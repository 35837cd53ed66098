"""The one source of the current time.

Code asks `clock.now()` rather than `datetime.now()`, so that a test can hold time still with
`monkeypatch.setattr(clock, "now", ...)`, and so that no naive datetime enters the system.
"""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format an aware datetime as RFC 3339 in UTC with milliseconds: `2026-11-22T15:48:50.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

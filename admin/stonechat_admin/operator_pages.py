"""What the operators' pages share: files of comma-separated values, links to the next page, sums in words, charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Response

from stonechat import clock
from stonechat.errors import NotFound
from stonechat.plans.terms import NUMBER_FIELDS, Feature
from stonechat.plans.words import FEATURE_NAMES, FIELD_NAMES
from stonechat.usage.prices import MICROS
from stonechat.web.csv_files import csv_text

WIDE, TALL = 720, 180
FIELDS = [(name, FIELD_NAMES[name]) for name in NUMBER_FIELDS] + [(each.value, FEATURE_NAMES[each]) for each in Feature]
"""Of a plan: what exceptions can be made for."""


def csv_file(name: str, headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
    """A download."""
    disposition = f'attachment; filename="{name}-{clock.now():%Y-%m-%d}.csv"'
    headers = {"Content-Disposition": disposition, "Cache-Control": "no-store"}
    return Response(csv_text(rows, headings=headings), media_type="text/csv", headers=headers)


def here(path: str, **asked: str) -> str:
    """A list's address with what was asked of it, so that who did something there comes back to what was looked at."""
    asked = {name: value for name, value in asked.items() if value}
    return f"{path}?{urlencode(asked)}" if asked else path


def dollars(micros: int) -> str:
    """`$1,234.50`, `-$3.20`; four places below a dollar, so that little is not nothing."""
    amount = Decimal(abs(micros)) / MICROS
    text = f"${amount:,.2f}" if amount >= 1 or not micros else f"${amount:.4f}"
    return f"-{text}" if micros < 0 else text


def tenant_of(text: str) -> UUID:
    """The tenant that an address names. Raises `NotFound`."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such tenant.") from None


def moment_of(text: str) -> datetime | None:
    """What a field of type `datetime-local` or `date` says, in UTC; None for nothing. Raises `ValueError`."""
    text = text.strip()
    return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None


@dataclass(frozen=True, slots=True)
class Point:
    """A column of a chart: what it stands for, and where it is drawn."""

    day: date
    values: tuple[int, ...]
    """Of each series."""
    x: float
    tops: tuple[float, ...]
    heights: tuple[float, ...]
    width: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Columns side by side, one for each series, in units of the drawing."""

    points: list[Point]
    names: tuple[str, ...]
    most: int
    wide: int = WIDE
    tall: int = TALL


def chart(days: Sequence[tuple[date, tuple[int, ...]]], *, names: tuple[str, ...]) -> Chart:
    """Of days in order; values below nothing are drawn as nothing."""
    most = max((value for _, values in days for value in values), default=0) or 1
    step = WIDE / max(len(days), 1)
    width = round(step * 0.84 / max(len(names), 1), 2)
    points = []
    for number, (day, values) in enumerate(days):
        heights = tuple(round(TALL * max(value, 0) / most, 1) for value in values)
        tops = tuple(round(TALL - height, 1) for height in heights)
        points.append(Point(day, values, round(number * step + step * 0.08, 2), tops, heights, width))
    return Chart(points, names, most)

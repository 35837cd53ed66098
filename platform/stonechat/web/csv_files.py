"""Lists as comma-separated values: the one place that writes them, for the console, the API and the operators' room."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from stonechat import clock

_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet begins to calculate at: OWASP's list, with the wide forms that some take for the same."""


def csv_text(rows: Iterable[Sequence[Any]], *, headings: Sequence[str] = ()) -> str:
    """The rows, under their headings if there are any. Text that a spreadsheet would take for a formula has an apostrophe
    before it."""
    out = io.StringIO()
    writer = csv.writer(out)
    if headings:
        writer.writerow(headings)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return clock.rfc3339(value)
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    # Spreadsheets skip blanks first.
    return f"'{text}" if text[:1] in _FORMULA or text.lstrip()[:1] in _FORMULA else text

"""Tables: XLSX by openpyxl, CSV and TSV. Each sheet a heading, each row a table's row, the first its columns' names."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date, datetime, time
from typing import Literal

import openpyxl

from stonechat.errors import DocumentTooDemanding
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded
from stonechat.knowledge.extractors.office import check_zip

MAX_ROWS = 200_000
MAX_COLUMNS = 200
_LABELLED = 3
"""From so many columns on, a cell says which column it is in: a row far below its names is else a riddle."""


def extract_xlsx(data: bytes) -> Extracted:
    """A workbook: the values that were last calculated, sheet by sheet. Hidden sheets are left out."""
    check_zip(data)
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    out = TextBuilder()
    out.title = (book.properties.title or "").strip() or None
    rows = 0
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            continue
        out.add("heading", sheet.title, level=2)
        table = [[_shown(value) for value in row[:MAX_COLUMNS]] for row in sheet.iter_rows(values_only=True)]
        rows += len(table)
        _check(rows)
        _add_rows(out, table)
    return out.build()


def extract_csv(data: bytes) -> Extracted:
    """Values between commas, semicolons, tabs or bars, whichever the file uses."""
    return _separated(data, None)


def extract_tsv(data: bytes) -> Extracted:
    """Values between tabs."""
    return _separated(data, "\t")


def _separated(data: bytes, delimiter: str | None) -> Extracted:
    text = decoded(data, limit=MAX_CHARACTERS).replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    if delimiter is None:
        first = text.partition("\n")[0]
        delimiter = max(",;\t|", key=first.count)
    out = TextBuilder()
    table: list[list[str]] = []
    csv.field_size_limit(1_000_000)
    for row in csv.reader(io.StringIO(text), delimiter=delimiter):
        table.append([" ".join(cell.split()) for cell in row[:MAX_COLUMNS]])
        _check(len(table))
    _add_rows(out, table)
    return out.build()


def _add_rows(out: TextBuilder, table: Iterable[list[str]]) -> None:
    names: list[str] = []
    kind: Literal["table"] = "table"
    for cells in table:
        while cells and not cells[-1]:
            cells.pop()
        if not any(cells):
            names = []  # an empty row: another table begins
        elif not names:
            names = cells
            out.add(kind, " | ".join(cells), level=1)
        elif len(names) >= _LABELLED and len(cells) <= len(names):
            labelled = [
                f"{name}: {cell}" if name and number else cell
                for number, (name, cell) in enumerate(zip(names, cells, strict=False))
                if cell
            ]
            out.add(kind, " | ".join(labelled))
        else:
            out.add(kind, " | ".join(cells))


def _shown(value: object) -> str:  # noqa: PLR0911  a line a kind
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() if value.is_integer():
            return str(int(value))
        case float():
            return f"{value:.10g}"
        case datetime():
            return value.strftime("%Y-%m-%d" if value.time() == time() else "%Y-%m-%d %H:%M")
        case date():
            return value.isoformat()
        case _:
            return " ".join(str(value).split())


def _check(rows: int) -> None:
    if rows > MAX_ROWS:
        raise DocumentTooDemanding(f"This table has more than {MAX_ROWS:,} rows. Split it into several.")

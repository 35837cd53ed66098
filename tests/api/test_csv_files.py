"""Files of comma-separated values: whoever opens one in a spreadsheet is safe, wherever it came from."""

from __future__ import annotations

import ast
import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

import stonechat
import stonechat_admin
from stonechat.web import csv_files
from stonechat.web.csv_files import csv_text

SOURCES = [Path(module.__file__).parent for module in (stonechat, stonechat_admin) if module.__file__]


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize(
    "first", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\n=", "\u00a0+", "＝", "＋", "－", "＠"]
)
def test_text_that_would_be_calculated_has_an_apostrophe_before_it(first: str) -> None:
    cell = f'{first}HYPERLINK("https://example.com","Pay")'
    assert read(csv_text([[cell, [cell]]])) == [[f"'{cell}", f"'{cell}"]]


def test_everything_else_is_as_it_is() -> None:
    moment = datetime(2027, 3, 1, 12, tzinfo=UTC)
    rows = [['a, "b"\nc', -5, 2.5, None, True, moment, ["x", "y"], "1-2"]]
    assert read(csv_text(rows, headings=["one", "two"])) == [
        ["one", "two"],
        ['a, "b"\nc', "-5", "2.5", "", "True", "2027-03-01T12:00:00.000Z", "x y", "1-2"],
    ]
    assert csv_text([]) == ""


def test_nobody_else_writes_such_files() -> None:
    writers = {
        path.name
        for folder in SOURCES
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in ("writer", "DictWriter")
        and ast.unparse(node.value) == "csv"
    }
    assert writers == {Path(csv_files.__file__).name}

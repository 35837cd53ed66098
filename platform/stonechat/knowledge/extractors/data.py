"""JSON, and JSON Lines: objects as names and values, with the path to them as headings."""

from __future__ import annotations

import json
from typing import Any

from stonechat.errors import DocumentTooDemanding, DocumentUnreadable
from stonechat.knowledge.chunk import Extracted
from stonechat.knowledge.extractors.builder import MAX_CHARACTERS, TextBuilder, decoded

MAX_VALUES = 200_000
_MAX_DEPTH = 12
_NAMES = ("title", "name", "question", "heading", "label", "subject", "id")
"""Fields that say what an object of a list is about, in this order."""


def extract_json(data: bytes) -> Extracted:
    """A JSON value, or one on each line. Objects become sections, lists of objects a section each."""
    text = decoded(data, limit=MAX_CHARACTERS).lstrip("\ufeff").strip()
    try:
        value = json.loads(text)
    except RecursionError:
        raise DocumentTooDemanding("This JSON is nested too deeply.") from None
    except ValueError:
        value = _lines(text)
    writer = _Writer(TextBuilder())
    writer.write(value, depth=1)
    return writer.out.build()


def _lines(text: str) -> list[Any]:
    values = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                values.append(json.loads(line))
            except (ValueError, RecursionError):
                raise DocumentUnreadable(f"This is not valid JSON: look at line {number}.") from None
    return values


class _Writer:
    def __init__(self, out: TextBuilder) -> None:
        self.out = out
        self._values = 0

    def write(self, value: Any, *, depth: int) -> None:
        """Append a value, `depth` levels below the top."""
        self._values += 1
        if self._values > MAX_VALUES:
            raise DocumentTooDemanding(f"This JSON holds more than {MAX_VALUES:,} values. Split it into several.")
        if depth > _MAX_DEPTH:
            self.out.add("paragraph", json.dumps(value, ensure_ascii=False))
        elif isinstance(value, dict):
            self._object(value, depth)
        elif isinstance(value, list):
            self._list(value, depth)
        else:
            self.out.add("paragraph", _plain(value))

    def _object(self, value: dict[str, Any], depth: int) -> None:
        simple = {name: each for name, each in value.items() if not isinstance(each, dict | list)}
        self.out.add(
            "paragraph", "\n".join(f"{name}: {_plain(each)}" for name, each in simple.items() if each is not None)
        )
        for name, each in value.items():
            if name not in simple and each:
                self.out.add("heading", name, level=min(depth, 6))
                self.write(each, depth=depth + 1)

    def _list(self, values: list[Any], depth: int) -> None:
        for each in values:
            if isinstance(each, dict):
                named = next((each[name] for name in _NAMES if isinstance(each.get(name), str) and each[name]), None)
                if named:
                    self.out.add("heading", named, level=min(depth, 6))
                self.write(each, depth=depth + 1)
            elif isinstance(each, list):
                self.write(each, depth=depth + 1)
            else:
                self.out.add("list", _plain(each))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

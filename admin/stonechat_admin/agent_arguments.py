"""A tool's arguments as rows of a form, and rows as the JSON Schema that models are given."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_ARGUMENTS = 20
FIELDS = ("name", "about", "type", "needed", "only", "example")
TYPES = [
    ("string", "Text"),
    ("integer", "Whole number"),
    ("number", "Number"),
    ("boolean", "Yes or no"),
    ("strings", "Several texts"),
]
NEEDED = [("yes", "Always needed"), ("no", "May be left out")]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,47}")
_TOP = {"type", "properties", "required", "additionalProperties"}
_INNER = {"type", "description", "enum", "examples"}
_YES, _NO = {"yes", "true", "1", "on"}, {"no", "false", "0", "off"}

Row = dict[str, str]


def rows_of(schema: Mapping[str, Any]) -> list[Row] | None:
    """The rows that say what the schema says; None where it says more than rows can."""
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if set(schema) - _TOP or schema.get("additionalProperties", False) is not False:
        return None
    if not isinstance(required, list) or set(map(str, required)) - set(properties):
        return None
    rows = [_row(name, about, name in required) for name, about in properties.items()]
    return None if None in rows or len(rows) > MAX_ARGUMENTS else [row for row in rows if row is not None]


def _row(name: str, about: Any, needed: bool) -> Row | None:
    if not isinstance(about, dict) or not _NAME.fullmatch(name):
        return None
    kind: Any = about.get("type")
    if about == {**about, "type": "array", "items": {"type": "string"}}:
        kind, about = "strings", {key: value for key, value in about.items() if key != "items"}
    description, values, examples = about.get("description", ""), about.get("enum", []), about.get("examples", [])
    if set(about) - _INNER or kind not in dict(TYPES) or not isinstance(description, str) or "\n" in description:
        return None
    if values and (kind != "string" or not all(_is_plain(value) for value in values)):
        return None
    if not isinstance(examples, list) or len(examples) > 1:
        return None
    row = {
        "name": name,
        "about": description,
        "type": kind,
        "needed": "yes" if needed else "no",
        "only": ", ".join(values),
        "example": _shown(examples[0]) if examples else "",
    }
    # What the form could not give back as it was stays a schema.
    return row if not examples or _typed(row) == examples[0] else None


def schema_of(rows: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    """The schema, and what is wrong with the rows, in sentences."""
    properties: dict[str, Any] = {}
    wrong = []
    for at, row in enumerate(rows, start=1):
        name = row["name"]
        if not _NAME.fullmatch(name):
            wrong.append(f"Row {at}: a name has letters, digits and underscores, such as order_number.")
            continue
        if name in properties:
            wrong.append(f"Row {at}: there is an argument “{name}” already.")
        about: dict[str, Any] = {"type": row["type"]}
        if row["type"] == "strings":
            about = {"type": "array", "items": {"type": "string"}}
        if row["about"]:
            about["description"] = row["about"]
        if row["type"] not in dict(TYPES):
            wrong.append(f"Row {at}: choose what kind of value “{name}” is.")
            continue
        if values := [value.strip() for value in row["only"].split(",") if value.strip()]:
            if row["type"] != "string":
                wrong.append(f"Row {at}: only a text can be one of a few values.")
            about["enum"] = values
        if row["example"]:
            example = _typed(row)
            if example is None or (values and example not in values):
                wrong.append(f"Row {at}: the example is no value that “{name}” can have.")
            about["examples"] = [example]
        properties[name] = about
    if len(rows) > MAX_ARGUMENTS:
        wrong.append(f"There is room for {MAX_ARGUMENTS} arguments.")
    required = [row["name"] for row in rows if row["needed"] != "no" and row["name"] in properties]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return (schema | {"required": required} if required else schema), wrong


def examples_of(schema: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments to try a tool with, and the names of those that are needed and have no example."""
    properties = schema.get("properties", {})
    given: dict[str, Any] = {}
    for name, about in properties.items():
        if not isinstance(about, Mapping):
            continue
        if examples := about.get("examples"):
            given[name] = examples[0] if isinstance(examples, list) else examples
        elif "default" in about:
            given[name] = about["default"]
        elif isinstance(about.get("enum"), list) and about["enum"]:
            given[name] = about["enum"][0]
    return given, [name for name in schema.get("required", ()) if name not in given]


def _typed(row: Row) -> Any:
    """The example as a value of its type; None if it is none."""
    text = row["example"]
    try:
        match row["type"]:
            case "integer":
                return int(text)
            case "number":
                value = float(text.replace(",", "."))
                return value if value - value == 0 else None
            case "boolean":
                lowered = text.lower()
                return True if lowered in _YES else False if lowered in _NO else None
            case "strings":
                return [part.strip() for part in text.split(",") if part.strip()]
            case _:
                return text
    except (ValueError, OverflowError):
        return None


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value))
        case _:
            return str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and "," not in value and value == value.strip()

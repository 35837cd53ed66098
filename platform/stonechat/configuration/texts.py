"""The document as text: JSON, or YAML without any of what makes YAML dangerous. Both are read to the same faults."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, assert_never

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stonechat.configuration.document import Configuration
from stonechat.errors import InvalidInput, MalformedBody, PayloadTooLarge

Format = Literal["json", "yaml"]
MAX_BYTES = 8 * 1024 * 1024
MAX_YAML_BYTES = 1024 * 1024
"""Of YAML that arrives over the API: to read it takes a process seconds."""
MAX_EVENTS = 300_000
"""Values, beginnings and ends in YAML: more than all that a document may hold."""
MAX_DEPTH = 60
MAX_FAULTS = 50
_WIDTH = 120
_TEXT = "tag:yaml.org,2002:str"


class _Loader(yaml.CSafeLoader):  # type: ignore[misc]  # the library has no types
    """Plain values only: dates stay text, and a key is text and stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != _TEXT:
                what = json.dumps(key.value[:40]) if isinstance(key.value, str) else "it"
                problem = f"a key is text: write {what} in quotes"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"“{key.value}” stands there twice", key.start_mark)
            seen.add(key.value)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


class _Dumper(yaml.CSafeDumper):  # type: ignore[misc]
    """Texts of several lines as such."""


def _write_text(dumper: yaml.CSafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(_TEXT, text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _write_text)


def as_values(configuration: Configuration) -> dict[str, Any]:
    """The document as plain JSON values; parts that it leaves out are not there."""
    return _without_absent(configuration.model_dump(mode="json"))


def write_document(configuration: Configuration, *, form: Format) -> str:
    """The document as text, which `read_document` reads back to the same."""
    values = as_values(configuration)
    match form:
        case "json":
            return json.dumps(values, ensure_ascii=False, indent=2) + "\n"
        case "yaml":
            # One long scalar must not be folded: what is read back has to be the same to the letter.
            return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH))
        case _:
            assert_never(form)


def read_document(data: bytes, *, form: Format, max_bytes: int = MAX_BYTES) -> Configuration:
    """The document that `data` holds.

    Raises `PayloadTooLarge`, `MalformedBody` for what is no JSON or YAML, and `InvalidInput` with the path of each fault.
    """
    if len(data) > max_bytes:
        raise PayloadTooLarge(f"A configuration in {form.upper()} has at most {max_bytes // 1024 // 1024} MB here.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise MalformedBody("A configuration is text in UTF-8.") from None
    match form:
        case "json":
            values = _read_json(text)
        case "yaml":
            values = _read_yaml(text)
        case _:
            assert_never(form)
    _check_plain(values)
    return check_values(values)


def check_values(values: Any) -> Configuration:
    """The document that these plain values are. Raises `InvalidInput` with the path of each fault."""
    try:
        return Configuration.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        faults = [
            {
                "field": _path(fault, values)[:300],
                "message": str(fault["msg"]).removeprefix("Value error, ")[:300],
            }
            for fault in found[:MAX_FAULTS]
        ]
        more = f" These are {MAX_FAULTS} of {len(found)}." if len(found) > MAX_FAULTS else ""
        raise InvalidInput(f"Nothing was applied: the configuration is not valid.{more}", errors=faults) from None


def _read_json(text: str) -> Any:
    try:
        values = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"This is not valid JSON: {_first_line(error)}") from None
    return values


def _read_yaml(text: str) -> Any:
    try:
        _check_events(yaml.parse(text, Loader=_Loader))
        values = yaml.load(text, Loader=_Loader)  # noqa: S506  a safe loader's subclass
        json.dumps(values, allow_nan=False)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise MalformedBody(f"This is not a configuration in YAML: {error.problem or error.context}{where}.") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise MalformedBody(f"This is not a configuration in YAML: {_first_line(error)}") from None
    return values


def _check_events(events: Iterable[yaml.Event]) -> None:
    """Refuse what would let a small text become a large value, or another kind of value than JSON has."""
    depth = 0
    for number, event in enumerate(events):
        if number > MAX_EVENTS:
            raise _refused("these are too many values", event)
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise _refused("anchors and aliases are not taken: write it out", event)
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag not in (None, "!"):
            raise _refused("tags are not taken", event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _refused("this is nested too deeply", event)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _refused(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def _check_plain(values: Any, path: tuple[str | int, ...] = ()) -> None:
    """Refuse what is nested too deeply, and text that Postgres does not keep. Raises `InvalidInput`, `MalformedBody`."""
    if len(path) > MAX_DEPTH:
        raise MalformedBody("This is nested too deeply.")
    match values:
        case dict():
            for key, value in values.items():
                _check_plain(key, (*path, key))
                _check_plain(value, (*path, key))
        case list():
            for number, value in enumerate(values):
                _check_plain(value, (*path, number))
        case str() if "\x00" in values or any("\ud800" <= character <= "\udfff" for character in values):
            where = ".".join(map(str, path))[:300].encode("utf-8", "replace").decode()
            fault = {"field": where, "message": "Leave out NUL characters and halves of characters."}
            raise InvalidInput("Nothing was applied: the configuration is not valid.", errors=[fault])


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number that JSON has")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"“{twice}” stands there twice")
    return found


def _path(fault: ErrorDetails, values: Any) -> str:
    """Where the fault is in what was written: without the names of kinds that validation puts between."""
    path: list[str] = []
    place = values
    for part in fault["loc"]:
        within = part < len(place) if isinstance(place, list) and isinstance(part, int) else False
        if within or (isinstance(place, dict) and part in place):
            place = place[part]
            path.append(str(part))
    if fault["type"] == "missing":
        path.append(str(fault["loc"][-1]))
    return ".".join(path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _without_absent(values: dict[str, Any]) -> dict[str, Any]:
    """Without the parts that are None: in `knowledge` and `usage` and at the top, None means left out."""
    kept = {name: value for name, value in values.items() if value is not None}
    for name in ("knowledge", "usage"):
        if name in kept:
            kept[name] = {part: value for part, value in kept[name].items() if value is not None}
    return kept

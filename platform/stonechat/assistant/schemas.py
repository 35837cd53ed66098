"""JSON Schemas of tools' arguments: which are taken, and what is wrong with the arguments a model gave.

Schemas come from tenants and from servers of tools, arguments from models that anybody may have talked into anything. So
nothing is fetched, patterns are matched in linear time, and what could take exponential time is not evaluated at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic_core import SchemaError as PatternError
from pydantic_core import SchemaValidator, core_schema
from pydantic_core import ValidationError as PatternMismatch
from referencing import Registry

MAX_SCHEMA_CHARACTERS = 8_000
MAX_ARGUMENT_CHARACTERS = 16_000
MAX_VALUES = 1_000
"""Of one call's arguments, counted through lists and objects."""
MAX_DEPTH = 20
MAX_FAULTS = 3
_FAULT_CHARACTERS = 200
_UNEVALUATED = frozenset({"$ref", "$dynamicRef", "$recursiveRef", "patternProperties"})
"""References can make a small schema take exponential time; patterns of names are matched by backtracking."""


def schema_fault(schema: Mapping[str, Any]) -> str | None:  # noqa: PLR0911  one line a fact
    """Why a tenant's schema is not taken, or None if it is."""
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARACTERS:
        return f"a schema has at most {MAX_SCHEMA_CHARACTERS:,} characters as JSON"
    if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), Mapping):
        return "the schema of a tool's arguments is of the type “object”, with its “properties”"
    try:
        if unknown := _keywords(schema) & _UNEVALUATED:
            return f"“{min(unknown)}” is not supported: write the schema out in one piece"
        Draft202012Validator.check_schema(schema)
        for pattern in _patterns(schema):
            _matcher(pattern)
    except SchemaError as error:
        return f"the schema is not valid: {error.message[:_FAULT_CHARACTERS]}"
    except PatternError:
        return "a pattern is not supported: look-around and back-references are not"
    except RecursionError:
        return "the schema is nested too deeply"
    return None


def declared(schema: Mapping[str, Any]) -> set[str]:
    """The names of the arguments that the schema speaks of."""
    properties = schema.get("properties")
    return set(properties) if isinstance(properties, Mapping) else set()


def argument_faults(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """What is wrong with the arguments, in sentences for the model; empty if nothing is.

    A schema that cannot be evaluated safely, as servers of tools may send them, is left for its server to enforce.
    Arguments that the schema does not speak of are refused unless it says `additionalProperties` itself.
    """
    try:
        if _size(arguments) > MAX_VALUES:
            return [f"There are more than {MAX_VALUES} values in the arguments."]
        if _keywords(schema) & _UNEVALUATED:
            return []
        faults = []
        if "additionalProperties" not in schema:
            unknown = sorted(set(arguments) - declared(schema))
            faults += [f"{name[:50]}: there is no such argument." for name in unknown[:MAX_FAULTS]]
        validator = _Validator(schema, registry=Registry())
        for error in validator.iter_errors(arguments):
            where = "/".join(str(part) for part in error.absolute_path)[:50]
            faults.append(f"{where or 'arguments'}: {error.message[:_FAULT_CHARACTERS]}")
            if len(faults) >= MAX_FAULTS:
                break
    except (RecursionError, _TooDeep):
        return ["The arguments are nested too deeply."]
    except (SchemaError, PatternError, ValueError, TypeError, AttributeError, KeyError):
        return []  # the schema is not one; its server may still understand its own arguments
    return faults


class _TooDeep(Exception):
    """The arguments are nested deeper than `MAX_DEPTH`."""


def _match_pattern(_validator: Any, pattern: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str) or not isinstance(pattern, str):
        return
    try:
        _matcher(pattern).validate_python(instance)
    except PatternMismatch:
        yield ValidationError(f"does not match {pattern!r}")


# The library matches patterns with `re`, which a pattern like (a+)+$ keeps busy for ever.
_Validator = validators.extend(Draft202012Validator, {"pattern": _match_pattern})


@lru_cache(maxsize=500)
def _matcher(pattern: str) -> SchemaValidator:
    return SchemaValidator(core_schema.str_schema(pattern=pattern))


def _keywords(schema: Any) -> set[str]:
    """Every key anywhere within; more than the keywords, never fewer."""
    match schema:
        case dict():
            return set(schema).union(*map(_keywords, schema.values()))
        case list():
            return set[str]().union(*map(_keywords, schema))
        case _:
            return set()


def _patterns(schema: Any) -> Iterator[str]:
    match schema:
        case dict():
            if isinstance(pattern := schema.get("pattern"), str):
                yield pattern
            for value in schema.values():
                yield from _patterns(value)
        case list():
            for value in schema:
                yield from _patterns(value)


def _size(value: Any, depth: int = 0) -> int:
    if depth > MAX_DEPTH:
        raise _TooDeep
    match value:
        case dict():
            return 1 + sum(_size(part, depth + 1) for part in value.values())
        case list():
            return 1 + sum(_size(part, depth + 1) for part in value)
        case _:
            return 1

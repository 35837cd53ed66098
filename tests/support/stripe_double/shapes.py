"""Stripe's published shapes, read from the installed client: the parameters a route takes, the fields an object has.

A request with a parameter that this version of the API does not know, without one that it demands, or with one that
cannot be read, is refused as Stripe refuses it: a misspelt parameter does not pass here and fail in production.
"""

from __future__ import annotations

import importlib
import re
import types
import typing
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, Literal, Union

import typing_extensions
from stripe._object_classes import OBJECT_CLASSES, V2_OBJECT_CLASSES

from support.stripe_double.refusals import Refused

Json = dict[str, Any]


class _Untyped:
    """Stands in for a name that the client imports for type checkers only: a mapping of strings."""

    def __class_getitem__(cls, _: Any) -> type[_Untyped]:
        return cls


@cache
def _parameters(name: str) -> Any:
    """The TypedDict behind a name such as `SubscriptionCreateParams` or `checkout.SessionCreateParams`."""
    path, _, last = name.rpartition(".")
    return getattr(importlib.import_module(f"stripe.params.{path}" if path else "stripe.params"), last)


@cache
def _hints(shape: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(
        shape, localns={"UntypedStripeObject": _Untyped, "StripeContext": str, "Mapping": dict}
    )
    options = {"api_key", "stripe_version", "stripe_account", "stripe_context", "idempotency_key", "headers",
               "max_network_retries", "content_type"}  # fmt: skip
    return {key: hint for key, hint in hints.items() if key not in options} | {"expand": list[str]}


def _choices(hint: Any) -> list[Any]:
    origin = typing.get_origin(hint)
    if origin in (typing_extensions.NotRequired, typing_extensions.Required):
        return _choices(typing.get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return [choice for part in typing.get_args(hint) for choice in _choices(part)]
    return [hint]


def checked(params: Json, name: str) -> Json:
    """The parameters with their types, refused where they do not fit the shape of that name. No name takes none."""
    if not name:
        return _read_object(params, {"expand": list[str]}, frozenset(), "")
    shape = _parameters(name)
    return _read_object(params, _hints(shape), shape.__required_keys__, "")


def _read_object(params: Json, hints: dict[str, Any], required: frozenset[str], at: str) -> Json:
    for key in required & set(hints):
        if key not in params:
            path = _path(at, key)
            raise Refused(f"Missing required param: {path}.", code="parameter_missing", param=path)
    read: Json = {}
    for key, value in params.items():
        path = _path(at, key)
        if key not in hints:
            raise Refused(f"Received unknown parameter: {path}", code="parameter_unknown", param=path)
        read[key] = _read(value, hints[key], path)
    return read


def _path(at: str, key: str) -> str:
    return f"{at}[{key}]" if at else key


def _read(value: Any, hint: Any, path: str) -> Any:
    choices = _choices(hint)
    literals = {text for choice in choices if typing.get_origin(choice) is Literal for text in typing.get_args(choice)}
    if value == "" and ("" in literals or str in choices):
        return ""
    if isinstance(value, dict):
        for choice in choices:
            if typing_extensions.is_typeddict(choice):
                return _read_object(value, _hints(choice), choice.__required_keys__, path)
        if any(choice is _Untyped or typing.get_origin(choice) is dict for choice in choices):
            return {key: _read_untyped(inner) for key, inner in value.items()}
        raise Refused("Invalid object", param=path)
    if isinstance(value, list):
        for choice in choices:
            if typing.get_origin(choice) is list:
                inner = typing.get_args(choice)[0]
                return [_read(item, inner, f"{path}[{place}]") for place, item in enumerate(value)]
        raise Refused("Invalid array", param=path)
    return _read_plain(value, choices, literals, path)


def _read_untyped(value: Any) -> Any:
    return {key: _read_untyped(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def _read_plain(value: Any, choices: list[Any], literals: set[str], path: str) -> Any:
    if not isinstance(value, str):  # a JSON body of v2
        return value
    if value in literals:
        return value
    if bool in choices and value in ("true", "false"):
        return value == "true"
    if int in choices and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if (float in choices or Decimal in choices) and _is_number(value):
        return float(value) if float in choices else value
    if str in choices or literals:
        return value
    named = next((kind for kind in (int, bool, float, Decimal) if kind in choices), None)
    word = {int: "integer", bool: "boolean", float: "number", Decimal: "decimal"}.get(named, "value")  # type: ignore[arg-type]
    raise Refused(f"Invalid {word}: {value}", param=path)


def _is_number(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


@cache
def _fields(kind: str) -> tuple[frozenset[str], frozenset[str]]:
    """The fields that an object of this kind must have, and those that may be null."""
    mapping = V2_OBJECT_CLASSES if kind.startswith("v2.") else OBJECT_CLASSES
    module, name = mapping[kind]
    annotations = getattr(importlib.import_module(module), name).__annotations__
    plain = {field for field in annotations if field != "OBJECT_NAME"}
    optional = {field for field in plain if type(None) in typing.get_args(annotations[field])}
    return frozenset(plain - optional), frozenset(optional - {"deleted"})


def required_fields(kind: str) -> frozenset[str]:
    return _fields(kind)[0]


@cache
def known_fields(kind: str) -> frozenset[str]:
    return _fields(kind)[0] | _fields(kind)[1] | {"deleted"}


def filled(values: Json) -> Json:
    """An object with every field that its kind has: those not given are null, as on the wire."""
    return {**dict.fromkeys(_fields(values["object"])[1]), **values}

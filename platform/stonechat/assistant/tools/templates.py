"""Templates of widgets, filled with the arguments of a call.

The template is the tenant's, the arguments are a model's, whom anybody may have talked into anything. So an argument is
only ever text or a number in its place: it adds no component, changes no action, and loads nothing from a host that the
template does not name or the agent's rules do not list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

MAX_REPEATED = 50
MAX_NODES = 2_000
MAX_DEPTH = 24
MAX_WIDGET_CHARACTERS = 64_000
EACH = "$each"
"""`{"$each": "lines", …}` in a list of children stands for one component for each element of the argument `lines`, which
is `{item}`, or `{item.name}` for a member of it, and `{number}` counts them from 1."""

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*(?:\.[A-Za-z0-9_]+)*)\}")
_LITERAL_HOST = re.compile(r"https://[^/{}@\\\s]+/")
_PICTURE_HOST = re.compile(r"https://((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63})/")
ADDRESSES = frozenset({"src", "url", "href", "favicon", "link"})
"""Members that are addresses."""
_LITERAL_IN_ACTIONS = frozenset({"type", "handler"})


class TooLarge(ValueError):
    """The filled template is larger or deeper than a widget may be."""


def fill(
    template: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    hosts: Sequence[str] = (),
    clean: Callable[[str], str] = str,
) -> dict[str, Any]:
    """The template with its placeholders replaced. Raises `TooLarge`.

    `hosts` may be loaded from besides those written out in the template: `example.com`, or `*.example.com`. `clean` goes
    over every text that visitors see and that an argument has a part in; payloads of actions are left as they are.
    """
    filled = _Filler(hosts, clean).node(template, arguments, 0)
    if not isinstance(filled, dict) or len(json.dumps(filled, ensure_ascii=False)) > MAX_WIDGET_CHARACTERS:
        raise TooLarge
    return filled


def fill_text(template: str, arguments: Mapping[str, Any]) -> str:
    """A line of text with its placeholders replaced."""
    return _PLACEHOLDER.sub(lambda found: _as_text(_value(found[1], arguments)), template)


def has_placeholder(template: Any) -> bool:
    """Whether an argument has a part in it."""
    return _PLACEHOLDER.search(json.dumps(template, ensure_ascii=False)) is not None


def actions_of(widget: Any) -> Iterator[dict[str, Any]]:
    """Every action in a widget's JSON, wherever it is."""
    match widget:
        case dict():
            for name, value in widget.items():
                if is_action(name, value):
                    yield value
                else:
                    yield from actions_of(value)
        case list():
            for value in widget:
                yield from actions_of(value)


def picture_hosts(widget: Any) -> Iterator[str]:
    """The hosts of pictures that a template names itself, `https://HOST/…` written out; in lower case."""
    match widget:
        case dict():
            source = widget.get("src")
            if isinstance(source, str) and (found := _PICTURE_HOST.match(source)) is not None:
                yield found[1].lower()
            for value in widget.values():
                yield from picture_hosts(value)
        case list():
            for value in widget:
                yield from picture_hosts(value)


def is_action(name: str, value: Any) -> bool:
    """Whether a member of a component is an action, such as `onClickAction`, or `action` of a card's `confirm`."""
    return (
        (name == "action" or name.endswith("Action")) and isinstance(value, dict) and isinstance(value.get("type"), str)
    )


class _Filler:
    def __init__(self, hosts: Sequence[str], clean: Callable[[str], str]) -> None:
        self._hosts = hosts
        self._clean = clean
        self._in_action = False
        self._nodes = 0

    def node(self, template: Any, scope: Mapping[str, Any], depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or depth > MAX_DEPTH:
            raise TooLarge
        match template:
            case str():
                return self._string(template, scope)
            case list():
                return [child for each in template for child in self._children(each, scope, depth + 1)]
            case dict():
                return self._component(template, scope, depth + 1)
            case _:
                return template

    def _children(self, template: Any, scope: Mapping[str, Any], depth: int) -> Iterator[Any]:
        if not isinstance(template, dict) or EACH not in template:
            yield self.node(template, scope, depth)
            return
        elements = _value(str(template[EACH]), scope)
        repeated = {name: value for name, value in template.items() if name != EACH}
        for number, element in enumerate(elements[:MAX_REPEATED] if isinstance(elements, list) else [], start=1):
            yield self.node(repeated, {**scope, "item": element, "number": number}, depth)

    def _component(self, template: Mapping[str, Any], scope: Mapping[str, Any], depth: int) -> dict[str, Any]:
        filled: dict[str, Any] = {}
        for name, value in template.items():
            if is_action(name, value):
                filled[name] = self._action(value, scope, depth + 1)
            elif name in ADDRESSES and isinstance(value, str) and _PLACEHOLDER.search(value):
                address = self._address(value, scope)
                if address is not None:
                    filled[name] = address
            elif name == "type":
                filled[name] = value
            elif name == "value" and template.get("type") == "Markdown" and isinstance(value, str):
                text = _PLACEHOLDER.sub(lambda found: _plain_markdown(_value(found[1], scope)), value)
                filled[name] = self._clean(text) if text != value else text
            else:
                filled[name] = self.node(value, scope, depth)
        return filled

    def _action(self, template: Mapping[str, Any], scope: Mapping[str, Any], depth: int) -> dict[str, Any]:
        outer, self._in_action = self._in_action, True
        filled = {
            key: part if key in _LITERAL_IN_ACTIONS else self.node(part, scope, depth) for key, part in template.items()
        }
        self._in_action = outer
        return filled

    def _string(self, template: str, scope: Mapping[str, Any]) -> Any:
        value = _fill_string(template, scope)
        if self._in_action or value is None or isinstance(value, bool) or not _PLACEHOLDER.search(template):
            return value
        cleaned = self._clean(str(value))
        return value if cleaned == str(value) else cleaned

    def _address(self, template: str, scope: Mapping[str, Any]) -> str | None:
        address = str(_fill_string(template, scope) or "")
        if _LITERAL_HOST.match(template):
            return address
        try:
            parts = urlsplit(address)
            host = (parts.hostname or "").lower()
        except ValueError:
            return None
        known = any(host == each or (each.startswith("*.") and host.endswith(each[1:])) for each in self._hosts)
        return address if parts.scheme == "https" and known else None


def _fill_string(template: str, scope: Mapping[str, Any]) -> Any:
    whole = _PLACEHOLDER.fullmatch(template)
    if whole is not None:
        value = _value(whole[1], scope)
        return value if value is None or isinstance(value, str | int | float) else _as_text(value)
    return fill_text(template, scope)


def _value(path: str, scope: Mapping[str, Any]) -> Any:
    """The argument, or a member of it; None for what is not there."""
    value: Any = scope
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _as_text(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return "yes" if value else "no"
        case list() if all(isinstance(each, str | int | float) for each in value):
            return ", ".join(map(_as_text, value))
        case dict() | list():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return str(value)


def _plain_markdown(value: Any) -> str:
    """Text for Markdown that neither loads pictures nor hides where a link leads."""
    return re.sub(r"([\[\]!<>])", r"\\\1", _as_text(value))

"""The address of one call of an HTTP tool: its template with the arguments in it, and nothing they could change beyond.

Scheme, host and port are the template's, letter for letter. An argument in the path is one segment of it or a part of
one; it can neither climb out nor vanish. An argument in the query is a value, never a name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from stonechat.assistant.config_tools import PLACEHOLDER
from stonechat.errors import InvalidInput, TargetNotAllowed
from stonechat.outbound.targets import parse_target

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def fill_url(template: str, arguments: Mapping[str, Any], *, allow_http: bool = False) -> tuple[str, dict[str, Any]]:
    """The address, and the arguments that did not go into it.

    Raises `InvalidInput` in words for the model, `TargetNotAllowed` where the template is not one that can be called.
    """
    path, question_mark, query = template.partition("?")
    used: set[str] = set()

    def in_path(found: re.Match[str]) -> str:
        used.add(found[1])
        return _segment(found[1], arguments.get(found[1]))

    url = PLACEHOLDER.sub(in_path, path)
    pairs = []
    for pair in query.split("&") if question_mark else []:
        names = PLACEHOLDER.findall(pair)
        used.update(names)
        # A value that was left out takes its name with it.
        if not names or any(arguments.get(name) is not None for name in names):
            pairs.append(PLACEHOLDER.sub(lambda found: quote(_text(arguments.get(found[1])), safe=""), pair))
    if pairs:
        url += "?" + "&".join(pairs)
    if _origin(url, allow_http) != _origin(PLACEHOLDER.sub("x", template), allow_http):
        raise TargetNotAllowed("The arguments would change where the request goes.")
    if any(segment in (".", "..") for segment in url.partition("?")[0].split("/")):
        raise InvalidInput("The arguments would change the path of the request.")
    return url, {name: value for name, value in arguments.items() if name not in used}


def add_query(url: str, left_over: Mapping[str, Any]) -> str:
    """The address with the arguments that are left in its query; a list gives its name once for each value."""
    pairs = [
        (name, _text(each))
        for name, value in left_over.items()
        if value is not None
        for each in (value if isinstance(value, list) else [value])
    ]
    if not pairs:
        return url
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs, quote_via=quote, safe='')}"


def _segment(name: str, value: Any) -> str:
    if value is None or isinstance(value, list | dict):
        raise InvalidInput(f"The argument {name} is needed: a single value.")
    text = _text(value)
    # Servers that decode %2F early would see a way up or out.
    if not text.strip() or any(part.strip() in (".", "..") for part in re.split(r"[/\\]", text)):
        raise InvalidInput(f"The argument {name} must be a plain value.")
    return quote(text, safe="")


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            if _CONTROL.search(value):
                raise InvalidInput("An argument holds control characters.")
            return value
        case int() | float():
            return json.dumps(value)
        case _:
            return json.dumps(value, ensure_ascii=False)


def _origin(url: str, allow_http: bool) -> tuple[str, str, int]:
    return parse_target(url, allow_http=allow_http, allow_private_names=True, ports=range(1, 65536)).origin

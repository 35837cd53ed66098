"""A form as somebody filled it in: what they typed, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stonechat.errors import StonechatError


@dataclass(frozen=True)
class Filled:
    """Values by field, and messages by field. The macros of `macros/forms.html` draw both."""

    values: Mapping[str, Any] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    """What is wrong with the form as a whole."""

    def value(self, name: str, default: Any = "") -> Any:
        return self.values.get(name, default)

    def error(self, name: str) -> str:
        return self.errors.get(name, "")


def refused(error: StonechatError, values: Mapping[str, Any], *, about: str = "") -> Filled:
    """The form after `error`. What names no field of the form is said about the field `about`, or about the whole."""
    errors: dict[str, str] = {}
    for item in error.members.get("errors", ()):
        name = str(item.get("field", "")).rpartition(".")[2]
        if name in values:
            errors.setdefault(name, str(error) if len(error.members["errors"]) == 1 else _sentence(item["message"]))
    if not errors and about:
        errors[about] = str(error)
    return Filled(values, errors, "" if errors else str(error))


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."

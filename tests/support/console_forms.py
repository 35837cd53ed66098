"""Forms of the console as a browser would send them."""

from __future__ import annotations

from typing import Any

from support.console import Answer


def fields_of(page: Answer, form: str = "#agent-form") -> dict[str, Any]:
    """What the form would send as it stands; what is in a `<template>` is no part of it."""
    values: dict[str, list[str]] = {}
    for node in page.all(f"{form} input[name], {form} select[name], {form} textarea[name]"):
        name, kind = str(node.attributes["name"]), node.attributes.get("type")
        if kind in ("checkbox", "radio") and "checked" not in node.attributes:
            continue
        value = node.attributes.get("value") or ""
        if node.tag == "textarea":
            value = node.text().removeprefix("\n")
        elif node.tag == "select":
            options = node.css("option")
            chosen = [each for each in options if "selected" in each.attributes] or options[:1]
            value = (chosen[0].attributes.get("value") or "") if chosen else ""
        values.setdefault(name, []).append(value)
    return {name: several[0] if len(several) == 1 else several for name, several in values.items()}

"""Answers through the guardrails' filter, cut into pieces in any way."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from stonechat.assistant.config import parse_config
from stonechat.assistant.guardrails.output import OutputFilter
from stonechat.assistant.guardrails.rules import Rules, rules_of

EVERYTHING = ["secrets", "cards", "ibans", "emails", "phones", "national_ids"]


def rules(*, message: str = "No.", **parts: Any) -> Rules:
    """Rules with these `input` and `output`."""
    return rules_of(parse_config({"name": "Shop", "guardrails": {"message": message} | parts}))


def filter_of(hosts: Collection[str] = (), **output: Any) -> OutputFilter[Any]:
    return rules(output=output).filter(lambda: hosts)


def pieces(text: str, cuts: Iterable[int] = (), **output: Any) -> list[Any]:
    """What comes out of the filter if the text comes cut at these places."""
    kept = filter_of(**output)
    out, begin = [], 0
    for end in [*sorted(cuts), len(text)]:
        out += kept.feed(text[begin:end])
        begin = end
    return [*out, *kept.finish()]


def cleaned(text: str, cuts: Iterable[int] = (), **output: Any) -> str:
    return "".join(pieces(text, cuts, **output))


def letter_by_letter(text: str, **output: Any) -> str:
    return cleaned(text, range(len(text)), **output)


def redacted(text: str, kinds: Sequence[str]) -> str:
    return letter_by_letter(text, redact=list(kinds), links="any")

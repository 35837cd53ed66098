"""Counting tokens while a model streams: estimated at every moment, right once the provider says it."""

from __future__ import annotations

from typing import Any

from agents.items import TResponseInputItem
from openai.types.responses import Response

from stonechat.assistant.turn import ModelUse

CHARACTERS_PER_TOKEN = 4
"""For estimates, where a provider reports no use, or the answer was cut off before it could."""


class Meter:
    """Keeps a model's use right while one response streams."""

    def __init__(self, usage: ModelUse, *, asked: int) -> None:
        """`asked` is how many characters the model is given."""
        self._usage = usage
        self._input = _tokens(asked)
        self._output = 0
        self._cached = 0
        self._characters = 0
        self._reported = False
        usage.input_tokens += self._input
        usage.unreported += 1

    def count(self, delta: str) -> None:
        """The model wrote something."""
        self._characters += len(delta)
        tokens = _tokens(self._characters)
        self._usage.output_tokens += tokens - self._output
        self._output = tokens

    def settle(self, response: Response) -> None:
        """The provider's own count replaces the estimate, if it gives one."""
        reported = response.usage
        if reported is None or reported.total_tokens == 0:
            return
        details = reported.input_tokens_details
        self._replace(
            reported.input_tokens, reported.output_tokens, (details.cached_tokens or 0) if details is not None else 0
        )

    def forget(self) -> None:
        """Nothing was used after all."""
        self._replace(0, 0, 0)

    def describe(self, data: dict[str, Any]) -> None:
        """Add the count to a span's data."""
        data["input_tokens"], data["output_tokens"] = self._input, self._output
        data["cached_tokens"], data["estimated"] = self._cached, not self._reported

    def _replace(self, given: int, written: int, cached: int) -> None:
        self._usage.input_tokens += given - self._input
        self._usage.output_tokens += written - self._output
        self._usage.cached_tokens += cached - self._cached
        self._input, self._output, self._cached = given, written, cached
        if not self._reported:
            self._reported = True
            self._usage.unreported -= 1


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def characters_of(instructions: str | None, items: str | list[TResponseInputItem]) -> int:
    """How long the text of a request is."""
    if isinstance(items, str):
        return len(instructions or "") + len(items)
    fields = [item.get(name) for item in items for name in ("content", "arguments", "output")]
    return len(instructions or "") + sum(len(field) for field in fields if isinstance(field, str))

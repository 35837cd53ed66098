"""A model that is asked only what its host understands, and that learns from what the host refuses."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import openai
from agents import ModelResponse, ModelSettings
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from openai.types.shared import Reasoning

from stonechat.providers.presets import Quirks

MAX_REMEMBERED = 200
MAX_REFUSALS = 4
_REFUSABLE = re.compile(
    r"\b(stream_options|temperature|reasoning(?:_effort|\.effort|\.summary)?|parallel_tool_calls|max_completion_tokens)\b"
)
# Kept from the input of Responses, which is told to store nothing: ids of what it would have to look up.
_STORED_TYPES = frozenset({"reasoning", "item_reference"})


class Refusals:
    """What the models of one provider refused to be told, so that each of them refuses it once."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, frozenset[str]] = OrderedDict()

    def of(self, model: str) -> frozenset[str]:
        """The names of parameters that this model does not take."""
        return self._known.get(model, frozenset())

    def add(self, model: str, parameter: str) -> None:
        """Remember one more."""
        self._known[model] = self.of(model) | {parameter}
        self._known.move_to_end(model)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)


class AdaptedModel(Model):
    """The model within, asked in the words of its host.

    A parameter that the host refuses by name is left out and the question asked again, at once and before anything was
    answered: reasoning models refuse `temperature`, others refuse `reasoning_effort`, some hosts `stream_options`.
    """

    def __init__(
        self, inner: Model, *, name: str, quirks: Quirks | None, refusals: Refusals, speaks_responses: bool
    ) -> None:
        self._inner = inner
        self._name = name
        self._quirks = quirks or Quirks()
        self._refusals = refusals
        self._speaks_responses = speaks_responses

    async def close(self) -> None:
        """Close the model within."""
        await self._inner.close()

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The advice of the model within."""
        return self._inner.get_retry_advice(request)

    async def get_response(self, *request: Any, **options: Any) -> ModelResponse:
        """As the model within."""
        while True:
            known = self._refusals.of(self._name)
            try:
                return await self._inner.get_response(*self._adapted(request), **options)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._learn(error, known):
                    raise

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        """As the model within."""
        while True:
            known = self._refusals.of(self._name)
            stream = self._inner.stream_response(*self._adapted(request), **options)
            try:
                async with aclosing(cast("Any", stream)) as events:
                    async for event in events:
                        yield event
                return
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if not self._learn(error, known):
                    raise

    def _learn(self, error: openai.APIStatusError, known: frozenset[str]) -> bool:
        """Whether the error names something that can be left out, and was not before."""
        if len(known) >= MAX_REFUSALS:
            return False
        told = f"{error.param or ''} {str(error.body)[:2000]}"
        for name in _REFUSABLE.findall(told):
            parameter = "reasoning" if name.startswith("reasoning") else name
            if parameter not in known:
                self._refusals.add(self._name, parameter)
                return True
        return False

    def _adapted(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        instructions, items, settings, *rest = request
        if self._speaks_responses:
            items = _without_stored(items)
        return (instructions, items, self._settings(settings), *rest)

    def _settings(self, settings: ModelSettings) -> ModelSettings:
        refused = self._refusals.of(self._name)
        temperature = settings.temperature
        if temperature is not None:
            temperature = None if "temperature" in refused else min(temperature, self._quirks.max_temperature)
        parallel = settings.parallel_tool_calls
        if not self._quirks.parallel_tool_calls or "parallel_tool_calls" in refused:
            parallel = None
        changed = replace(
            settings,
            temperature=temperature,
            parallel_tool_calls=parallel,
            reasoning=None if "reasoning" in refused else self._reasoning(settings.reasoning),
        )
        if self._speaks_responses:
            # Nothing of a conversation stays with the provider.
            return replace(changed, store=False)
        include_usage = settings.include_usage
        if not self._quirks.include_usage or "stream_options" in refused:
            include_usage = None
        if "max_completion_tokens" in refused and settings.max_tokens is not None:
            # The refusal names what it wants in place of `max_tokens`.
            arguments: Mapping[str, Any] = {
                **(settings.extra_args or {}),
                "max_completion_tokens": settings.max_tokens,
            }
            changed = replace(changed, max_tokens=None, extra_args=dict(arguments))
        return replace(changed, include_usage=include_usage)

    def _reasoning(self, reasoning: Reasoning | None) -> Reasoning | None:
        if reasoning is None or self._speaks_responses:
            return reasoning
        effort = cast("Any", reasoning.effort)
        effort = self._quirks.efforts.get(effort, effort)
        return None if effort is None else Reasoning(effort=effort)


def _without_stored(items: str | list[TResponseInputItem]) -> str | list[TResponseInputItem]:
    """The input without what a provider that stores nothing cannot find: thoughts of earlier steps, and items' ids."""
    if isinstance(items, str):
        return items
    kept: list[Any] = []
    for item in items:
        if item.get("type") in _STORED_TYPES:
            continue
        kept.append({name: value for name, value in item.items() if name != "id"} if "id" in item else item)
    return kept

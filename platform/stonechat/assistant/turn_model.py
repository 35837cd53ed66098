"""The model of one turn: the resolved model, with its text tapped off and its use counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from agents import ModelResponse
from agents.items import TResponseInputItem, TResponseStreamEvent
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from openai.types.responses import Response, ResponseCompletedEvent

from stonechat.assistant.answer import AnswerWriter
from stonechat.assistant.turn import ModelUse
from stonechat.providers.deadlines import StreamLimits, within_limits
from stonechat.providers.provider import ResolvedModel

CHARACTERS_PER_TOKEN = 4
"""For estimates, where a provider reports no use, or the answer was cut off before it could."""

_FOR_THE_RUNNER = frozenset(
    {"response.output_item.done", "response.completed", "response.failed", "error", "response.error"}
)


class TurnModel(Model):
    """Sends text to the writer as it arrives, and to the Runner only what it decides by."""

    def __init__(
        self, resolved: ResolvedModel, *, writer: AnswerWriter, usage: ModelUse, limits: StreamLimits | None
    ) -> None:
        """`limits` None is for models in this process, which neither wait nor count tokens."""
        self._inner = resolved.model
        self._writer = writer
        self._usage = usage
        self._limits = limits
        self._responses = 0

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The advice of the model within."""
        return self._inner.get_retry_advice(request)

    async def get_response(self, *request: Any, **options: Any) -> ModelResponse:
        """The whole answer of the model within, of which nothing is written."""
        return await self._inner.get_response(*request, **options)

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        """The events that the Runner needs; text goes to the writer on the way."""
        stream = self._inner.stream_response(*request, **options)
        meter: _Meter | None = None
        if self._limits is not None:
            stream = within_limits(stream, self._limits)
            meter = _Meter(self._usage, asked=_characters(request[0], request[1]))
        self._responses += 1
        write, response_number = self._writer.write, self._responses
        async with aclosing(cast("Any", stream)) as events:
            async for event in events:
                kind = event.type
                if kind in ("response.output_text.delta", "response.refusal.delta"):
                    write((response_number, event.output_index), event.delta)
                    if meter is not None:
                        meter.count(event.delta)
                elif kind in _FOR_THE_RUNNER:
                    if kind == "response.output_item.done":
                        self._writer.finish()
                    elif kind == "response.completed" and meter is not None:
                        meter.settle(event.response)
                    yield event
                elif kind == "response.incomplete":
                    # The limit of tokens was reached, or a filter stopped it: what was said stands.
                    if meter is not None:
                        meter.settle(event.response)
                    yield ResponseCompletedEvent.model_construct(
                        type="response.completed", response=event.response, sequence_number=event.sequence_number
                    )
                    return  # going on would raise


class _Meter:
    """Keeps the turn's use right while one response streams: estimated until the provider says it."""

    def __init__(self, usage: ModelUse, *, asked: int) -> None:
        self._usage = usage
        self._asked = _tokens(asked)
        self._given = 0
        self._characters = 0
        usage.input_tokens += self._asked

    def count(self, delta: str) -> None:
        self._characters += len(delta)
        self._usage.output_tokens += _tokens(self._characters) - self._given
        self._given = _tokens(self._characters)

    def settle(self, response: Response) -> None:
        reported = response.usage
        if reported is None or reported.total_tokens == 0:
            return
        self._usage.input_tokens += reported.input_tokens - self._asked
        self._usage.output_tokens += reported.output_tokens - self._given
        details = reported.input_tokens_details
        self._usage.cached_tokens += (details.cached_tokens or 0) if details is not None else 0


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _characters(instructions: str | None, items: str | list[TResponseInputItem]) -> int:
    if isinstance(items, str):
        return len(instructions or "") + len(items)
    fields = [item.get(name) for item in items for name in ("content", "arguments", "output")]
    return len(instructions or "") + sum(len(field) for field in fields if isinstance(field, str))

"""The model of one turn: asked, asked again, or replaced, with its text tapped off and its use counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import Any, cast

from agents import ModelResponse, ModelSettings
from agents.exceptions import ModelBehaviorError
from agents.items import TResponseStreamEvent
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from openai.types.responses import Response, ResponseCompletedEvent, ResponseOutputText
from openai.types.shared import Reasoning

from stonechat import metrics
from stonechat.assistant.answer import AnswerWriter
from stonechat.assistant.attached import for_eyes_of
from stonechat.assistant.config_parts import Reasoning as ReasoningConfig
from stonechat.assistant.meter import Meter, characters_of
from stonechat.assistant.models_of_turn import ModelsOfTurn
from stonechat.assistant.reasoning import ThoughtWriter
from stonechat.assistant.trace import Span
from stonechat.assistant.turn import Turn
from stonechat.providers.breaker import Call
from stonechat.providers.deadlines import is_token, within_limits
from stonechat.providers.provider import ResolvedModel
from stonechat.providers.retries import AnswerWithheld, ReportedFailure, StreamBroken, judge

_COMPLETE = frozenset({"response.completed", "response.incomplete"})
_TEXT = frozenset({"response.output_text.delta", "response.refusal.delta"})
_THOUGHTS = frozenset({"response.reasoning_summary_text.delta", "response.reasoning_text.delta"})
_WRITTEN = _TEXT | _THOUGHTS | {"response.function_call_arguments.delta"}
_FAILED = frozenset({"response.failed", "error", "response.error"})


class TurnModel(Model):
    """Sends text to the writer as it arrives, and to the Runner only what it decides by.

    Before the first token of a response, a model that fails is asked again a few times, and then those that the tenant
    listed are. Each attempt is a span of the trace; each model has its own use.
    """

    def __init__(
        self, models: ModelsOfTurn, *, turn: Turn, writer: AnswerWriter, thoughts: ThoughtWriter | None = None
    ) -> None:
        self._models = models
        self._turn = turn
        self._writer = writer
        self._thoughts = thoughts
        self._reach = models.providers
        self._responses = 0
        self._begun = False

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:  # noqa: ARG002
        """None: what is tried again is decided here."""
        return None

    async def get_response(self, *request: Any, **options: Any) -> ModelResponse:
        """The whole answer of the model, of which nothing is written."""
        resolved = await self._models.current()
        return await resolved.model.get_response(*self._with_reasoning(request), **options)

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        """The events that the Runner needs; text goes to the writer on the way."""
        now = asyncio.get_running_loop().time
        deadline = now() + self._reach.limits.total
        request = self._with_reasoning(request)
        self._responses += 1
        self._begun = False
        attempt = 0
        while True:
            attempt += 1
            resolved = await self._models.current()
            try:
                stream = self._ask(resolved, attempt, deadline, request, options)
                async with aclosing(cast("Any", stream)) as events:
                    async for event in events:
                        yield event
                return
            except Exception as error:
                verdict = judge(error)
                if self._begun:
                    raise
                pause = self._reach.retries.pause(attempt, error) if verdict.retry else None
                if pause is not None and now() + pause < deadline:
                    await asyncio.sleep(pause)
                elif verdict.fall_back and await self._models.fall_back():
                    attempt = 0
                else:
                    raise

    async def _ask(
        self, resolved: ResolvedModel, attempt: int, deadline: float, request: tuple[Any, ...], options: dict[str, Any]
    ) -> AsyncIterator[TResponseStreamEvent]:
        """One attempt with one model."""
        usage = self._turn.usage.of(resolved.provider, resolved.name)
        elsewhere = resolved.breaker_key is not None
        span_data = {"provider": resolved.provider, "model": resolved.name, "attempt": attempt, "outcome": "stopped"}
        with self._turn.trace.span("generation", resolved.name, **span_data) as span:
            meter = Meter(usage, asked=characters_of(request[0], request[1])) if elsewhere else None
            breaker = self._reach.breakers.calling(resolved.breaker_key) if resolved.breaker_key else nullcontext()
            try:
                with breaker as call:
                    try:
                        shown = for_eyes_of(f"{resolved.provider}/{resolved.name}", request[1])
                        stream = resolved.model.stream_response(request[0], shown, *request[2:], **options)
                        if elsewhere:
                            stream = within_limits(stream, self._reach.limits, until=deadline)
                        async for event in self._tap(stream, span=span, meter=meter, call=call):
                            yield event
                    except Exception as error:
                        _tell(call, error)
                        raise
                    if call is not None:
                        call.succeeded()
                span.data["outcome"] = "answered"
            except Exception as error:
                span.data["outcome"] = "failed" if self._begun else "not_reached" if judge(error).counts else "refused"
                if meter is not None and not self._begun and not isinstance(error, TimeoutError):
                    meter.forget()  # who answers with an error does not charge for it
                raise
            finally:
                if meter is not None:
                    meter.describe(span.data)
                _count(resolved, span.data, self._turn.trace.now() - span.started)

    async def _tap(
        self, stream: AsyncIterator[TResponseStreamEvent], *, span: Span, meter: Meter | None, call: Call | None
    ) -> AsyncIterator[TResponseStreamEvent]:
        received = complete = False
        async with aclosing(cast("Any", stream)) as events:
            async for event in events:
                kind, received = event.type, True
                if not self._begun and is_token(kind):
                    self._begin(span, call)
                if kind in _WRITTEN:
                    self._take(kind, event, meter)
                elif kind in _COMPLETE:
                    complete = True
                    yield self._end(event, span=span, meter=meter)
                    if kind == "response.incomplete":
                        return  # going on would raise
                elif kind == "response.output_item.done":
                    self._writer.finish()
                    _speak_refusals(event.item)
                    yield event
                elif kind in _FAILED:
                    raise _reported(event)
        if not received:
            raise ModelBehaviorError("The host answered, but not with a stream of events.")
        if not complete:
            raise StreamBroken

    @staticmethod
    def _end(event: Any, *, span: Span, meter: Meter | None) -> TResponseStreamEvent:
        """The end of a response, as the Runner wants it."""
        response = event.response
        if meter is not None:
            meter.settle(response)
        for item in response.output:
            _speak_refusals(item)
        if event.type == "response.completed":
            completed: TResponseStreamEvent = event
            return completed
        # The limit of tokens was reached, or a filter stopped it: what was said stands.
        why = getattr(response.incomplete_details, "reason", None)
        span.data["incomplete"] = why
        if why == "content_filter" and not _says_something(response):
            raise AnswerWithheld
        return ResponseCompletedEvent.model_construct(
            type="response.completed", response=response, sequence_number=event.sequence_number
        )

    def _begin(self, span: Span, call: Call | None) -> None:
        """The first token is here: from now on nothing is asked twice."""
        self._begun = True
        span.data["first_token"] = round(self._turn.trace.now() - span.started, 3)
        if call is not None:
            call.succeeded()

    def _take(self, kind: str, event: Any, meter: Meter | None) -> None:
        """Something that the model wrote: text and thoughts go to the visitor, and all of it counts."""
        delta, thoughts = event.delta, self._thoughts
        if kind in _TEXT:
            if thoughts is not None and thoughts.open and delta:
                thoughts.finish()
            self._writer.write((self._responses, event.output_index), delta)
        elif thoughts is not None and kind in _THOUGHTS:
            self._writer.finish()
            thoughts.write((self._responses, event.output_index, getattr(event, "summary_index", None)), delta)
        if meter is not None:
            meter.count(delta)

    def _with_reasoning(self, request: tuple[Any, ...]) -> tuple[Any, ...]:
        instructions, items, settings, *rest = request
        return (instructions, items, _reasoning_settings(settings, self._turn.config.reasoning), *rest)


def _count(resolved: ResolvedModel, said: dict[str, Any], seconds: float) -> None:
    metrics.model_called(
        resolved.kind,
        said["outcome"],
        seconds=seconds,
        tokens_in=said.get("input_tokens", 0),
        tokens_out=said.get("output_tokens", 0),
        cached=said.get("cached_tokens", 0),
    )


def _reasoning_settings(settings: ModelSettings, config: ReasoningConfig) -> ModelSettings:
    if config.effort is None and not config.show:
        return settings
    reasoning = Reasoning(effort=config.effort, summary="auto" if config.show else None)
    return replace(settings, reasoning=reasoning)


def _speak_refusals(item: Any) -> None:
    """A refusal is an answer like any other here, and was shown as one; the Runner would take it for a failure."""
    if item.type == "message":
        item.content = [
            ResponseOutputText(type="output_text", text=part.refusal, annotations=[])
            if part.type == "refusal"
            else part
            for part in item.content
        ]


def _says_something(response: Response) -> bool:
    return any(getattr(part, "text", "") for item in response.output for part in getattr(item, "content", None) or ())


def _tell(call: Call | None, error: Exception) -> None:
    """Tell the breaker what an error says about the host."""
    if call is None:
        return
    if judge(error).counts:
        call.failed()
    else:
        call.succeeded()  # it answered, if not as one would like


def _reported(event: Any) -> ReportedFailure:
    told = getattr(getattr(event, "response", None), "error", None) or event
    code = getattr(told, "code", None)
    return ReportedFailure(str(code) if code else None)

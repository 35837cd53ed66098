"""What a model of our own streams: the same events that OpenAI's Responses API would send."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Literal

from agents.items import TResponseStreamEvent
from openai.types.responses import (
    Response,
    ResponseCompletedEvent,
    ResponseContentPartAddedEvent,
    ResponseContentPartDoneEvent,
    ResponseCreatedEvent,
    ResponseFunctionCallArgumentsDoneEvent,
    ResponseFunctionToolCall,
    ResponseOutputItem,
    ResponseOutputItemAddedEvent,
    ResponseOutputItemDoneEvent,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseTextDeltaEvent,
    ResponseTextDoneEvent,
)

from stonechat import ids


def message_events(model: str, deltas: Iterable[str]) -> Iterator[TResponseStreamEvent]:
    """A response that is one message, streamed in these deltas."""
    yield _created(model)
    message_id = ids.new_id("msg")
    yield ResponseOutputItemAddedEvent(
        type="response.output_item.added",
        item=ResponseOutputMessage(id=message_id, type="message", role="assistant", status="in_progress", content=[]),
        output_index=0,
        sequence_number=1,
    )
    yield ResponseContentPartAddedEvent(
        type="response.content_part.added",
        item_id=message_id,
        output_index=0,
        content_index=0,
        part=ResponseOutputText(type="output_text", text="", annotations=[]),
        sequence_number=2,
    )
    parts: list[str] = []
    for delta in deltas:
        parts.append(delta)
        yield ResponseTextDeltaEvent(
            type="response.output_text.delta",
            item_id=message_id,
            output_index=0,
            content_index=0,
            delta=delta,
            logprobs=[],
            sequence_number=2 + len(parts),
        )
    text = "".join(parts)
    last = 2 + len(parts)
    yield ResponseTextDoneEvent(
        type="response.output_text.done",
        item_id=message_id,
        output_index=0,
        content_index=0,
        text=text,
        logprobs=[],
        sequence_number=last + 1,
    )
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    yield ResponseContentPartDoneEvent(
        type="response.content_part.done",
        item_id=message_id,
        output_index=0,
        content_index=0,
        part=part,
        sequence_number=last + 2,
    )
    message = ResponseOutputMessage(id=message_id, type="message", role="assistant", status="completed", content=[part])
    yield from _ended(model, message, last + 3)


def call_events(model: str, name: str, arguments: str) -> Iterator[TResponseStreamEvent]:
    """A response that is one call of a function tool."""
    yield _created(model)
    call = ResponseFunctionToolCall(
        id=ids.new_id("fc"),
        call_id=ids.new_id("call"),
        name=name,
        arguments=arguments,
        type="function_call",
        status="completed",
    )
    yield ResponseOutputItemAddedEvent(
        type="response.output_item.added",
        item=call.model_copy(update={"arguments": "", "status": "in_progress"}),
        output_index=0,
        sequence_number=1,
    )
    yield ResponseFunctionCallArgumentsDoneEvent(
        type="response.function_call_arguments.done",
        item_id=call.id or "",
        output_index=0,
        arguments=arguments,
        name=name,
        sequence_number=2,
    )
    yield from _ended(model, call, 3)


def _created(model: str) -> ResponseCreatedEvent:
    return ResponseCreatedEvent(
        type="response.created", response=_response(model, "in_progress", []), sequence_number=0
    )


def _ended(model: str, item: ResponseOutputItem, sequence_number: int) -> Iterator[TResponseStreamEvent]:
    yield ResponseOutputItemDoneEvent(
        type="response.output_item.done", item=item, output_index=0, sequence_number=sequence_number
    )
    yield ResponseCompletedEvent(
        type="response.completed",
        response=_response(model, "completed", [item]),
        sequence_number=sequence_number + 1,
    )


def _response(model: str, status: Literal["in_progress", "completed"], output: list[ResponseOutputItem]) -> Response:
    return Response(
        id=ids.new_id("resp"),
        created_at=time.time(),
        model=model,
        object="response",
        output=output,
        tool_choice="auto",
        tools=[],
        parallel_tool_calls=False,
        status=status,
        usage=None,
    )

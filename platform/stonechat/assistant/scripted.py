"""The model `scripted`: fifty short deltas at once, for load tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents import ModelResponse, Usage
from agents.items import TResponseStreamEvent
from agents.models.interface import Model

from stonechat.assistant.model_events import message_events

SCRIPTED_DELTAS = ("word00", *(f" word{number:02d}" for number in range(1, 50)))
SCRIPTED_TEXT = "".join(SCRIPTED_DELTAS)


class StreamingModel(Model):
    """A model that only knows how to stream; whoever wants the whole gets it from the stream."""

    async def get_response(self, *request: Any, **options: Any) -> ModelResponse:
        """The response that the stream ends with."""
        events = self.stream_response(*request, **options)
        async for event in events:
            if event.type == "response.completed":
                return ModelResponse(output=event.response.output, usage=Usage(requests=1), response_id=None)
        raise RuntimeError("the stream ended without a response")


class ScriptedModel(StreamingModel):
    """Says the same fifty words to everyone, as fast as it can be asked."""

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:  # noqa: ARG002
        """All of it at once."""
        for event in message_events("scripted", SCRIPTED_DELTAS):
            yield event

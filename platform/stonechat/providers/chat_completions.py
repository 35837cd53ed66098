"""Chat Completions as hosts really stream it: what the SDK takes for granted is put right before it looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from agents.exceptions import ModelBehaviorError
from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
from openai import AsyncStream
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from stonechat import ids
from stonechat.providers.retries import AnswerWithheld, StreamBroken

MAX_TOOL_CALLS = 64
"""Of one answer."""


class CompatibleModel(OpenAIChatCompletionsModel):
    """The SDK's model, on a stream that was tidied up."""

    async def _fetch_response(self, *request: Any, **options: Any) -> Any:
        fetched: Any = await super()._fetch_response(*request, **options)
        if isinstance(fetched, ChatCompletion):
            return fetched
        response, stream = fetched
        return response, TidyStream(stream)


class TidyStream:
    """A stream of chunks without the differences between hosts.

    - A stream that ends without a finish reason was cut off, and is an error, however politely it ended.
    - An answer without a single event is a web page, or nothing: an error too.
    - Content in typed parts (Mistral's thinking models) becomes text and `reasoning_content`.
    - Calls of tools that share an index, or have none (Gemini), are told apart by their ids; those without an id get one.
    """

    def __init__(self, stream: AsyncStream[ChatCompletionChunk]) -> None:
        self._stream = stream
        self._chunks = self._tidied()
        self._places: dict[Any, int] = {}
        """The place that fragments with an index belong to."""
        self._calls: list[str | None] = []
        """The id of the call at each place."""

    @property
    def response(self) -> Any:
        """The HTTP response, whose headers the SDK reads."""
        return self._stream.response

    def __aiter__(self) -> AsyncIterator[ChatCompletionChunk]:
        return self

    async def __anext__(self) -> ChatCompletionChunk:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.close()

    async def _tidied(self) -> AsyncIterator[ChatCompletionChunk]:
        received = complete = filtered = spoken = False
        async for chunk in self._stream:
            received = True
            complete = complete or (chunk.usage is not None and not chunk.choices)
            for choice in chunk.choices or ():
                complete = complete or choice.finish_reason is not None
                filtered = filtered or choice.finish_reason == "content_filter"
                if choice.delta is not None and choice.index in (0, None):
                    self._tidy(choice.delta)
                    choice.index = 0
                    spoken = spoken or bool(choice.delta.content or choice.delta.refusal or choice.delta.tool_calls)
            yield chunk
        if not received:
            raise ModelBehaviorError("The host answered, but not with a stream of events.")
        if not complete:
            raise StreamBroken
        if filtered and not spoken:
            raise AnswerWithheld

    def _tidy(self, delta: Any) -> None:
        if isinstance(delta.content, list):
            _flatten(delta)
        elif delta.content is not None and not isinstance(delta.content, str):
            raise ModelBehaviorError("The host streams content that is no text.")
        for fragment in delta.tool_calls or ():
            self._place(fragment)

    def _place(self, fragment: Any) -> None:
        index, call_id = fragment.index, fragment.id
        place = self._places.get(index)
        begins = place is None or (call_id and self._calls[place] not in (None, call_id))
        if begins:
            if len(self._calls) >= MAX_TOOL_CALLS:
                raise ModelBehaviorError("The model wants to use more tools at once than make sense.")
            place = len(self._calls)
            self._calls.append(call_id)
            self._places[index] = place
            if not call_id:
                fragment.id = ids.new_id("call")
        fragment.index = place
        if fragment.function is not None and isinstance(fragment.function.arguments, dict):
            raise ModelBehaviorError("The host gives a tool's arguments in a form that is not known.")


def _flatten(delta: Any) -> None:
    """Text of typed parts as text, and thoughts as `reasoning_content`."""
    texts: list[str] = []
    thoughts: list[str] = []
    for part in delta.content:
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            texts.append(part["text"])
        thinking = part.get("thinking")
        if isinstance(thinking, str):
            thoughts.append(thinking)
        elif isinstance(thinking, list):
            thoughts += [
                each["text"] for each in thinking if isinstance(each, dict) and isinstance(each.get("text"), str)
            ]
    delta.content = "".join(texts) or None
    if thoughts:
        delta.reasoning_content = "".join(thoughts)

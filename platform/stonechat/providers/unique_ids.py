"""Ids for Chat Completions: the SDK gives every item the id `__fake_id__`, and items of one id overwrite each other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from agents import ModelResponse
from agents.items import TResponseStreamEvent
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.interface import Model
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest
from pydantic import BaseModel

from stonechat import ids

_PREFIXES = {"message": "msg", "function_call": "fc", "reasoning": "rs"}


class UniqueIdModel(Model):
    """A model whose items have ids of their own, the same from the first event to the final response.

    Also gives streamed annotations as dicts: chatkit 1.6.5 chokes on openai 3.x's classes.
    """

    def __init__(self, inner: Model) -> None:
        self._inner = inner

    async def close(self) -> None:
        """Close the model within."""
        await self._inner.close()

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        """The advice of the model within."""
        return self._inner.get_retry_advice(request)

    async def get_response(self, *request: Any, **options: Any) -> ModelResponse:
        """As the model within, with fresh ids."""
        response = await self._inner.get_response(*request, **options)
        for item in response.output:
            _rename(item, ids.new_id(_prefix(item)))
        return response

    async def stream_response(self, *request: Any, **options: Any) -> AsyncIterator[TResponseStreamEvent]:
        """As the model within, with fresh ids in place of fake ones."""
        stream = self._inner.stream_response(*request, **options)
        names = _Names()
        async with aclosing(cast("Any", stream)) as events:
            async for event in events:
                names.apply(event)
                yield event


class _Names:
    """The ids of one response. An item keeps its place (`output_index`) in all of its events.

    Items are told apart by place and type: the stream handler moves a message by one place when reasoning precedes it
    only in some of the events.
    """

    def __init__(self) -> None:
        self._by_place: dict[tuple[int, str], str] = {}
        self._latest: dict[int, str] = {}
        self._response_id = ids.new_id("resp")

    def apply(self, event: TResponseStreamEvent) -> None:
        place = getattr(event, "output_index", 0)
        item = getattr(event, "item", None)
        if isinstance(item, BaseModel):
            _rename(item, self._name(place, item))
        elif getattr(event, "item_id", None) == FAKE_RESPONSES_ID:
            name = self._latest.get(place) or self._by_place.setdefault((place, "message"), ids.new_id("msg"))
            cast("Any", event).item_id = name
        response = getattr(event, "response", None)
        if response is not None:
            self._apply_to_response(response)
        if event.type == "response.output_text.annotation.added" and isinstance(event.annotation, BaseModel):
            cast("Any", event).annotation = event.annotation.model_dump()

    def _apply_to_response(self, response: Any) -> None:
        if response.id == FAKE_RESPONSES_ID:
            response.id = self._response_id
        names: dict[str, list[str]] = {}
        for (_, kind), name in sorted(self._by_place.items()):
            names.setdefault(kind, []).append(name)
        for item in response.output:
            known = names.get(item.type)
            _rename(item, known.pop(0) if known else ids.new_id(_prefix(item)))

    def _name(self, place: int, item: Any) -> str:
        name = self._by_place.setdefault((place, item.type), ids.new_id(_prefix(item)))
        self._latest[place] = name
        return name


def _prefix(item: Any) -> str:
    return _PREFIXES.get(item.type, "item")


def _rename(item: Any, name: str) -> None:
    if getattr(item, "id", None) == FAKE_RESPONSES_ID:
        item.id = name

"""Assistants for tests: they say what they are told to, at the pace they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadMetadata,
    ThreadStreamEvent,
)

from stonechat import clock
from stonechat.assistant.turn import GenerateItemId, Turn

Pause = Callable[[int], Awaitable[None]]


async def speak(
    thread: ThreadMetadata, item_id: str, deltas: Sequence[str], *, pause: Pause | None = None
) -> AsyncIterator[ThreadStreamEvent]:
    """One assistant message, delta by delta; `pause` is awaited before each."""
    item = AssistantMessageItem(id=item_id, thread_id=thread.id, created_at=clock.now(), content=[])
    yield ThreadItemAddedEvent(item=item)
    empty = AssistantMessageContent(text="")
    yield ThreadItemUpdatedEvent(
        item_id=item_id, update=AssistantMessageContentPartAdded(content_index=0, content=empty)
    )
    for number, delta in enumerate(deltas):
        if pause is not None:
            await pause(number)
        yield ThreadItemUpdatedEvent(
            item_id=item_id, update=AssistantMessageContentPartTextDelta(content_index=0, delta=delta)
        )
    whole = AssistantMessageContent(text="".join(deltas))
    yield ThreadItemUpdatedEvent(
        item_id=item_id, update=AssistantMessageContentPartDone(content_index=0, content=whole)
    )
    yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [whole]}))


class Scripted:
    """A `Responder` whose answer is `script(thread, item_id)`; remembers what it was asked and whether it was stopped."""

    def __init__(
        self, script: Callable[[ThreadMetadata, GenerateItemId], AsyncIterator[ThreadStreamEvent]] | None = None
    ) -> None:
        self.script = script or (lambda thread, new_id: speak(thread, new_id("message"), ["Hello", ", ", "world"]))
        self.histories: list[list[ThreadItem]] = []
        self.stopped = asyncio.Event()

    async def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        self.histories.append(list(turn.history))
        use = turn.usage.of("test", "scripted")
        use.input_tokens, use.output_tokens = 3, 5
        try:
            async for event in self.script(turn.thread, turn.generate_item_id):
                yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped.set()
            raise


class Gate:
    """Holds deltas back until the test lets them go."""

    def __init__(self, *, free: int = 0) -> None:
        self._permits = asyncio.Semaphore(free)

    async def __call__(self, _number: int) -> None:
        await self._permits.acquire()

    def let(self, count: int) -> None:
        for _ in range(count):
            self._permits.release()

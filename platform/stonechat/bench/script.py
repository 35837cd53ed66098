"""The answer that both sides of the benchmark give: fifty short deltas, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
)

WORDS = tuple(f"word{number} " for number in range(50))
TEXT = "".join(WORDS)


async def scripted_answer(thread_id: str, item_id: str, *, created_at: datetime) -> AsyncIterator[ThreadStreamEvent]:
    """One assistant message in fifty deltas."""
    yield ThreadItemAddedEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread_id, created_at=created_at, content=[])
    )
    yield ThreadItemUpdatedEvent(
        item_id=item_id,
        update=AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="")),
    )
    for word in WORDS:
        yield ThreadItemUpdatedEvent(
            item_id=item_id, update=AssistantMessageContentPartTextDelta(content_index=0, delta=word)
        )
    whole = AssistantMessageContent(text=TEXT)
    yield ThreadItemUpdatedEvent(
        item_id=item_id, update=AssistantMessageContentPartDone(content_index=0, content=whole)
    )
    yield ThreadItemDoneEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread_id, created_at=created_at, content=[whole])
    )

"""The answers that both sides of the benchmark give. The question says which: see `scripted_answer`."""

from __future__ import annotations

import asyncio
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
    UserMessageItem,
)

AT_ONCE = "How long may I keep the shoes?"
"""Fifty short deltas, as fast as they are taken."""
PACED = "Tell me slowly."
"""`PACED_RATE` deltas a second for `PACED_SECONDS`."""
IDLE = "Think about it."
"""One delta, and then nothing for `IDLE_SECONDS`, as while a model thinks."""

WORDS = tuple(f"word{number} " for number in range(50))
PACED_RATE = 20
PACED_SECONDS = 6
IDLE_SECONDS = 60


async def scripted_answer(
    question: UserMessageItem | None, *, thread_id: str, item_id: str, created_at: datetime
) -> AsyncIterator[ThreadStreamEvent]:
    """One assistant message, the way the question asks for it."""
    asked = question.content[0].text if question is not None and question.content else AT_ONCE
    yield ThreadItemAddedEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread_id, created_at=created_at, content=[])
    )
    yield ThreadItemUpdatedEvent(
        item_id=item_id,
        update=AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="")),
    )
    said = []
    async for word in _words(asked):
        said.append(word)
        yield ThreadItemUpdatedEvent(
            item_id=item_id, update=AssistantMessageContentPartTextDelta(content_index=0, delta=word)
        )
    whole = AssistantMessageContent(text="".join(said))
    yield ThreadItemUpdatedEvent(
        item_id=item_id, update=AssistantMessageContentPartDone(content_index=0, content=whole)
    )
    yield ThreadItemDoneEvent(
        item=AssistantMessageItem(id=item_id, thread_id=thread_id, created_at=created_at, content=[whole])
    )


async def _words(asked: str) -> AsyncIterator[str]:
    if asked == PACED:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(PACED_RATE * PACED_SECONDS):
            # By the schedule and not by pauses: who is late once catches up.
            await asyncio.sleep(began + number / PACED_RATE - loop.time())
            yield WORDS[number % 50]
    elif asked == IDLE:
        yield WORDS[0]
        await asyncio.sleep(IDLE_SECONDS)
    else:
        for word in WORDS:
            yield word

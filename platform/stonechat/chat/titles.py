"""Conversations named by the model, while it answers the first question or right after: nobody waits for a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

from chatkit.types import ThreadItemUpdatedEvent, ThreadStreamEvent, UserMessageItem
from sqlalchemy import update

from stonechat.assistant.titles import MAX_TITLE, fitting_title
from stonechat.assistant.turn import Turn, WritesTitles
from stonechat.chat.codec import without_nul
from stonechat.chat.models import Thread
from stonechat.chat.runs import Run
from stonechat.db.session import Database


async def titled(
    events: AsyncIterator[ThreadStreamEvent], *, run: Run, turn: Turn, titles: WritesTitles, database: Database
) -> AsyncIterator[ThreadStreamEvent]:
    """The events of a first answer. A name that comes while they stream is told with them, a later one is stored.

    The name is asked for once the answer speaks: what a guardrail stops before is sent nowhere.
    """
    asking: asyncio.Task[str | None] | None = None
    try:
        async with aclosing(cast("Any", events)) as answer:
            async for event in answer:
                if asking is None and not turn.stopped and isinstance(event, ThreadItemUpdatedEvent):
                    asking = asyncio.create_task(titles.title(turn))
                elif asking is not None and asking.done():
                    run.propose_title(_result(asking))
                yield event
    except BaseException:
        if asking is not None:
            asking.cancel()
        raise
    if asking is None:
        return
    if asking.done():
        run.propose_title(_result(asking))
    else:
        waiting = asking
        turn.afterwards.append(lambda: _store(waiting, run, database))


def _result(asking: asyncio.Task[str | None]) -> str | None:
    return None if asking.cancelled() or asking.exception() is not None else asking.result()


async def _store(asking: asyncio.Task[str | None], run: Run, database: Database) -> None:
    """Name the conversation, unless somebody did meanwhile."""
    title, key, row = await asking, run.key, Thread
    if title:
        async with database.tenant(key.tenant_id, user_id=key.user_id) as session:
            await session.execute(
                update(row)
                .where(row.tenant_id == key.tenant_id, row.user_id == key.user_id, row.thread_id == key.thread_id)
                .where(row.title == run.default_title)
                .values(title=title)
            )


def first_words(message: UserMessageItem) -> str | None:
    """What a conversation is called by its first question, for lists."""
    text = without_nul(" ".join(part.text for part in message.content))
    return fitting_title(text[: MAX_TITLE * 4])

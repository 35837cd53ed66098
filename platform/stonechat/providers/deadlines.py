"""Time limits on a model's stream: to the first token, between events, and in all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, cast

from agents.items import TResponseStreamEvent


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Seconds."""

    connect: float = 10.0
    first_event: float = 90.0
    """To the first token. Long, because a local model may have to be loaded first, and others think without a word."""
    idle: float = 60.0
    total: float = 600.0
    """Of one question to a model, with everything that is tried again or elsewhere."""


def is_token(event_type: str) -> bool:
    """Whether an event carries something that the model wrote: text, a thought, a call's arguments, a finished item."""
    return event_type.endswith(".delta") or event_type == "response.output_item.done"


async def within_limits(
    stream: AsyncIterator[TResponseStreamEvent], limits: StreamLimits, *, until: float | None = None
) -> AsyncIterator[TResponseStreamEvent]:
    """The stream's events; raises `TimeoutError` when a limit passes, and always closes the stream.

    `until` is a loop time that may come before `limits.total` has passed.
    """
    now = asyncio.get_running_loop().time
    end = now() + limits.total
    if until is not None:
        end = min(end, until)
    first = now() + limits.first_event
    begun = False
    async with aclosing(cast("Any", stream)) as events:
        while True:
            async with asyncio.timeout_at(min(end, now() + limits.idle if begun else first)):
                event = await anext(events, None)
            if event is None:
                return
            yield event
            begun = begun or is_token(event.type)

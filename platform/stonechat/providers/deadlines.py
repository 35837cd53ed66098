"""Time limits on a model's stream: to the first event, between events, and in all."""

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
    """Long, because a local model may have to be loaded first."""
    idle: float = 60.0
    total: float = 600.0


async def within_limits(
    stream: AsyncIterator[TResponseStreamEvent], limits: StreamLimits
) -> AsyncIterator[TResponseStreamEvent]:
    """The stream's events; raises `TimeoutError` when a limit passes, and always closes the stream."""
    now = asyncio.get_running_loop().time
    end = now() + limits.total
    patience = limits.first_event
    async with aclosing(cast("Any", stream)) as events:
        while True:
            async with asyncio.timeout_at(min(end, now() + patience)):
                event = await anext(events, None)
            if event is None:
                return
            yield event
            patience = limits.idle

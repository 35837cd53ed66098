"""Server-sent events, read as the standard says where the SDK does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agents.exceptions import ModelBehaviorError
from openai._streaming import ServerSentEvent, SSEDecoder

MAX_LINE_BYTES = 4_000_000
"""Of one event. The last one of OpenAI's repeats the whole answer, the instructions and the tools."""


class StrictDecoder(SSEDecoder):
    """Passes over events without data (`retry:` or `id:` alone), on which the SDK fails, and bounds each line."""

    def decode(self, line: str) -> ServerSentEvent | None:
        event = super().decode(line)
        return event if event is not None and event.data else None

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncIterator[ServerSentEvent]:
        async for event in super().aiter_bytes(_bounded(iterator)):
            yield event


async def _bounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    length = 0
    async for chunk in chunks:
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        length = len(chunk) - end - 1 if end >= 0 else length + len(chunk)
        if length > MAX_LINE_BYTES:
            raise ModelBehaviorError("The host sends an event that never ends.")
        yield chunk

"""Server-sent events, read as the standard says where the SDK does not."""

from __future__ import annotations

from collections.abc import AsyncIterator

from agents.exceptions import ModelBehaviorError
from openai._streaming import ServerSentEvent, SSEDecoder

MAX_EVENT_BYTES = 4_000_000
"""The last event of OpenAI's repeats the whole answer, the instructions and the tools."""
LINE_BYTES = 64
"""What a line takes up in memory besides its text: many empty ones are large, too."""


class StrictDecoder(SSEDecoder):
    """Passes over events without data (`retry:` or `id:` alone), on which the SDK fails, and bounds each event."""

    _size = 0

    def decode(self, line: str) -> ServerSentEvent | None:
        if not line:
            self._size = 0
        elif not line.startswith(":"):  # comments are not kept
            self._size += len(line) + LINE_BYTES
        if self._size > MAX_EVENT_BYTES:
            raise _endless()
        event = super().decode(line)
        return event if event is not None and event.data else None

    async def aiter_bytes(self, iterator: AsyncIterator[bytes]) -> AsyncIterator[ServerSentEvent]:
        async for event in super().aiter_bytes(_bounded(iterator)):
            yield event


async def _bounded(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, as long as no line is longer than an event may be."""
    length = 0
    async for chunk in chunks:
        end = max(chunk.rfind(b"\n"), chunk.rfind(b"\r"))
        length = len(chunk) - end - 1 if end >= 0 else length + len(chunk)
        if length > MAX_EVENT_BYTES:
            raise _endless()
        yield chunk


def _endless() -> ModelBehaviorError:
    return ModelBehaviorError("The host sends an event that never ends.")

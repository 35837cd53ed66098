"""A model host on loopback: OpenAI's Responses and Chat Completions, streamed, as scripted by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.chat_replies import (
    CHAT_USAGE,
    chat_call,
    chat_calls,
    chat_end,
    chat_error,
    chat_refusal,
    chat_text,
    chat_thinking,
    chat_whole,
)
from support.loopback import Loopback, Received, serve
from support.responses_replies import (
    RESPONSES_USAGE,
    responses_call,
    responses_calls,
    responses_failed,
    responses_refusal,
    responses_text,
    responses_thinking,
)
from support.spoilt_replies import (
    cut,
    ended,
    garbled,
    hanging,
    in_utf8,
    refusal,
    silent,
    sliced,
    torn,
    until_closed,
    web_page,
    with_comments,
    with_crlf,
)
from support.sse_replies import CUT, HANG, SILENCE, SSE_HEAD, Reply

__all__ = [
    "CHAT_USAGE",
    "CUT",
    "HANG",
    "RESPONSES_USAGE",
    "SILENCE",
    "FakeOpenAI",
    "Received",
    "Reply",
    "chat_call",
    "chat_calls",
    "chat_end",
    "chat_error",
    "chat_refusal",
    "chat_text",
    "chat_thinking",
    "chat_whole",
    "cut",
    "ended",
    "fake_openai",
    "garbled",
    "hanging",
    "in_utf8",
    "refusal",
    "responses_call",
    "responses_calls",
    "responses_failed",
    "responses_refusal",
    "responses_text",
    "responses_thinking",
    "silent",
    "sliced",
    "torn",
    "until_closed",
    "web_page",
    "with_comments",
    "with_crlf",
]


@dataclass
class FakeOpenAI:
    """`replies` are given in order, one a request; the last is repeated. `choose` decides by the request instead."""

    server: Loopback
    replies: list[Reply]
    choose: Callable[[Received], Reply] | None = None
    served: int = 0
    hanging: int = 0
    """Requests that wait for nothing right now."""
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client left a hanging reply."""

    @property
    def url(self) -> str:
        return f"{self.server.url}/v1"

    @property
    def requests(self) -> list[Received]:
        return self.server.requests

    def body(self, number: int) -> dict[str, Any]:
        """The JSON of a request."""
        body: dict[str, Any] = json.loads(self.requests[number].body)
        return body


@asynccontextmanager
async def fake_openai(*replies: Reply, choose: Callable[[Received], Reply] | None = None) -> AsyncIterator[FakeOpenAI]:
    """A host that gives these replies."""

    async def answer(request: Received, writer: asyncio.StreamWriter) -> None:
        if fake.choose is not None:
            reply = fake.choose(request)
        else:
            reply = fake.replies[min(fake.served, len(fake.replies) - 1)]
        fake.served += 1
        chunked = False
        for piece in reply:
            if piece in (HANG, SILENCE):
                fake.hanging += 1
                try:
                    await _client_gone(writer, comments=piece == HANG)
                finally:
                    fake.hanging -= 1
                fake.hung_up.set()
                chunked = False
                break
            if piece == CUT:
                chunked = False
                break
            writer.write(_as_chunk(piece) if chunked else piece)
            await writer.drain()
            chunked = chunked or piece == SSE_HEAD
        if chunked:
            writer.write(b"0\r\n\r\n")
        writer.close()

    async with serve(answer) as server:
        fake = FakeOpenAI(server, list(replies), choose)
        yield fake


async def _client_gone(writer: asyncio.StreamWriter, *, comments: bool) -> None:
    try:
        while not writer.transport.is_closing():
            if comments:
                writer.write(_as_chunk(b": still here\n\n"))
                await writer.drain()
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass


def _as_chunk(piece: bytes) -> bytes:
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"

"""A model host on loopback: OpenAI's Responses and Chat Completions, streamed, as scripted by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.loopback import Loopback, Received, plain, serve

Reply = Iterable[bytes]
"""What is written after a request, piece by piece; the connection is closed after it."""

_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
HANG = b"<hang>"
"""Within a reply: say nothing more, and wait until the client goes away."""
CUT = b"<cut>"
"""Within a reply: close the connection here."""


@dataclass
class FakeOpenAI:
    """`replies` are given in order, one a request; the last is repeated."""

    server: Loopback
    replies: list[Reply]
    served: int = 0
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
async def fake_openai(*replies: Reply) -> AsyncIterator[FakeOpenAI]:
    """A host that gives these replies."""

    async def answer(_request: Received, writer: asyncio.StreamWriter) -> None:
        reply = fake.replies[min(fake.served, len(fake.replies) - 1)]
        fake.served += 1
        chunked = False
        for piece in reply:
            if piece == HANG:
                await _client_gone(writer)
                fake.hung_up.set()
                chunked = False
                break
            if piece == CUT:
                chunked = False
                break
            writer.write(_as_chunk(piece) if chunked else piece)
            await writer.drain()
            chunked = chunked or piece == _SSE_HEAD
        if chunked:
            writer.write(b"0\r\n\r\n")
        writer.close()

    async with serve(answer) as server:
        fake = FakeOpenAI(server, list(replies))
        yield fake


async def _client_gone(writer: asyncio.StreamWriter) -> None:
    try:
        while not writer.transport.is_closing():
            writer.write(_as_chunk(b": still here\n\n"))
            await writer.drain()
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass


def _as_chunk(piece: bytes) -> bytes:
    return f"{len(piece):x}\r\n".encode() + piece + b"\r\n"


def _data(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


# Chat Completions


def _chunk(delta: Mapping[str, Any] | None, *, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return _data(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "m",
            "choices": choices,
            "usage": usage,
        }
    )


CHAT_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 7,
    "total_tokens": 127,
    "prompt_tokens_details": {"cached_tokens": 100},
}


def chat_text(*deltas: str, usage: Mapping[str, Any] | None = CHAT_USAGE) -> list[bytes]:
    """A message in these deltas."""
    pieces = [_SSE_HEAD, _chunk({"role": "assistant", "content": ""})]
    pieces += [_chunk({"content": delta}) for delta in deltas]
    pieces.append(_chunk({}, finish="stop"))
    if usage is not None:
        pieces.append(_chunk(None, usage=usage))
    return [*pieces, b"data: [DONE]\n\n"]


def chat_call(name: str, arguments: str, *, say: str = "", call_id: str = "call_1") -> list[bytes]:
    """A call of a function, perhaps with a word before it; its arguments come in two halves."""
    half = len(arguments) // 2
    pieces = [_SSE_HEAD, _chunk({"role": "assistant", "content": say or None})]
    first = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments[:half]}}
    pieces.append(_chunk({"tool_calls": [first]}))
    pieces.append(_chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]}))
    pieces.append(_chunk({}, finish="tool_calls"))
    pieces.append(_chunk(None, usage=CHAT_USAGE))
    return [*pieces, b"data: [DONE]\n\n"]


# Responses


RESPONSES_USAGE = {
    "input_tokens": 90,
    "output_tokens": 9,
    "total_tokens": 99,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
    "output_tokens_details": {"reasoning_tokens": 0},
}


def _response(status: str, output: list[Any], usage: Any = None, **more: Any) -> dict[str, Any]:
    response = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "status": status,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    return response | more


def _numbered(events: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    for number, event in enumerate(events):
        yield b"event: " + event["type"].encode() + b"\n" + _data(event | {"sequence_number": number})


def responses_text(
    *deltas: str, annotation: dict[str, Any] | None = None, end: str = "completed", usage: Any = RESPONSES_USAGE
) -> list[bytes]:
    """A message in these deltas; `annotation` is added at its end; `end` may be `incomplete`."""
    text = "".join(deltas)
    annotations = [annotation] if annotation else []
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": text, "annotations": annotations}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": message | {"status": "in_progress", "content": []},
        },
        {
            "type": "response.content_part.added",
            **place,
            "part": {"type": "output_text", "text": "", "annotations": []},
        },
        *({"type": "response.output_text.delta", **place, "delta": delta, "logprobs": []} for delta in deltas),
    ]
    if annotation:
        events.append(
            {
                "type": "response.output_text.annotation.added",
                **place,
                "annotation_index": 0,
                "annotation": annotation,
            }
        )
    more = {"incomplete_details": {"reason": "max_output_tokens"}} if end == "incomplete" else {}
    events += [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": f"response.{end}", "response": _response(end, [message], usage, **more)},
    ]
    return [_SSE_HEAD, *_numbered(events)]


def responses_call(name: str, arguments: str) -> list[bytes]:
    """A call of a function."""
    call = {
        "id": "fc_1",
        "call_id": "call_1",
        "type": "function_call",
        "name": name,
        "arguments": arguments,
        "status": "completed",
    }
    events = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.output_item.added", "output_index": 0, "item": call | {"arguments": ""}},
        {
            "type": "response.function_call_arguments.done",
            "item_id": "fc_1",
            "output_index": 0,
            "name": name,
            "arguments": arguments,
        },
        {"type": "response.output_item.done", "output_index": 0, "item": call},
        {"type": "response.completed", "response": _response("completed", [call], RESPONSES_USAGE)},
    ]
    return [_SSE_HEAD, *_numbered(events)]


# Trouble


def refusal(status: int, code: str = "some_code", headers: dict[str, str] | None = None) -> list[bytes]:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": "no, sk-secret", "type": "x", "code": code}}).encode()
    return [plain(body, status=status, headers={"Content-Type": "application/json", **(headers or {})})]


def cut(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then the end of the connection."""
    return [*reply[:after], CUT]


def hanging(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then silence."""
    return [*reply[:after], HANG]


def garbled(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then something that is no JSON."""
    return [*reply[:after], b"data: {not json\n\n"]

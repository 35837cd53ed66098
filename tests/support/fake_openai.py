"""A model host on loopback: OpenAI's Responses and Chat Completions, streamed, as scripted by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.loopback import Loopback, Received, plain, serve

Reply = Iterable[bytes]
"""What is written after a request, piece by piece; the connection is closed after it."""

_SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
_UNTIL_CLOSED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
HANG = b"<hang>"
"""Within a reply: nothing but keep-alive comments, until the client goes away."""
SILENCE = b"<silence>"
"""Within a reply: not a byte more, until the client goes away."""
CUT = b"<cut>"
"""Within a reply: close the connection here."""


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
            chunked = chunked or piece == _SSE_HEAD
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


def chat_whole(words: str) -> list[bytes]:
    """A message for who did not ask for a stream."""
    message = {"role": "assistant", "content": words}
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": CHAT_USAGE,
    }
    return [plain(json.dumps(whole).encode(), headers={"Content-Type": "application/json", "Connection": "close"})]


def chat_end(reason: str | None, *deltas: str) -> list[bytes]:
    """A message in these deltas that ends for a reason, or for none, with `[DONE]` all the same."""
    pieces = [_SSE_HEAD, _chunk({"role": "assistant", "content": ""})]
    pieces += [_chunk({"content": delta}) for delta in deltas]
    return [*pieces, _chunk({}, finish=reason), b"data: [DONE]\n\n"]


def chat_refusal(text: str) -> list[bytes]:
    """The model declines."""
    return [_SSE_HEAD, _chunk({"role": "assistant", "refusal": text}), _chunk({}, finish="stop"), b"data: [DONE]\n\n"]


def chat_thinking(thoughts: Sequence[str], *deltas: str, field: str = "reasoning_content") -> list[bytes]:
    """A message after thoughts, which hosts stream under different names; `content` is Mistral's way of typed parts."""

    def thought(text: str) -> dict[str, Any]:
        if field == "content":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        return {field: text}

    pieces = [_SSE_HEAD, _chunk({"role": "assistant", "content": ""}), *(_chunk(thought(text)) for text in thoughts)]
    return [*pieces, *chat_text(*deltas)[2:]]


def chat_calls(
    calls: Sequence[tuple[str, str]], *, size: int = 3, same_index: bool = False, named: bool = True
) -> list[bytes]:
    """Calls of functions side by side, their arguments in fragments of `size`, one of each in turn.

    `same_index` counts none of them, as Gemini does, and gives each whole; not `named` leaves out their ids.
    """
    pieces = [_SSE_HEAD, _chunk({"role": "assistant", "content": None})]
    fragments: list[list[dict[str, Any]]] = []
    for number, (name, arguments) in enumerate(calls):
        index = 0 if same_index else number
        step = len(arguments) if same_index else size
        parts = [arguments[start : start + step] for start in range(0, len(arguments), step)]
        head: dict[str, Any] = {"index": index, "type": "function", "function": {"name": name, "arguments": parts[0]}}
        if named:
            head["id"] = f"call_{number}"
        fragments.append([head, *({"index": index, "function": {"arguments": part}} for part in parts[1:])])
    for turn in range(max(len(each) for each in fragments)):
        pieces += [_chunk({"tool_calls": [each[turn]]}) for each in fragments if turn < len(each)]
    return [*pieces, _chunk({}, finish="tool_calls"), _chunk(None, usage=CHAT_USAGE), b"data: [DONE]\n\n"]


def chat_error(code: str) -> list[bytes]:
    """An error in the middle of the stream, as gateways send it."""
    return [_SSE_HEAD, _data({"error": {"message": "no, sk-secret", "type": "server_error", "code": code}})]


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
    *deltas: str,
    annotation: dict[str, Any] | None = None,
    end: str = "completed",
    why: str = "max_output_tokens",
    usage: Any = RESPONSES_USAGE,
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
    more = {"incomplete_details": {"reason": why}} if end == "incomplete" else {}
    events += [
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": f"response.{end}", "response": _response(end, [message], usage, **more)},
    ]
    return [_SSE_HEAD, *_numbered(events)]


def responses_refusal(text: str) -> list[bytes]:
    """The model declines."""
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    part = {"type": "refusal", "refusal": text}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    events = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.refusal.delta", **place, "delta": text},
        {"type": "response.refusal.done", **place, "refusal": text},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.completed", "response": _response("completed", [message], RESPONSES_USAGE)},
    ]
    return [_SSE_HEAD, *_numbered(events)]


def responses_failed(code: str, *, as_event: bool = False) -> list[bytes]:
    """The provider gives up, in the response or as an error of its own."""
    error = {"code": code, "message": "no, sk-secret"}
    failed = {"type": "response.failed", "response": _response("failed", [], error=error)}
    event: dict[str, Any] = {"type": "error", **error, "param": None} if as_event else failed
    created = {"type": "response.created", "response": _response("in_progress", [])}
    return [_SSE_HEAD, *_numbered([created, event])]


def responses_thinking(thoughts: Sequence[Sequence[str]], *deltas: str) -> list[bytes]:
    """A message after a summary of thoughts: one part for each, in these deltas."""
    summary = [{"type": "summary_text", "text": "".join(parts)} for parts in thoughts]
    reasoning: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": summary}
    part = {"type": "output_text", "text": "".join(deltas), "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    added = {"type": "response.output_item.added", "output_index": 0, "item": reasoning | {"summary": []}}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": _response("in_progress", [])}, added]
    for number, parts in enumerate(thoughts):
        place = {"item_id": "rs_1", "output_index": 0, "summary_index": number}
        kind = "response.reasoning_summary_text"
        events += [{"type": f"{kind}.delta", **place, "delta": delta} for delta in parts]
        events.append({"type": f"{kind}.done", **place, "text": "".join(parts)})
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    events.append({"type": "response.output_item.done", "output_index": 0, "item": reasoning})
    events += [{"type": "response.output_text.delta", **place, "delta": delta, "logprobs": []} for delta in deltas]
    events.append({"type": "response.output_item.done", "output_index": 1, "item": message})
    whole = _response("completed", [reasoning, message], RESPONSES_USAGE)
    return [_SSE_HEAD, *_numbered([*events, {"type": "response.completed", "response": whole}])]


def responses_calls(calls: Sequence[tuple[str, str]], *, size: int = 3) -> list[bytes]:
    """Calls of functions side by side after a thought, their arguments in fragments of `size`, one of each in turn."""
    reasoning: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    items = [
        {
            "id": f"fc_{number}",
            "call_id": f"call_{number}",
            "type": "function_call",
            "name": name,
            "arguments": arguments,
            "status": "completed",
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response("in_progress", [])},
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning},
    ]
    for start in range(0, max(len(arguments) for _, arguments in calls), size):
        events += [
            {
                "type": "response.function_call_arguments.delta",
                "item_id": f"fc_{number}",
                "output_index": number + 1,
                "delta": arguments[start : start + size],
            }
            for number, (_, arguments) in enumerate(calls)
            if start < len(arguments)
        ]
    events += [
        {"type": "response.output_item.done", "output_index": number + 1, "item": item}
        for number, item in enumerate(items)
    ]
    whole = _response("completed", [reasoning, *items], RESPONSES_USAGE)
    return [_SSE_HEAD, *_numbered([*events, {"type": "response.completed", "response": whole}])]


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


# The same bytes, cut and decorated in other ways


def sliced(reply: list[bytes], size: int) -> list[bytes]:
    """In pieces of `size` bytes: within lines, and within characters."""
    stream = b"".join(reply[1:])
    return [reply[0], *(stream[start : start + size] for start in range(0, len(stream), size))]


def with_crlf(reply: list[bytes]) -> list[bytes]:
    """With Windows' line ends."""
    return [reply[0], *(piece.replace(b"\n", b"\r\n") for piece in reply[1:])]


def with_comments(reply: list[bytes]) -> list[bytes]:
    """With keep-alive comments, empty events and fields that nobody knows."""
    noise = b": keep-alive\n\n:\n\nretry: 3000\nid: 7\nfoo: bar\n\n"
    return [reply[0], *(piece for each in reply[1:] for piece in (noise, each))]


def in_utf8(reply: list[bytes]) -> list[bytes]:
    """With non-ASCII characters written out, as hosts in other languages do."""

    def written_out(piece: bytes) -> bytes:
        return b"\n".join(
            b"data: " + json.dumps(json.loads(line[6:]), ensure_ascii=False).encode()
            if line.startswith(b"data: {")
            else line
            for line in piece.split(b"\n")
        )

    return [reply[0], *map(written_out, reply[1:])]


def until_closed(reply: list[bytes]) -> list[bytes]:
    """Without lengths: the stream ends when the connection does, cut off or not."""
    return [_UNTIL_CLOSED_HEAD, *reply[1:]]


# Trouble


def refusal(
    status: int,
    code: str = "some_code",
    headers: dict[str, str] | None = None,
    *,
    message: str = "no, sk-secret",
    param: str | None = None,
) -> list[bytes]:
    """An error as OpenAI words it."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": code, "param": param}}).encode()
    return [plain(body, status=status, headers={"Content-Type": "application/json", **(headers or {})})]


def cut(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then the end of the connection."""
    return [*reply[:after], CUT]


def hanging(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then silence."""
    return [*reply[:after], HANG]


def ended(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then a proper end of the body."""
    return reply[:after]


def torn(reply: list[bytes], character: str) -> list[bytes]:
    """A reply cut off within a character of it."""
    stream = b"".join(reply[1:])
    return [reply[0], stream[: stream.index(character.encode()) + 2], CUT]


def silent(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then not a byte more."""
    return [*reply[:after], SILENCE]


def web_page(status: int = 200) -> list[bytes]:
    """What a wrong address, or a proxy in trouble, answers."""
    page = b"<!DOCTYPE html><html><body><h1>Bad Gateway</h1></body></html>"
    return [plain(page, status=status, headers={"Content-Type": "text/html; charset=utf-8"})]


def garbled(reply: list[bytes], *, after: int) -> list[bytes]:
    """The first `after` pieces of a reply, and then something that is no JSON."""
    return [*reply[:after], b"data: {not json\n\n"]

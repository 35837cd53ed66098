"""Replies in the shapes of Chat Completions, as hosts stream them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from support.loopback import plain
from support.sse_replies import SSE_HEAD, sse_data


def _chunk(delta: Mapping[str, Any] | None, *, finish: str | None = None, usage: Any = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return sse_data(
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
    pieces = [SSE_HEAD, _chunk({"role": "assistant", "content": ""})]
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
    pieces = [SSE_HEAD, _chunk({"role": "assistant", "content": ""})]
    pieces += [_chunk({"content": delta}) for delta in deltas]
    return [*pieces, _chunk({}, finish=reason), b"data: [DONE]\n\n"]


def chat_refusal(text: str) -> list[bytes]:
    """The model declines."""
    return [SSE_HEAD, _chunk({"role": "assistant", "refusal": text}), _chunk({}, finish="stop"), b"data: [DONE]\n\n"]


def chat_thinking(thoughts: Sequence[str], *deltas: str, field: str = "reasoning_content") -> list[bytes]:
    """A message after thoughts, which hosts stream under different names; `content` is Mistral's way of typed parts."""

    def thought(text: str) -> dict[str, Any]:
        if field == "content":
            return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}
        return {field: text}

    pieces = [SSE_HEAD, _chunk({"role": "assistant", "content": ""}), *(_chunk(thought(text)) for text in thoughts)]
    return [*pieces, *chat_text(*deltas)[2:]]


def chat_calls(
    calls: Sequence[tuple[str, str]], *, size: int = 3, same_index: bool = False, named: bool = True
) -> list[bytes]:
    """Calls of functions side by side, their arguments in fragments of `size`, one of each in turn.

    `same_index` counts none of them, as Gemini does, and gives each whole; not `named` leaves out their ids.
    """
    pieces = [SSE_HEAD, _chunk({"role": "assistant", "content": None})]
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
    return [SSE_HEAD, sse_data({"error": {"message": "no, sk-secret", "type": "server_error", "code": code}})]


def chat_call(name: str, arguments: str, *, say: str = "", call_id: str = "call_1") -> list[bytes]:
    """A call of a function, perhaps with a word before it; its arguments come in two halves."""
    half = len(arguments) // 2
    pieces = [SSE_HEAD, _chunk({"role": "assistant", "content": say or None})]
    first = {"index": 0, "id": call_id, "type": "function", "function": {"name": name, "arguments": arguments[:half]}}
    pieces.append(_chunk({"tool_calls": [first]}))
    pieces.append(_chunk({"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]}))
    pieces.append(_chunk({}, finish="tool_calls"))
    pieces.append(_chunk(None, usage=CHAT_USAGE))
    return [*pieces, b"data: [DONE]\n\n"]

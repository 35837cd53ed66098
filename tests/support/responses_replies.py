"""Replies in the shapes of OpenAI's Responses, as it streams them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from support.sse_replies import SSE_HEAD, sse_data

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
        yield b"event: " + event["type"].encode() + b"\n" + sse_data(event | {"sequence_number": number})


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
    return [SSE_HEAD, *_numbered(events)]


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
    return [SSE_HEAD, *_numbered(events)]


def responses_failed(code: str, *, as_event: bool = False) -> list[bytes]:
    """The provider gives up, in the response or as an error of its own."""
    error = {"code": code, "message": "no, sk-secret"}
    failed = {"type": "response.failed", "response": _response("failed", [], error=error)}
    event: dict[str, Any] = {"type": "error", **error, "param": None} if as_event else failed
    created = {"type": "response.created", "response": _response("in_progress", [])}
    return [SSE_HEAD, *_numbered([created, event])]


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
    return [SSE_HEAD, *_numbered([*events, {"type": "response.completed", "response": whole}])]


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
    return [SSE_HEAD, *_numbered([*events, {"type": "response.completed", "response": whole}])]


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
    return [SSE_HEAD, *_numbered(events)]

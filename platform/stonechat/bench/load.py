"""The load, in a process of its own: `python -m stonechat.bench.load`, its task as JSON on standard input.

Each connection holds conversations of `TURNS` turns, one after the other, over one kept-alive connection. Speaks just enough
HTTP to cost little beside what it measures, and checks that every answer is whole.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

TURNS = 4
DELTAS = 50
TURN_SECONDS = 30
_END = b"0\r\n\r\n"
_MESSAGE = {
    "content": [{"type": "input_text", "text": "How long may I keep the shoes?"}],
    "attachments": [],
    "inference_options": {},
}


class WrongAnswer(Exception):
    """A server did not answer as it should."""


async def _connection(port: int, token: str | None, until: float, turns: list[tuple[float, float]]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    bearer = f"Authorization: Bearer {token}\r\nOrigin: http://127.0.0.1:8000\r\n" if token else ""
    head = f"POST /chatkit HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{bearer}Content-Type: application/json\r\n"
    try:
        while time.perf_counter() < until:
            thread_id = None
            for _ in range(TURNS):
                async with asyncio.timeout(TURN_SECONDS):
                    thread_id, first, total = await _turn(reader, writer, head, thread_id)
                turns.append((first, total))
                if time.perf_counter() >= until:
                    break
    finally:
        writer.close()


async def _turn(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str, thread_id: str | None
) -> tuple[str, float, float]:
    """One message and its whole answer: the thread, seconds to the first event, seconds in all."""
    request: dict[str, Any] = {"type": "threads.create", "params": {"input": _MESSAGE}}
    if thread_id is not None:
        request = {"type": "threads.add_user_message", "params": {"input": _MESSAGE, "thread_id": thread_id}}
    body = json.dumps(request).encode()
    started = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    answer, first = b"", 0.0
    while not answer.endswith(_END):
        part = await reader.read(1 << 16)
        if not part:
            raise WrongAnswer(answer[-500:].decode(errors="replace"))
        answer += part
        if not first and b"data: " in answer:
            first = time.perf_counter() - started
        if not first and b"HTTP/1.1 2" not in answer[:16]:
            raise WrongAnswer(answer[:500].decode(errors="replace"))
    total = time.perf_counter() - started
    if answer.count(b"content_part.text_delta") != DELTAS or b'"type":"error"' in answer:
        raise WrongAnswer(answer[-500:].decode(errors="replace"))
    if thread_id is None:
        created = answer[answer.index(b"data: ") + 6 :]
        thread_id = json.loads(created[: created.index(b"\n")])["thread"]["id"]
    return str(thread_id), first, total


async def run_load(port: int, tokens: list[str | None], seconds: float) -> dict[str, Any]:
    """Drive one connection a token for `seconds`. Returns turns, the time they took, and times to the first event."""
    turns: list[tuple[float, float]] = []
    started = time.perf_counter()
    await asyncio.gather(*(_connection(port, token, started + seconds, turns) for token in tokens))
    return {
        "turns": len(turns),
        "seconds": time.perf_counter() - started,
        "first_event": [first for first, _ in turns],
        "whole_answer": [total for _, total in turns],
    }


if __name__ == "__main__":
    task = json.load(sys.stdin)
    print(json.dumps(asyncio.run(run_load(task["port"], task["tokens"], task["seconds"]))))  # noqa: T201

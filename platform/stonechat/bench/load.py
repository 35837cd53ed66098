"""The load, in a process of its own: `python -m stonechat.bench.load`, its task as JSON on standard input.

Speaks just enough HTTP to cost little beside what it measures, and checks that every answer is whole.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any, cast

from stonechat.bench.script import AT_ONCE, IDLE, PACED, PACED_RATE, PACED_SECONDS, WORDS

TURNS = 4
"""Turns of a conversation, after which a connection begins another."""
TURN_SECONDS = 30
START_SECONDS = 2.0
"""Over how long many streams are opened."""
STREAMS_SECONDS = 15
"""How long paced streams may take that should take `PACED_SECONDS`."""
MAX_LATE_MS = 20_000
_END = b"0\r\n\r\n"
_DELTA = b"content_part.text_delta"


class WrongAnswer(Exception):
    """A server did not answer as it should."""


class Connection(asyncio.Protocol):
    """One kept-alive connection, which asks one thing at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parts: list[bytes] = []
        self._answer: asyncio.Future[bytes] | None = None
        self.first = 0.0
        """When the first event of the last answer came."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if not self.first and b"data: " in data:
            self.first = time.perf_counter()
        if data.endswith(_END) or self._is_json():
            self._resolve()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self._resolve()

    async def ask(self, request: bytes) -> bytes:
        """The whole response to a whole request."""
        assert self._transport is not None  # noqa: S101
        self._answer, self._parts, self.first = asyncio.get_running_loop().create_future(), [], 0.0
        self._transport.write(request)
        async with asyncio.timeout(TURN_SECONDS):
            return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _is_json(self) -> bool:
        """Whether a response that says its length, as refusals do, is complete."""
        if len(self._parts) > 2 or b"content-length" not in self._parts[0]:
            return False
        head, _, body = b"".join(self._parts).partition(b"\r\n\r\n")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return length.isdigit() and len(body) >= int(length)

    def _resolve(self) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(b"".join(self._parts))


class Stream(asyncio.Protocol):
    """One connection with one paced stream: counts deltas, and how late they are by the first one's time."""

    def __init__(self, request: bytes, late: list[int]) -> None:
        self._request, self._late, self._rest = request, late, b""
        self.began = self.last = 0.0
        self.deltas = 0
        self.whole = False
        self.started = asyncio.Event()
        self.over = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        read = self._rest + data
        found = read.count(_DELTA)
        self._rest = read[1 - len(_DELTA) :]
        if found:
            now = self.last = time.perf_counter()
            if not self.deltas:
                self.began = now
                self.started.set()
            self.deltas += found
            due = self.began + (self.deltas - 1) / PACED_RATE
            self._late[min(max(int((now - due) * 1000), 0), MAX_LATE_MS)] += found
        if data.endswith(_END):
            self.whole = True
            self.over.set()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.started.set()
        self.over.set()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def message(port: int, token: str | None, question: str, *, thread_id: str | None = None) -> bytes:
    """The whole HTTP request that sends a message."""
    sent = {"content": [{"type": "input_text", "text": question}], "attachments": [], "inference_options": {}}
    request: dict[str, Any] = {"type": "threads.create", "params": {"input": sent}}
    if thread_id is not None:
        request = {"type": "threads.add_user_message", "params": {"input": sent, "thread_id": thread_id}}
    body = json.dumps(request).encode()
    bearer = f"Authorization: Bearer {token}\r\nOrigin: http://127.0.0.1:8000\r\n" if token else ""
    return (
        f"POST /chatkit HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{bearer}Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


async def connect(port: int) -> Connection:
    loop = asyncio.get_running_loop()
    return (await loop.create_connection(Connection, "127.0.0.1", port))[1]


async def process_of(port: int) -> dict[str, float]:
    """What the server's process used so far: `cpu` in seconds, `memory` in bytes."""
    connection = await connect(port)
    answer = await connection.ask(f"GET /process HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    connection.close()
    found: dict[str, float] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def check(answer: bytes) -> None:
    """Raise `WrongAnswer` unless the whole script is there."""
    if not answer.startswith(b"HTTP/1.1 2"):
        raise WrongAnswer(answer[:500].decode(errors="replace"))
    if not answer.endswith(_END) or answer.count(_DELTA) != len(WORDS) or b'"type":"error"' in answer:
        raise WrongAnswer(answer[-500:].decode(errors="replace"))


async def turn(connection: Connection, request: bytes) -> tuple[float, float]:
    """One message and its whole answer: seconds to the first event, and in all."""
    started = time.perf_counter()
    answer = await connection.ask(request)
    total = time.perf_counter() - started
    check(answer)
    return connection.first - started, total


class Talk(asyncio.Protocol):
    """Conversations over one connection, until the time is up: each question follows the whole answer before it.

    No task and no wait: what the load itself costs is taken from the servers that share its cores.
    """

    def __init__(self, port: int, token: str | None, until: float) -> None:
        self.turns: list[tuple[float, float]] = []
        """Seconds to the first event and in all, of each."""
        self.events = 0
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._port, self._token, self._until = port, token, until
        self._opening = message(port, token, AT_ONCE)
        self._next = b""
        self._asked = 0
        self._parts: list[bytes] = []
        self._started = self._first = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        assert self._transport is not None  # noqa: S101
        if self._asked == TURNS:
            self._asked = 0
        request = self._next if self._asked else self._opening
        self._asked += 1
        self._first, self._started = 0.0, time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parts.append(data)
        if not self._first and b"data: " in data:
            self._first = time.perf_counter()
        # A refusal is JSON with its length, and comes at once.
        if not data.endswith(_END) and (len(self._parts) > 1 or b"content-length" not in data):
            return
        now, answer, self._parts = time.perf_counter(), b"".join(self._parts), []
        try:
            check(answer)
            if self._asked == 1:
                self._next = message(self._port, self._token, AT_ONCE, thread_id=thread_of(answer))
        except (WrongAnswer, ValueError) as error:
            self._end(error)
            return
        self.turns.append((self._first - self._started, now - self._started))
        self.events += answer.count(b"data: {")
        if now < self._until:
            self._ask()
        else:
            self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or WrongAnswer("The connection was closed amid an answer."))

    def _end(self, error: Exception | None) -> None:
        if self._transport is not None:
            self._transport.abort()
        if not self.over.done():
            if error is None:
                self.over.set_result(None)
            else:
                self.over.set_exception(error)


def thread_of(answer: bytes) -> str:
    """The thread that an answer's first event created."""
    created = answer[answer.index(b"data: ") + 6 :]
    return str(json.loads(created[: created.index(b"\n")])["thread"]["id"])


async def run_turns(port: int, tokens: Sequence[str | None], seconds: float) -> dict[str, Any]:
    """Hold conversations over one connection a token for `seconds`: how many turns, how quick, at what cost."""
    before, started = await process_of(port), time.perf_counter()
    loop, talks = asyncio.get_running_loop(), []
    for token in tokens:
        talks.append(Talk(port, token, started + seconds))
        await loop.create_connection(lambda talk=talks[-1]: talk, "127.0.0.1", port)  # type: ignore[misc]
    async with asyncio.timeout(seconds + TURN_SECONDS):
        await asyncio.gather(*(talk.over for talk in talks))
    passed, after = time.perf_counter() - started, await process_of(port)
    turns = [each for talk in talks for each in talk.turns]
    return {
        "turns": len(turns),
        "events": sum(talk.events for talk in talks),
        "seconds": passed,
        "cpu_seconds": after["cpu"] - before["cpu"],
        "first_event": [first for first, _ in turns],
        "whole_answer": [total for _, total in turns],
    }


async def run_streams(port: int, tokens: Sequence[str | None], count: int, *, idle: bool) -> dict[str, Any]:
    """Open `count` streams at once: what the server's process grew by, and whether paced ones keep their pace."""
    loop, late = asyncio.get_running_loop(), [0] * (MAX_LATE_MS + 1)
    question = IDLE if idle else PACED
    before = await process_of(port)
    streams: list[Stream] = []
    try:
        began = time.perf_counter()
        for number in range(count):
            stream = Stream(message(port, tokens[number % len(tokens)], question), late)
            streams.append(stream)
            await loop.create_connection(lambda stream=stream: stream, "127.0.0.1", port)  # type: ignore[misc]
            await asyncio.sleep(began + (number + 1) * START_SECONDS / count - time.perf_counter())
        memory = 0.0
        try:
            async with asyncio.timeout(STREAMS_SECONDS):
                await asyncio.gather(*(stream.started.wait() for stream in streams))
                waits = [] if idle else [stream.over.wait() for stream in streams]
                over = asyncio.gather(asyncio.sleep(1.0), *waits)
                while not over.done():
                    await asyncio.wait([over], timeout=0.5)
                    memory = max(memory, (await process_of(port))["memory"])
        except TimeoutError:
            pass
        after = await process_of(port)
    finally:
        for stream in streams:
            stream.close()
    return {
        "streams": count,
        "started": sum(stream.deltas > 0 for stream in streams),
        "whole": sum(stream.whole for stream in streams),
        "memory_before": before["memory"],
        "memory": max(memory, after["memory"]),
        "cpu_seconds": after["cpu"] - before["cpu"],
        "seconds": time.perf_counter() - began,
        "rates": [(each.deltas - 1) / (each.last - each.began) for each in streams if each.deltas > 1],
        "missing": sum(PACED_RATE * PACED_SECONDS - each.deltas for each in streams),
        "late_ms": {str(late_by): found for late_by, found in enumerate(late) if found},
    }


async def run_latency(port: int, threads: dict[str, list[str]], turns: int) -> dict[str, Any]:
    """One turn at a time in each thread by turns: the times of each. `threads`: name → token and thread id."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in threads}
    connection = await connect(port)
    for number in range(turns + 5):
        for name, (token, thread_id) in threads.items():
            times_of_turn = await turn(connection, message(port, token, AT_ONCE, thread_id=thread_id))
            if number >= 5:  # warm by then
                times[name].append(times_of_turn)
    connection.close()
    return {
        name: {"first_event": [first for first, _ in found], "whole_answer": [total for _, total in found]}
        for name, found in times.items()
    }


async def _run(task: dict[str, Any]) -> dict[str, Any]:
    match task.pop("do"):
        case "turns":
            return await run_turns(**task)
        case "streams":
            return await run_streams(**task)
        case "latency":
            return await run_latency(**task)
        case other:
            raise ValueError(f"there is no task {other!r}")


if __name__ == "__main__":
    import uvloop

    print(json.dumps(uvloop.run(_run(json.load(sys.stdin)))))  # noqa: T201

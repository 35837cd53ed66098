"""What operators see of a process: its log, and, if they name a collector, the spans of its turns.

Log lines and spans carry ids, names and numbers, never content.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx2

_log = logging.getLogger(__name__)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class JsonFormatter(logging.Formatter):
    """Each record as one JSON object; what was passed as `extra=` becomes members."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def configure_logging(*, as_json: bool, level: int = logging.INFO) -> None:
    """Send the process's log to standard error, replacing earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    if as_json:
        formatter: logging.Formatter = JsonFormatter()
        formatter.converter = time.gmtime
    else:
        formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These tell, at INFO, of every request and every poll.
    for name in ("httpx", "httpcore", "httpx2", "uvicorn.access", "pgqueuer", "openai", "qdrant_client", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Each refused request would be a line, with the visitor's address in it.
    logging.getLogger("slowapi").setLevel(logging.ERROR)


class TelemetrySpan(NamedTuple):
    """A step of something, as OpenTelemetry knows it. Times are nanoseconds of Unix time."""

    name: str
    started: int
    ended: int
    attributes: Mapping[str, str | int | float | bool]
    error: str | None = None
    is_call: bool = False
    """Whether another host was asked."""


class OtlpExporter:
    """Sends traces to an OpenTelemetry collector: OTLP over HTTP as JSON, in the background, a few a request.

    Nobody ever waits for it. What comes while `MAX_QUEUED` traces wait, or what the collector does not take, is dropped
    and counted. Written by hand because one request in a fixed shape is all there is to it, where the SDK and its exporter
    would bring a thread, protobuf and eight packages.
    """

    MAX_QUEUED = 2_000
    MAX_SENT = 100
    TIMEOUT_SECONDS = 10.0
    PAUSE_SECONDS = 0.5
    CLOSE_SECONDS = 2.0

    def __init__(self, endpoint: str, *, headers: str = "", version: str = "") -> None:
        """`endpoint` is the collector's base address, or ends in `/v1/traces`; `headers` is `name=value,…`."""
        base = endpoint.rstrip("/")
        self._url = base if base.endswith("/v1/traces") else f"{base}/v1/traces"
        pairs = [pair.partition("=") for pair in headers.split(",") if "=" in pair]
        self._headers = {name.strip(): value.strip() for name, _, value in pairs} | {"Content-Type": "application/json"}
        self._resource = {
            "attributes": _attributes({"service.name": "stonechat", "service.version": version}),
        }
        self._queue: deque[Sequence[TelemetrySpan]] = deque()
        self._waiting = asyncio.Event()
        self._idle = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.sent = 0
        """Traces that the collector took."""
        self.dropped = 0

    def export(self, spans: Sequence[TelemetrySpan]) -> None:
        """Queue one trace; the first span holds the others. Call it on the loop."""
        if not spans or len(self._queue) >= self.MAX_QUEUED:
            self.dropped += 1
            return
        self._queue.append(spans)
        self._idle.clear()
        self._waiting.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())

    async def aclose(self) -> None:
        """Send what waits, for at most `CLOSE_SECONDS`."""
        task, self._task = self._task, None
        if task is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.CLOSE_SECONDS):
                await self._idle.wait()
        task.cancel()
        await asyncio.wait([task], timeout=1)

    async def _send_all(self) -> None:
        async with httpx2.AsyncClient(trust_env=False, follow_redirects=False, timeout=self.TIMEOUT_SECONDS) as client:
            while True:
                await self._waiting.wait()
                # In the order in which they came, and still in the queue while they are under way.
                batch = [self._queue[number] for number in range(min(len(self._queue), self.MAX_SENT))]
                await self._send(client, batch)
                for _ in batch:
                    self._queue.popleft()
                if not self._queue:
                    self._waiting.clear()
                    self._idle.set()
                elif len(self._queue) < self.MAX_SENT:
                    await asyncio.sleep(self.PAUSE_SECONDS)

    async def _send(self, client: httpx2.AsyncClient, batch: Sequence[Sequence[TelemetrySpan]]) -> None:
        body = {
            "resourceSpans": [
                {
                    "resource": self._resource,
                    "scopeSpans": [{"scope": {"name": "stonechat"}, "spans": [s for t in batch for s in _otlp(t)]}],
                }
            ]
        }
        try:
            answer = await client.post(self._url, headers=self._headers, content=json.dumps(body).encode())
            taken = answer.status_code < 300
        except (httpx2.HTTPError, OSError):
            taken = False
        if taken:
            self.sent += len(batch)
        else:
            if self.dropped == 0:
                _log.warning("The collector of traces does not answer as it should; what it does not take is dropped.")
            self.dropped += len(batch)


def _otlp(spans: Sequence[TelemetrySpan]) -> list[dict[str, Any]]:
    """One trace as OTLP/JSON: ids are hexadecimal there, and 64-bit numbers are text."""
    trace_id, root_id = secrets.token_hex(16), secrets.token_hex(8)
    return [
        {
            "traceId": trace_id,
            "spanId": root_id if number == 0 else secrets.token_hex(8),
            **({} if number == 0 else {"parentSpanId": root_id}),
            "name": span.name,
            "kind": 3 if span.is_call else 2 if number == 0 else 1,
            "startTimeUnixNano": str(span.started),
            "endTimeUnixNano": str(max(span.started, span.ended)),
            "attributes": _attributes(span.attributes),
            "status": {"code": 2, "message": span.error} if span.error else {"code": 1},
        }
        for number, span in enumerate(spans)
    ]


def _attributes(values: Mapping[str, str | int | float | bool]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: str | int | float | bool) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": value}

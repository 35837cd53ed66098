"""What a streamed reply is made of: the head of an answer, events, and signs for the host that gives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Reply = Iterable[bytes]
"""What is written after a request, piece by piece; the connection is closed after it."""

SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)
UNTIL_CLOSED_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
HANG = b"<hang>"
"""Within a reply: nothing but keep-alive comments, until the client goes away."""
SILENCE = b"<silence>"
"""Within a reply: not a byte more, until the client goes away."""
CUT = b"<cut>"
"""Within a reply: close the connection here."""


def sse_data(value: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: " + json.dumps(value).encode() + b"\n\n"

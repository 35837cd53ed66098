"""One attempt: a POST through the guarded client, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

from stonechat import clock
from stonechat.errors import StonechatError
from stonechat.outbound.client import OutboundClient, OutboundStream

SECONDS = 10.0
EXCERPT_SECONDS = 2.0
EXCERPT_CHARACTERS = 2000
MAX_BYTES = 1_000_000
"""Of an answer that says its length; of any, only the beginning is read."""
MAX_ERROR = 500
LONGEST_RETRY_AFTER = timedelta(hours=6)
_WORDS = {
    404: "There is nothing at this address (404).",
    410: "The endpoint says that it is gone (410).",
    429: "The endpoint says that it is asked too often (429).",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt."""

    result: Literal["delivered", "failed", "gone"]
    status: int | None
    """None where there was no answer."""
    error: str
    """In words; empty where it was delivered."""
    response: str
    duration_ms: int
    retry_after: timedelta | None = None


async def send(
    outbound: OutboundClient, url: str, *, headers: Mapping[str, str], body: bytes, allow_http: bool
) -> Outcome:
    """POST `body`. Any 2xx status counts as delivered, unless more than `MAX_BYTES` are said to follow; no redirects."""
    began = time.monotonic()
    try:
        async with outbound.stream(
            "POST",
            url,
            headers={"Content-Type": "application/json", **headers},
            content=body,
            max_bytes=MAX_BYTES,
            timeout=SECONDS,
            allow_http=allow_http,
        ) as answer:
            status, retry_after = answer.status, _retry_after(answer.headers.get("retry-after"))
            excerpt = await _excerpt(answer)
    except StonechatError as error:
        return Outcome("failed", None, str(error)[:MAX_ERROR], "", _since(began))
    if 200 <= status < 300:
        return Outcome("delivered", status, "", excerpt, _since(began))
    result: Literal["failed", "gone"] = "gone" if status == 410 else "failed"
    return Outcome(result, status, _in_words(status), excerpt, _since(began), retry_after)


async def _excerpt(answer: OutboundStream) -> str:
    """The beginning of the body, as text. What goes wrong in it, or takes too long, only ends it."""
    received = b""
    try:
        async with asyncio.timeout(EXCERPT_SECONDS), aclosing(answer.aiter_bytes()) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                received += piece
                if len(received) >= EXCERPT_CHARACTERS:
                    break
    except (StonechatError, TimeoutError):
        pass
    text = received[:EXCERPT_CHARACTERS].decode("utf-8", "replace")
    return "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)


def _in_words(status: int) -> str:
    if 300 <= status < 400:
        return f"The endpoint redirects ({status}), and redirects are not followed. Change the address instead."
    if status in _WORDS:
        return _WORDS[status]
    return f"The endpoint failed ({status})." if status >= 500 else f"The endpoint refused it ({status})."


def _retry_after(value: str | None) -> timedelta | None:
    """Seconds or a date, within bounds; None for anything else."""
    if value is None:
        return None
    value = value.strip()
    if value.isdecimal() and value.isascii() and len(value) < 10:
        asked = timedelta(seconds=int(value))
    else:
        try:
            moment = parsedate_to_datetime(value)
            asked = moment - clock.now() if moment.tzinfo is not None else timedelta(0)
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(asked, timedelta(0)), LONGEST_RETRY_AFTER)


def _since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)

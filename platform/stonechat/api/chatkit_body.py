"""The body of a ChatKit request: a mebibyte, or a recording and little else."""

from __future__ import annotations

import asyncio
import re

from chatkit.types import ChatKitReq, InputTranscribeReq
from starlette.requests import HTTPConnection
from starlette.types import Receive

from stonechat.errors import (
    AudioTooLarge,
    MalformedBody,
    PayloadTooLarge,
    TooManyConcurrent,
    UnsupportedMediaType,
    UploadTooSlow,
)
from stonechat.providers.transcription import MAX_AUDIO_BYTES

MAX_BODY = 1 << 20
MAX_DICTATION_BODY = MAX_AUDIO_BYTES * 4 // 3 + 64 * 1024
"""A recording in base64, and what stands around it."""
MAX_LARGE_AT_ONCE = 4
"""Of one process: each is held in memory several times over while it is read and decoded."""
LARGE_SECONDS = 60.0
"""Within which one arrives, once it is known to be large: those few places are not held by whoever sends a byte at a time."""
MAX_MIME_TYPE = 200

_AUDIO = re.compile(rb'"audio_base64"\s*:\s*"[A-Za-z0-9+/=\\]*')
_large = 0


async def read_body(connection: HTTPConnection, receive: Receive) -> bytes | None:
    """The request's body; None if the client hung up while sending it.

    Past a mebibyte it is read on only if it is a recording so far: a name, and then nothing but base64.
    """
    _require_json(connection)
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY:
            if not await _read_recording(body, receive, more=more):
                return None
            break
        if not more:
            break
    if not body:
        raise MalformedBody("The request has no body.")
    return bytes(body)


async def _read_recording(body: bytearray, receive: Receive, *, more: bool) -> bool:
    """Read on what is larger than a mebibyte already. False if the client hung up."""
    global _large  # noqa: PLW0603  one count a process
    if _around_audio(body) > MAX_BODY // 2:
        raise _too_large()
    if _large >= MAX_LARGE_AT_ONCE:
        raise TooManyConcurrent("Others are dictating right now. Try again in a moment.")
    _large += 1
    try:
        async with asyncio.timeout(LARGE_SECONDS):
            while True:
                if len(body) > MAX_DICTATION_BODY:
                    raise AudioTooLarge(
                        f"A recording has at most {MAX_AUDIO_BYTES // 1_000_000} MB.",
                        headers={"Connection": "close"},
                        max_bytes=MAX_AUDIO_BYTES,
                    )
                if not more:
                    break
                message = await receive()
                if message["type"] == "http.disconnect":
                    return False
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        raise UploadTooSlow(
            "The connection is too slow for this recording. Try a shorter one.", headers={"Connection": "close"}
        ) from None
    finally:
        _large -= 1
    if _around_audio(body) > MAX_BODY:
        raise _too_large()
    return True


def require_fitting(request: ChatKitReq, body: bytes) -> None:
    """Raise `PayloadTooLarge` for a large body that turned out to be something else than a recording."""
    if len(body) > MAX_BODY and not isinstance(request, InputTranscribeReq):
        raise _too_large()
    if isinstance(request, InputTranscribeReq) and len(request.params.mime_type) > MAX_MIME_TYPE:
        raise MalformedBody("The media type of the recording is too long.")


def _require_json(connection: HTTPConnection) -> None:
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("Send the request as application/json.")
    if "content-encoding" in connection.headers:
        raise UnsupportedMediaType("Send the request without a Content-Encoding.")


def _around_audio(body: bytearray) -> int:
    """How many bytes of the body are not base64 of a recording."""
    audio = _AUDIO.search(body)
    return len(body) - (len(audio.group()) if audio is not None else 0)


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge("At most 1 MiB can be sent here.", headers={"Connection": "close"}, max_bytes=MAX_BODY)

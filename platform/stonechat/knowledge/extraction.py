"""Reading a document in a process of its own, so that a poisoned file fails alone.

The child (`extractors/worker.py`) gets the bytes and an environment without secrets, limits its own memory, CPU time,
files and descriptors before it looks at them, and is killed when its time is up.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from stonechat.errors import (
    DocumentEncrypted,
    DocumentTooDemanding,
    DocumentUnreadable,
    DocumentWithoutText,
)
from stonechat.knowledge import child
from stonechat.knowledge.chunk import Piece
from stonechat.knowledge.media import MediaType

WALL_SECONDS = 90
CONCURRENT = 2
_SLOTS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()
_ERRORS: dict[str, type[DocumentUnreadable]] = {
    error.code: error for error in (DocumentEncrypted, DocumentTooDemanding, DocumentWithoutText, DocumentUnreadable)
}
_TOO_DEMANDING = "Reading this document took more time or memory than we allow. Split it, or upload it as plain text."


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from a document. `pieces` are its passages, in order."""

    title: str | None
    language: str
    characters: int
    pieces: tuple[Piece, ...]


async def read_document(data: bytes, media_type: MediaType, *, wall_seconds: float = WALL_SECONDS) -> Reading:
    """Extract and chunk in a child process. Raises a `DocumentUnreadable` whose detail says why."""
    answer = await ask_reader("read", data, media_type, wall_seconds)
    return Reading(
        answer["title"],
        answer["language"],
        answer["characters"],
        tuple(Piece(**piece | {"headings": tuple(piece["headings"])}) for piece in answer["pieces"]),
    )


async def refuse_unreadable(data: bytes, media_type: MediaType, *, wall_seconds: float = 20) -> None:
    """Tell at once what can be told cheaply: raise `DocumentEncrypted` for a PDF that needs a password."""
    if media_type is MediaType.PDF and b"/Encrypt" in data:
        await ask_reader("probe", data, media_type, wall_seconds)


async def ask_reader(task: str, data: bytes, media_type: MediaType, wall_seconds: float) -> dict[str, Any]:
    """What the child says to a task of its (`extractors/worker.py`); raises a `DocumentUnreadable`."""
    slots = _SLOTS.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(CONCURRENT))
    async with slots:
        output = await _run(task, data, media_type, wall_seconds)
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        # The child died without a word: out of memory, out of CPU time, or a crash in a parser.
        raise DocumentTooDemanding(_TOO_DEMANDING) from None
    if code := answer.get("error"):
        raise _ERRORS.get(code, DocumentUnreadable)(answer.get("detail"))
    return answer


async def _run(task: str, data: bytes, media_type: MediaType, wall_seconds: float) -> bytes:
    try:
        async with asyncio.timeout(wall_seconds):
            return await child.read_in_child(task, media_type.value, data)
    except TimeoutError:
        raise DocumentTooDemanding(_TOO_DEMANDING) from None

"""What an uploaded file is, by its content, and what is kept of it: pictures drawn anew, documents with their text."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stonechat.chat.children import read_text, run_child
from stonechat.chat.codec import without_nul
from stonechat.chat.links import Kind
from stonechat.errors import (
    DocumentEncrypted,
    DocumentTooDemanding,
    DocumentUnreadable,
    DocumentWithoutText,
    ImageTooLarge,
    ImageUnreadable,
    InvalidInput,
    UnsupportedMediaType,
)
from stonechat.knowledge.media import MediaType, detect

MAX_PIXELS = 50_000_000
MAX_SIDE = 2048
"""Pixels of what is kept; models look at no more."""
MAX_IMAGE_BYTES = 4 * 1024 * 1024
MAX_CHARACTERS = 100_000
"""Of a document's text that are kept."""
WALL_SECONDS = 30.0
_HEAD, _TAIL = 64 * 1024 + 1, 256 * 1024
_ERRORS: dict[str, type[InvalidInput]] = {
    error.code: error
    for error in (
        DocumentEncrypted,
        DocumentTooDemanding,
        DocumentUnreadable,
        DocumentWithoutText,
        ImageTooLarge,
        ImageUnreadable,
    )
}
_NOT_FOR_CHAT = frozenset({MediaType.FAQ.value, "application/zip"})


@dataclass(frozen=True, slots=True)
class Inspected:
    """What is to be kept of a file."""

    kind: Kind
    media_type: str
    data: bytes | Path
    """A picture that we drew, or the document as it came."""
    text: str | None = None
    characters: int = 0
    """Of the whole text, of which `text` may be the beginning."""


async def inspect(path: Path, *, name: str, kinds: frozenset[Kind]) -> Inspected:
    """Look at a file in a process of its own. Nothing but its beginning and end is read here.

    Raises `UnsupportedMediaType` for what is neither picture nor document, or not among `kinds`; `ImageUnreadable`,
    `ImageTooLarge` or a `DocumentUnreadable` that says why.
    """
    sample = await asyncio.to_thread(_sample, path)
    if _is_image(sample):
        if "image" not in kinds:
            raise UnsupportedMediaType("This assistant does not take pictures.")
        return await _redrawn(path)
    media_type = detect(sample, name)
    if "document" not in kinds:
        raise UnsupportedMediaType("This assistant takes pictures only.")
    if media_type.value in _NOT_FOR_CHAT:
        raise UnsupportedMediaType("An archive cannot be attached. Attach the files in it one by one.")
    return await _read(path, media_type)


def _sample(path: Path) -> bytes:
    """The beginning of a file, and the end of a ZIP, where its directory is."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
        if not head.startswith(b"PK"):
            return head
        size = file.seek(0, 2)
        file.seek(max(_HEAD, size - _TAIL) if size > _HEAD else size)
        return head + file.read(_TAIL)


def _is_image(head: bytes) -> bool:
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    return head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"))


async def _redrawn(path: Path) -> Inspected:
    output = await run_child(
        "stonechat.chat.image_worker",
        *map(str, (MAX_PIXELS, MAX_SIDE, MAX_IMAGE_BYTES)),
        file=path,
        wall_seconds=WALL_SECONDS,
        max_output=MAX_IMAGE_BYTES + 4096,
    )
    line, _, drawn = output.partition(b"\n")
    if not line:  # out of memory or out of time
        raise ImageTooLarge("Reading this picture took more time or memory than we allow. Make it smaller.")
    told = _told(line)
    return Inspected("image", told["media_type"], drawn)


async def _read(path: Path, media_type: MediaType) -> Inspected:
    output = await read_text(path, media_type.value, max_characters=MAX_CHARACTERS, wall_seconds=WALL_SECONDS)
    if not output:
        raise DocumentTooDemanding("Reading this document took more time or memory than we allow.")
    told = _told(output)
    text = without_nul(told["text"])
    if not text.strip():
        raise DocumentWithoutText("No text was found in this document. Attach a picture of it instead.")
    return Inspected("document", media_type.value, path, text, told["characters"])


def _told(line: bytes) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(line)
    if code := told.get("error"):
        raise _ERRORS.get(code, DocumentUnreadable)(told.get("detail"))
    return told

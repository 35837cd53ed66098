"""The interface of every file store, and which names are good.

A name is one to eight parts of `A-Z a-z 0-9 . _ -` joined by `/`, no part starting with a dot: nothing else reaches a file
system or a bucket, so no name can leave its tenant's place.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol
from uuid import UUID

from stonechat.errors import InvalidInput

MAX_FILE_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 256 * 1024
"""Read, hashed and sent at a time."""
MAX_NAMES = 1000
"""Listed in one call."""
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){0,7}")


class FileStore(Protocol):
    """Bytes by tenant and name. Putting replaces; deleting what is not there is no error.

    Every method raises `Unavailable` when the store cannot do its work right now.
    """

    async def put(self, tenant_id: UUID, name: str, *, data: bytes | Path) -> None:
        """Store bytes, or a file's content a chunk at a time, durably, replacing what was there."""

    async def get(self, tenant_id: UUID, name: str) -> bytes:
        """The bytes, or `NotFound`."""

    async def stream(self, tenant_id: UUID, name: str) -> AsyncIterator[bytes]:
        """The bytes a chunk at a time, or `NotFound` before the first. Read it to its end, or close it."""
        ...

    async def delete(self, tenant_id: UUID, name: str) -> None:
        """Remove one file."""

    async def names(self, tenant_id: UUID, folder: str, *, after: str = "", limit: int = MAX_NAMES) -> list[str]:
        """The names of the files in a folder that come after `after`, in order, without the folder's own."""
        ...

    async def delete_tenant(self, tenant_id: UUID) -> None:
        """Remove every file of a tenant."""

    async def aclose(self) -> None:
        """Close what is open."""


def checked_name(name: str) -> str:
    """The name, or `InvalidInput`."""
    if not _NAME.fullmatch(name):
        raise InvalidInput("A file name in the store may not look like this.")
    return name


def size_of(data: bytes | Path) -> int:
    """The bytes to be stored; `InvalidInput` if they are too many. Blocks as briefly as a `stat`."""
    size = data.stat().st_size if isinstance(data, Path) else len(data)
    if size > MAX_FILE_BYTES:
        raise InvalidInput(f"A stored file may have at most {MAX_FILE_BYTES // 1024 // 1024} MB.")
    return size

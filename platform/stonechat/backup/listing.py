"""Going through a tenant's folder in the file store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from stonechat.errors import Unavailable
from stonechat.files import FileStore
from stonechat.files.store import MAX_NAMES


async def pages_of(files: FileStore, tenant_id: UUID, folder: str) -> AsyncIterator[list[str]]:
    """The names in a folder, in order, some at a time. Raises `Unavailable` if the store cannot list them all."""
    after = ""
    while page := await files.names(tenant_id, folder, after=after, limit=MAX_NAMES):
        new = [name for name in page if name > after]
        if not new:  # a bucket that does not know how to go on
            if len(page) < MAX_NAMES:
                return
            raise Unavailable(
                f"The file store lists only the first {MAX_NAMES} names of a folder: it does not know `start-after`."
            )
        yield new
        after = new[-1]

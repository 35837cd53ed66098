"""Taking in the bytes of an attachment: a stranger's stream, onto disk a little at a time, then looked at, then kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chatkit.types import Attachment
from sqlalchemy import select, update

from stonechat import clock, metrics
from stonechat.chat import models
from stonechat.chat.attachments import Attachments, object_name
from stonechat.chat.codec import attachment_json
from stonechat.chat.inspection import Inspected, inspect
from stonechat.chat.links import FileKey, UploadGrant
from stonechat.chat.upload_lease import UploadLease, another_try, own, take
from stonechat.errors import (
    NotFound,
    PayloadTooLarge,
    TooManyConcurrent,
    Unavailable,
    UploadIncomplete,
    UploadTooSlow,
)

MAX_UPLOAD_BYTES = 20 * 1024 * 1024
"""What any agent can be set to take at most."""
WRITE_BYTES = 256 * 1024
"""Of a body that are held in memory."""


@dataclass(frozen=True, slots=True)
class UploadBounds:
    """How long a body may take, in seconds, and how many may arrive at once in this process."""

    idle_seconds: float = 15.0
    body_seconds: float = 120.0
    inspect_seconds: float = 90.0
    uploads: int = 16
    tenant_uploads: int = 8
    user_uploads: int = 3


class Uploads:
    """One per process."""

    def __init__(self, attachments: Attachments, *, bounds: UploadBounds | None = None) -> None:
        self.attachments = attachments
        self._bounds = bounds or UploadBounds()
        self._under_way: Counter[object] = Counter()

    async def receive(self, grant: UploadGrant, body: AsyncIterator[bytes], *, length: int | None) -> Attachment:
        """Take the bytes of an announced file; `length` is what the request says of itself.

        Raises `NotFound`, `AttachmentAlreadyUploaded`, `TooManyConcurrent`; `PayloadTooLarge`, `UploadIncomplete`,
        `UploadTooSlow`; and what `inspect` raises. The link stays good for another try, but for one that succeeded.
        """
        key = grant.key
        with self._place(key):
            lease = await take(self.attachments.database, key)
            try:
                async with lease.kept():
                    with tempfile.TemporaryDirectory(prefix="stonechat-upload-") as folder:
                        path = Path(folder) / "file"
                        _require_size(length, lease.announced)
                        await self._spool(body, path, announced=lease.announced)
                        found = await self._inspect(path, lease.attachment, grant)
                        await lease.require()  # or it would write over what another try stored
                        await self.attachments.files.put(key.tenant_id, object_name(key.attachment_id), data=found.data)
                return await self._keep(lease, found)
            except BaseException:
                await asyncio.shield(lease.release())
                raise

    @contextmanager
    def _place(self, key: FileKey) -> Iterator[None]:
        bounds, user = self._bounds, (key.tenant_id, key.user_id)
        taken = ((None, bounds.uploads), (key.tenant_id, bounds.tenant_uploads), (user, bounds.user_uploads))
        if any(self._under_way[whose] >= limit for whose, limit in taken):
            metrics.LIMIT_REFUSALS.of("uploads_at_once").add()
            raise TooManyConcurrent("Too many files are arriving at once. Try again.", headers={"Retry-After": "5"})
        for whose, _ in taken:
            self._under_way[whose] += 1
        try:
            yield
        finally:
            for whose, _ in taken:
                self._under_way[whose] -= 1
                if not self._under_way[whose]:
                    del self._under_way[whose]

    async def _spool(self, body: AsyncIterator[bytes], path: Path, *, announced: int) -> None:
        """The body into a file. Never more than `WRITE_BYTES` and one chunk of it are in memory."""
        received, waiting = 0, bytearray()
        chunks = aiter(body)
        try:
            async with asyncio.timeout(self._bounds.body_seconds):
                with path.open("wb") as file:
                    while True:
                        async with asyncio.timeout(self._bounds.idle_seconds):
                            chunk = await anext(chunks, None)
                        if chunk is not None:
                            received += len(chunk)
                            if received > announced:
                                raise _too_large(announced)
                            waiting += chunk
                        if len(waiting) >= WRITE_BYTES or (chunk is None and waiting):
                            await asyncio.to_thread(file.write, bytes(waiting))
                            waiting.clear()
                        if chunk is None:
                            break
        except TimeoutError:
            raise UploadTooSlow("The connection is too slow for this file. Try again.") from None
        if received < announced:
            raise _incomplete(announced)

    async def _inspect(self, path: Path, attachment: Attachment, grant: UploadGrant) -> Inspected:
        try:
            async with asyncio.timeout(self._bounds.inspect_seconds):  # waiting for others' files included
                return await inspect(path, name=attachment.name, kinds=grant.kinds)
        except TimeoutError:
            raise Unavailable("Too many files are being looked at. Try again in a minute.") from None

    async def _keep(self, lease: UploadLease, found: Inspected) -> Attachment:
        """Say that the bytes are here: they were stored first, so that no row promises what is not there."""
        files, key = self.attachments.files, lease.key
        kept = self.attachments.uploaded(key, lease.attachment, kind=found.kind, media_type=found.media_type)
        row = models.Attachment
        async with self.attachments.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            done = await session.scalar(
                update(row)
                .where(*own(key), lease.holds())
                .values(
                    data=attachment_json(kept),
                    media_type=found.media_type,
                    content=found.text,
                    characters=found.characters,
                    bytes=len(found.data) if isinstance(found.data, bytes) else lease.announced,
                    uploaded_at=clock.now(),
                    claimed_until=None,
                )
                .returning(row.attachment_id)
            )
            still = done or await session.scalar(select(row.attachment_id).where(*own(key)))
        if still is None:  # deleted meanwhile
            await files.delete(key.tenant_id, object_name(key.attachment_id))
            raise NotFound("There is no such file.")
        if done is None:
            raise another_try()
        return kept


def _require_size(length: int | None, announced: int) -> None:
    if length is None:
        return
    if length > announced:
        raise _too_large(announced)
    if length < announced:
        raise _incomplete(announced)


def _too_large(announced: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"This file was announced with {announced} bytes, and has more.", max_bytes=announced)


def _incomplete(announced: int) -> UploadIncomplete:
    return UploadIncomplete(f"This file was announced with {announced} bytes, and has fewer. Upload it again.")

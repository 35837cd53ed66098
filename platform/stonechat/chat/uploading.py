"""Taking in the bytes of an attachment: a stranger's stream, onto disk a little at a time, then looked at, then kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from chatkit.store import NotFoundError
from chatkit.types import Attachment
from sqlalchemy import ColumnElement, or_, select, update

from stonechat import clock, metrics
from stonechat.chat import models
from stonechat.chat.attachments import Attachments, object_name, own_file
from stonechat.chat.codec import attachment_json, parse_attachment
from stonechat.chat.inspection import Inspected, inspect
from stonechat.chat.links import FileKey, UploadGrant
from stonechat.errors import (
    AttachmentAlreadyUploaded,
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
CLAIM = timedelta(minutes=5)


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
            attachment, announced = await self._claim(key)
            try:
                with tempfile.TemporaryDirectory(prefix="stonechat-upload-") as folder:
                    path = Path(folder) / "file"
                    _require_size(length, announced)
                    await self._spool(body, path, announced=announced)
                    found = await self._inspect(path, attachment, grant)
                    return await self._keep(key, attachment, found, size=announced)
            except BaseException:
                await asyncio.shield(self._release(key))
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

    async def _claim(self, key: FileKey) -> tuple[Attachment, int]:
        """The announced file, for this upload alone, and how many bytes it has."""
        row, now = models.Attachment, clock.now()
        async with self.attachments.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            claimed = (
                await session.execute(
                    update(row)
                    .where(
                        *_own(key),
                        row.uploaded_at.is_(None),
                        or_(row.claimed_until.is_(None), row.claimed_until < now),
                    )
                    .values(claimed_until=now + CLAIM)
                    .returning(row.data, row.bytes)
                )
            ).one_or_none()
            if claimed is None:
                there = (await session.execute(select(row.uploaded_at).where(*_own(key)))).one_or_none()
                if there is None:
                    raise NotFound("There is no such file.")
                if there.uploaded_at is None:  # another connection is at it, or was when its process died
                    raise TooManyConcurrent(
                        "This file is arriving already. Wait for it, or attach the file anew.",
                        headers={"Retry-After": "5"},
                    )
                raise AttachmentAlreadyUploaded("Attach the file anew to send another.")
        return parse_attachment(claimed.data), claimed.bytes

    async def _release(self, key: FileKey) -> None:
        row = models.Attachment
        async with self.attachments.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            await session.execute(update(row).where(*_own(key), row.uploaded_at.is_(None)).values(claimed_until=None))

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

    async def _keep(self, key: FileKey, attachment: Attachment, found: Inspected, *, size: int) -> Attachment:
        files, name = self.attachments.files, object_name(key.attachment_id)
        await files.put(key.tenant_id, name, data=found.data)
        kept = self.attachments.uploaded(key, attachment, kind=found.kind, media_type=found.media_type)
        row = models.Attachment
        async with self.attachments.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            done = await session.scalar(
                update(row)
                .where(*_own(key), row.uploaded_at.is_(None))
                .values(
                    data=attachment_json(kept),
                    media_type=found.media_type,
                    content=found.text,
                    characters=found.characters,
                    bytes=len(found.data) if isinstance(found.data, bytes) else size,
                    uploaded_at=clock.now(),
                    claimed_until=None,
                )
                .returning(row.attachment_id)
            )
        if done is None:  # deleted meanwhile
            await files.delete(key.tenant_id, name)
            raise NotFound("There is no such file.")
        return kept


def _own(key: FileKey) -> list[ColumnElement[bool]]:
    try:
        return own_file(key)
    except NotFoundError:
        raise NotFound("There is no such file.") from None


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

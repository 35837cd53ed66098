"""An upload has its file's row on a lease, and renews it: one whose process died lets the next try in within seconds.

The moment at which a lease ends is also whose it is. By the database's clock alone, which all processes share.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chatkit.store import NotFoundError
from chatkit.types import Attachment
from sqlalchemy import ColumnElement, func, or_, select, update

from stonechat.chat import models
from stonechat.chat.attachments import own_file
from stonechat.chat.codec import parse_attachment
from stonechat.chat.links import FileKey
from stonechat.db.session import Database
from stonechat.errors import AttachmentAlreadyUploaded, NotFound, TooManyConcurrent

LEASE = timedelta(seconds=12)
RENEW_SECONDS = 3.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class UploadLease:
    """On an announced file, while its bytes arrive."""

    database: Database
    key: FileKey
    attachment: Attachment
    announced: int
    """Bytes."""
    until: datetime
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def holds(self) -> ColumnElement[bool]:
        """In SQL, that the row waits for this upload and no other."""
        row = models.Attachment
        return row.uploaded_at.is_(None) & (row.claimed_until == self.until)

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renewed again and again. `release` it afterwards where the file did not come."""
        over = asyncio.Event()
        renewing = asyncio.create_task(self._renew(over))
        try:
            yield
        finally:
            over.set()
            await renewing  # never amid a renewal, or it would not be known until when it is held

    async def require(self) -> None:
        """Renew it now. Raises `TooManyConcurrent` where this stood still for longer than a lease, and another try began."""
        if not await self._renewed():
            raise another_try()

    async def release(self) -> None:
        """Let the next try in at once."""
        await self._set(None)

    async def _renew(self, over: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), timeout=RENEW_SECONDS)
            if over.is_set():
                return
            try:
                await self._renewed()
            except Exception:  # the lease may hold all the same: `holds` has the last word
                _log.warning("The lease of an upload could not be renewed.", exc_info=True)

    async def _renewed(self) -> bool:
        async with self._turn:
            until = await self._set(func.clock_timestamp() + LEASE)
            if until is not None:
                self.until = until
            return until is not None

    async def _set(self, until: ColumnElement[datetime] | None) -> datetime | None:
        row, key = models.Attachment, self.key
        async with self.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            mine = update(row).where(*own(key), self.holds()).values(claimed_until=until)
            held: datetime | None = await session.scalar(mine.returning(row.claimed_until))
            return held


def another_try() -> TooManyConcurrent:
    """Refuses one try of several at the same file."""
    return TooManyConcurrent(
        "This file is arriving already. Wait for it, or attach the file anew.", headers={"Retry-After": "5"}
    )


async def take(database: Database, key: FileKey) -> UploadLease:
    """The announced file, for this upload alone. Raises `NotFound`, `AttachmentAlreadyUploaded`, `TooManyConcurrent`."""
    row, now = models.Attachment, func.clock_timestamp()
    async with database.tenant(key.tenant_id, user_id=key.user_id) as session:
        free = row.uploaded_at.is_(None) & or_(row.claimed_until.is_(None), row.claimed_until < now)
        claim = update(row).where(*own(key), free).values(claimed_until=now + LEASE)
        claimed = (await session.execute(claim.returning(row.data, row.bytes, row.claimed_until))).one_or_none()
        if claimed is not None:
            return UploadLease(database, key, parse_attachment(claimed.data), claimed.bytes, claimed.claimed_until)
        there = (await session.execute(select(row.uploaded_at).where(*own(key)))).one_or_none()
    if there is None:
        raise NotFound("There is no such file.")
    if there.uploaded_at is None:  # another connection is at it, or was when its process died seconds ago
        raise another_try()
    raise AttachmentAlreadyUploaded("Attach the file anew to send another.")


def own(key: FileKey) -> list[ColumnElement[bool]]:
    """In SQL, this very user's file. Raises `NotFound` for what cannot be its id."""
    try:
        return own_file(key)
    except NotFoundError:
        raise NotFound("There is no such file.") from None

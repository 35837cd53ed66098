"""Files that nobody needs any more: deleted ones, those that were never sent, and those whose conversation is gone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, delete, exists, or_, select, update

from stonechat import clock
from stonechat.chat import models
from stonechat.chat.attachments import UNSENT_FOR, object_name
from stonechat.db.session import Database
from stonechat.files import FileStore

SWEEP_FILES = 500
"""At most so many go in one sweep."""
IN_FLIGHT = timedelta(minutes=20)
"""An upload is over by then, however it went: link, body and inspection have their own, shorter bounds."""

_log = logging.getLogger(__name__)


async def sweep_attachments(database: Database, files: FileStore) -> int:
    """Remove what nobody needs, bytes first and the row last, so that a crash in between loses nothing. Returns how many."""
    row = models.Attachment
    async with database.platform() as session:
        found = await session.execute(
            select(row.tenant_id, row.attachment_id).where(_unneeded()).order_by(row.created_at).limit(SWEEP_FILES)
        )
        unneeded = found.all()
    swept = 0
    for tenant_id, attachment_id in unneeded:
        try:
            swept += await _remove(database, files, tenant_id, attachment_id)
        except Exception:
            _log.exception("could not remove the file %s", attachment_id)
    return swept


async def mark_strays(database: Database) -> int:
    """Mark files as deleted whose conversation is gone, should any have slipped through. Returns how many."""
    row, thread = models.Attachment, models.Thread
    gone = ~exists().where(thread.tenant_id == row.tenant_id, thread.thread_id == row.thread_id)
    async with database.platform() as session:
        found = await session.execute(
            select(row.tenant_id, row.attachment_id)
            .where(row.thread_id.is_not(None), row.deleted_at.is_(None), gone)
            .limit(SWEEP_FILES)
        )
        strays = found.all()
    marked = 0
    for tenant_id, attachment_id in strays:
        mine = (row.tenant_id == tenant_id) & (row.attachment_id == attachment_id)
        try:
            async with database.tenant(tenant_id) as session:
                await session.execute(update(row).where(mine, gone).values(deleted_at=clock.now()))
            marked += 1
        except Exception:
            _log.exception("could not mark the file %s", attachment_id)
    return marked


async def remove_files(database: Database, files: FileStore, tenant_id: UUID, *, attachment_ids: Sequence[str]) -> None:
    """Remove files that are marked as deleted now rather than at the next sweep; what does not work now, the sweep does."""
    for attachment_id in attachment_ids:
        try:
            await _remove(database, files, tenant_id, attachment_id)
        except Exception:
            _log.exception("could not remove the file %s", attachment_id)


async def _remove(database: Database, files: FileStore, tenant_id: UUID, attachment_id: str) -> bool:
    row = models.Attachment
    this = (row.tenant_id == tenant_id, row.attachment_id == attachment_id)
    async with database.tenant(tenant_id) as session:
        # Asked again under the row's lock: it may have been sent this very moment. From here on nobody finds it.
        marked = await session.scalar(
            update(row).where(*this, _unneeded()).values(deleted_at=clock.now()).returning(row.attachment_id)
        )
    if marked is None:
        return False
    await files.delete(tenant_id, object_name(attachment_id))
    async with database.tenant(tenant_id) as session:
        await session.execute(delete(row).where(*this, row.deleted_at.is_not(None)))
    return True


def _unneeded() -> ColumnElement[bool]:
    row, now = models.Attachment, clock.now()
    settled = or_(row.uploaded_at.is_not(None), row.created_at < now - IN_FLIGHT)
    return or_(
        and_(row.deleted_at.is_not(None), settled),
        and_(row.thread_id.is_(None), row.created_at < now - UNSENT_FOR),
    )

"""The files of a conversation, read for whoever answers in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from stonechat.assistant.attached import AttachedDocument, AttachedPicture
from stonechat.chat import models
from stonechat.chat.attachments import object_name
from stonechat.db.session import Database
from stonechat.errors import NotFound
from stonechat.files import FileStore
from stonechat.identity.caller import Caller


class AttachedFiles:
    """`ReadsAttachments` over the table and the file store."""

    def __init__(self, database: Database, files: FileStore) -> None:
        self._database = database
        self._files = files

    async def documents(
        self, caller: Caller, attachment_ids: Sequence[str], *, max_characters: int
    ) -> Mapping[str, AttachedDocument]:
        """See `ReadsAttachments.documents`."""
        row = models.Attachment
        async with self._database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            found = await session.execute(
                select(row.attachment_id, func.left(row.content, max_characters).label("text"), row.characters).where(
                    row.tenant_id == caller.tenant_id,
                    row.user_id == caller.user_id,
                    row.attachment_id.in_(attachment_ids),
                    row.deleted_at.is_(None),
                    row.content.is_not(None),
                )
            )
            return {each.attachment_id: AttachedDocument(each.text, each.characters) for each in found}

    async def picture(self, caller: Caller, attachment_id: str) -> AttachedPicture | None:
        """See `ReadsAttachments.picture`."""
        row = models.Attachment
        async with self._database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            media_type = await session.scalar(
                select(row.media_type).where(
                    row.tenant_id == caller.tenant_id,
                    row.user_id == caller.user_id,
                    row.attachment_id == attachment_id,
                    row.deleted_at.is_(None),
                )
            )
        if media_type is None or not media_type.startswith("image/"):
            return None
        try:
            return AttachedPicture(media_type, await self._files.get(caller.tenant_id, object_name(attachment_id)))
        except NotFound:
            return None

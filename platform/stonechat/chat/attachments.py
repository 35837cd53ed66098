"""Files in a conversation: announced over the protocol, uploaded to a signed link, sent with a message, deleted.

A file belongs to the visitor who announced it, and once it is sent, to that conversation. Whoever else asks for it is told
that there is no such file.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, NoReturn
from uuid import UUID

from chatkit.store import AttachmentStore, NotFoundError
from chatkit.types import (
    Attachment,
    AttachmentCreateParams,
    AttachmentUploadDescriptor,
    FileAttachment,
    ImageAttachment,
)
from pydantic import AnyUrl
from sqlalchemy import ColumnElement, exists, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.assistant.config import AgentConfig
from stonechat.chat import models
from stonechat.chat.codec import attachment_json, parse_attachment, storable_id, without_nul
from stonechat.chat.links import FileKey, FileLinks, Kind
from stonechat.db.session import Database
from stonechat.errors import (
    AttachmentNotUploaded,
    InvalidInput,
    NotFound,
    NotOffered,
    PayloadTooLarge,
    StorageFull,
    TooManyFiles,
    UnsupportedMediaType,
)
from stonechat.files import FileStore
from stonechat.identity.caller import Caller

MAX_NAME = 200
MAX_MEDIA_TYPE = 100
UNSENT_FOR = timedelta(hours=24)
"""A file that is in no message by then is swept."""

ConfigOf = Callable[[Caller], Awaitable[AgentConfig]]
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class StorageBounds:
    """How much may be kept at once."""

    tenant_bytes: int = 5 * 1024**3
    tenant_files: int = 100_000
    unsent_files: int = 20
    """Of one visitor, in no message yet."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as it is served."""

    name: str
    media_type: str
    content: AsyncIterator[bytes]


def object_name(attachment_id: str) -> str:
    """Where the bytes of an attachment are in the file store. Our own ids are good names as they are."""
    return f"attachments/{attachment_id}"


class Attachments(AttachmentStore[Caller]):
    """The verbs of visitors. `config_of` tells what the agent at hand takes."""

    def __init__(
        self,
        database: Database,
        files: FileStore,
        links: FileLinks,
        *,
        config_of: ConfigOf,
        bounds: StorageBounds | None = None,
    ) -> None:
        self.database = database
        self.files = files
        self.links = links
        self._config_of = config_of
        self._bounds = bounds or StorageBounds()

    def generate_attachment_id(self, mime_type: str, context: Caller) -> str:  # noqa: ARG002
        """A new id, which cannot be guessed."""
        return ids.new_id("atc")

    async def create_attachment(self, input: AttachmentCreateParams, context: Caller) -> Attachment:  # noqa: A002
        """Announce a file: what it is called, how large it is, and of what kind; answers where to put its bytes.

        Raises `NotOffered`, `UnsupportedMediaType`, `PayloadTooLarge`, `InvalidInput`, `TooManyFiles`, `StorageFull`.
        """
        offered = (await self._config_of(context)).attachments
        if not offered.enabled:
            _not_taken()
        if input.size < 1:
            raise InvalidInput("This file is empty. Choose one with something in it.")
        if input.size > offered.max_bytes:
            raise PayloadTooLarge(
                f"A file may have at most {_megabytes(offered.max_bytes)}.", max_bytes=offered.max_bytes
            )
        taken: dict[Kind, bool] = {"image": offered.images, "document": offered.documents}
        kinds = frozenset(kind for kind, offers in taken.items() if offers)
        media_type = _media_type(input.mime_type)
        kind: Kind = "image" if media_type.startswith("image/") else "document"
        if kind not in kinds:
            raise UnsupportedMediaType(f"This assistant does not take {kind}s.")
        key = FileKey(context.tenant_id, context.user_id, self.generate_attachment_id(media_type, context))
        attachment = self._attachment(key, kind=kind, name=_file_name(input.name), media_type=media_type)
        attachment.upload_descriptor = AttachmentUploadDescriptor(
            url=AnyUrl(self.links.to_upload(key, kinds=kinds)), method="PUT", headers={"Content-Type": media_type}
        )
        async with self.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            await self._require_room(session, key, size=input.size)
            session.add(
                models.Attachment(
                    tenant_id=key.tenant_id,
                    attachment_id=key.attachment_id,
                    user_id=key.user_id,
                    data=attachment_json(attachment),
                    bytes=input.size,
                )
            )
        return attachment

    async def delete_attachment(self, attachment_id: str, context: Caller) -> None:
        """Delete a file of the visitor's, or `NotFoundError`. It is gone at once, whatever becomes of this process."""
        row = models.Attachment
        key = FileKey(context.tenant_id, context.user_id, attachment_id)
        async with self.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            found = await session.scalar(
                update(row).where(*own_file(key)).values(deleted_at=clock.now()).returning(row.attachment_id)
            )
        if found is None:
            raise NotFoundError(f"Attachment {attachment_id[:40]!r} not found")
        await self.files.delete(key.tenant_id, object_name(attachment_id))

    async def take(self, caller: Caller, attachment_ids: Sequence[str], *, thread_id: str) -> list[Attachment]:
        """The files of a message that is being sent to a thread.

        Raises `NotFoundError`, `NotOffered`, `TooManyFiles`, `AttachmentNotUploaded`, or `InvalidInput` for a file that
        was sent in another conversation.
        """
        wanted = list(dict.fromkeys(attachment_ids))
        if not wanted:
            return []
        row = models.Attachment
        async with self.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            found = {
                each.attachment_id: each
                for each in await session.scalars(
                    select(row).where(
                        row.tenant_id == caller.tenant_id,
                        row.user_id == caller.user_id,
                        row.attachment_id.in_([each for each in wanted if storable_id(each)]),
                        row.deleted_at.is_(None),
                    )
                )
            }
        if len(found) < len(wanted):
            raise NotFoundError("One of the files was not found")
        offered = (await self._config_of(caller)).attachments
        if not offered.enabled:
            _not_taken()
        if len(wanted) > offered.max_files:
            raise TooManyFiles(f"A message can have at most {offered.max_files} files.", max_files=offered.max_files)
        taken = []
        for attachment_id in wanted:
            attachment = parse_attachment(found[attachment_id].data)
            require_uploaded(attachment)
            if found[attachment_id].thread_id not in (None, thread_id):
                raise InvalidInput(f"“{attachment.name}” was sent in another conversation. Attach it again.")
            kind_offered = offered.images if isinstance(attachment, ImageAttachment) else offered.documents
            if not kind_offered or found[attachment_id].bytes > offered.max_bytes:  # taken by another agent
                raise NotOffered(f"This assistant does not take files such as “{attachment.name}”.")
            taken.append(self.refreshed(attachment.model_copy(update={"thread_id": thread_id}), caller))
        return taken

    async def bind(self, caller: Caller, attachments: Sequence[Attachment], *, thread_id: str) -> None:
        """From now on the files are the thread's, and go with it. All or none.

        Raises `InvalidInput` if one was sent in another conversation, or deleted, since `take` looked.
        """
        if not attachments:
            return
        row, thread = models.Attachment, models.Thread
        async with self.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            bound = await session.scalars(
                update(row)
                .where(
                    row.tenant_id == caller.tenant_id,
                    row.user_id == caller.user_id,
                    row.attachment_id.in_([each.id for each in attachments]),
                    row.deleted_at.is_(None),
                    or_(row.thread_id.is_(None), row.thread_id == thread_id),
                    exists().where(thread.tenant_id == caller.tenant_id, thread.thread_id == thread_id),
                )
                .values(thread_id=thread_id)
                .returning(row.attachment_id)
            )
            if len(bound.all()) < len(attachments):
                raise InvalidInput("One of the files was sent in another conversation, or removed. Attach it again.")

    async def open(self, key: FileKey) -> StoredFile:
        """A file to be served, or `NotFound`."""
        row = models.Attachment
        async with self.database.tenant(key.tenant_id, user_id=key.user_id) as session:
            found = await session.scalar(select(row).where(*own_file(key), row.uploaded_at.is_not(None)))
        if found is None or found.media_type is None:
            raise NotFound("There is no such file.")
        content = await self.files.stream(key.tenant_id, object_name(key.attachment_id))
        return StoredFile(parse_attachment(found.data).name, found.media_type, content)

    def refreshed(self, attachment: Attachment, caller: Caller) -> Attachment:
        """The attachment with a link to its picture that is good for an hour or two."""
        if not isinstance(attachment, ImageAttachment):
            return attachment
        link = self.links.to_view(FileKey(caller.tenant_id, caller.user_id, attachment.id))
        return attachment.model_copy(update={"preview_url": AnyUrl(link)})

    def link_items(self, tenant_id: UUID, user_id: str, items: Sequence[dict[str, Any]]) -> None:
        """Into stored items as the tenant reads them, put links to the visitor's files that are good for an hour or two."""
        for item in items:
            for attachment in item.get("attachments") or ():
                link = self.links.to_view(FileKey(tenant_id, user_id, attachment["id"]))
                attachment["preview_url" if attachment["type"] == "image" else "download_url"] = link

    def uploaded(self, key: FileKey, attachment: Attachment, *, kind: Kind, media_type: str) -> Attachment:
        """The attachment as it is once its bytes are here: of the kind that its content has."""
        return self._attachment(key, kind=kind, name=attachment.name, media_type=media_type)

    def _attachment(self, key: FileKey, *, kind: Kind, name: str, media_type: str) -> Attachment:
        if kind == "image":
            link = AnyUrl(self.links.to_view(key))
            return ImageAttachment(id=key.attachment_id, name=name, mime_type=media_type, preview_url=link)
        return FileAttachment(id=key.attachment_id, name=name, mime_type=media_type)

    async def _require_room(self, session: AsyncSession, key: FileKey, *, size: int) -> None:
        # One announcement of a tenant's at a time, or many at once would all find the same room.
        lock = text("select pg_advisory_xact_lock(hashtextextended(:name, 0))")
        await session.execute(lock, {"name": f"attachments of {key.tenant_id}"})
        row = models.Attachment
        unsent = await session.scalar(
            select(func.count()).where(
                row.tenant_id == key.tenant_id,
                row.user_id == key.user_id,
                row.thread_id.is_(None),
                row.deleted_at.is_(None),
            )
        )
        if (unsent or 0) >= self._bounds.unsent_files:
            raise TooManyFiles("Send the files that you have attached already, or remove some.")
        # The sum is over all of the tenant's visitors, and so not for the visitor's own eyes.
        await session.execute(text("select set_config('stonechat.user_id', '', true)"))
        total = select(func.count(), func.coalesce(func.sum(row.bytes), 0)).where(row.tenant_id == key.tenant_id)
        files, stored = (await session.execute(total)).one()
        if files >= self._bounds.tenant_files or stored + size > self._bounds.tenant_bytes:
            raise StorageFull("This site has no room for more files. Describe in words what is in it.")


def own_file(key: FileKey) -> list[ColumnElement[bool]]:
    """The row of this very user's file, unless it was deleted."""
    row = models.Attachment
    if not storable_id(key.attachment_id):
        raise NotFoundError(f"Attachment {key.attachment_id[:40]!r} not found")
    return [
        row.tenant_id == key.tenant_id,
        row.user_id == key.user_id,
        row.attachment_id == key.attachment_id,
        row.deleted_at.is_(None),
    ]


def require_uploaded(attachment: Attachment) -> None:
    """Raise `AttachmentNotUploaded` for a file that was announced only."""
    if attachment.upload_descriptor is not None:
        raise AttachmentNotUploaded(f"Upload “{attachment.name}” before you send it.", attachment=attachment.id)


def _not_taken() -> NoReturn:
    raise NotOffered("This assistant does not take files.")


def _file_name(name: str) -> str:
    """One line, without the folders it was in and without characters that hide what it says."""
    last = PurePosixPath(_CONTROL.sub(" ", name).replace("\\", "/")).name
    return without_nul(" ".join(last.split())[:MAX_NAME].strip()) or "file"


def _media_type(announced: str) -> str:
    """As announced, if it looks like a media type; the content is asked later."""
    kind = announced.partition(";")[0].strip().lower()[:MAX_MEDIA_TYPE]
    return kind if re.fullmatch(r"[a-z0-9.+-]+/[a-z0-9.+-]+", kind) else "application/octet-stream"


def _megabytes(count: int) -> str:
    return f"{count / 1024**2:.3g} MB" if count >= 1024**2 else f"{count // 1024} KB"

"""`PostgresStore`: the ChatKit SDK's `Store` over our tables, for one user of one tenant at a time.

Every statement names tenant and user, and row-level security holds the same line beneath. What belongs to someone else
is `NotFoundError`, exactly as what does not exist.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic
from uuid import UUID

from chatkit.store import NotFoundError, Store, StoreItemType
from chatkit.types import Attachment, FeedbackKind, Page, ThreadItem, ThreadMetadata
from sqlalchemy import delete, func, not_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from typing_extensions import TypeVar

from stonechat import ids
from stonechat.chat import models
from stonechat.chat.codec import (
    HIDDEN_KINDS,
    attachment_json,
    aware,
    item_json,
    parse_attachment,
    parse_item,
    status_json,
    storable_id,
    thread_metadata,
    whole_text,
    without_nul,
)
from stonechat.chat.judging import judge_items
from stonechat.chat.reasons import is_reason_until
from stonechat.chat.scoping import own_items, own_thread, threads_of
from stonechat.db.session import Database
from stonechat.errors import AlreadyExists, InvalidInput
from stonechat.identity.caller import Caller

MAX_PAGE = 100
DEFAULT_PAGE = 20

_PREFIXES: dict[StoreItemType, str] = {
    "thread": "thr",
    "message": "msg",
    "tool_call": "tc",
    "workflow": "wf",
    "task": "tsk",
    "attachment": "atc",
    "sdk_hidden_context": "shcx",
}
_INSUFFICIENT_PRIVILEGE = "42501"
"""What row-level security answers to an upsert over someone else's row."""

Context = TypeVar("Context", default=Caller)


def new_item_id(item_type: StoreItemType) -> str:
    """A new id such as `msg_01jd…`, with 80 random bits."""
    return ids.new_id(_PREFIXES[item_type])


class PostgresStore(Store[Context], Generic[Context]):
    """All of the SDK's store methods. `Context` is a `Caller`, unless a subclass overrides `scope`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def scope(self, context: Context) -> tuple[UUID, str]:
        """Whose rows the context may see: tenant and user."""
        if not isinstance(context, Caller):
            raise TypeError("the context of a PostgresStore is a Caller")
        return context.tenant_id, context.user_id

    def checked_scope(self, context: Context) -> tuple[UUID, str]:
        """As `scope`; raises `InvalidInput` for a user's id that no database could hold."""
        tenant_id, user_id = self.scope(context)
        if "\x00" in user_id or user_id != whole_text(user_id):
            raise InvalidInput("A user's id is text without NUL and without half of a surrogate pair.")
        return tenant_id, user_id

    def agent_of(self, context: Context) -> str | None:
        """The agent that new threads belong to."""
        return context.agent_id if isinstance(context, Caller) else None

    @asynccontextmanager
    async def _open(self, context: Context) -> AsyncIterator[tuple[AsyncSession, UUID, str]]:
        tenant_id, user_id = self.checked_scope(context)
        async with self.database.tenant(tenant_id, user_id=user_id) as session:
            yield session, tenant_id, user_id

    def generate_thread_id(self, context: Context) -> str:  # noqa: ARG002
        """A new thread's id."""
        return new_item_id("thread")

    def generate_item_id(self, item_type: StoreItemType, thread: ThreadMetadata, context: Context) -> str:  # noqa: ARG002
        """A new item's id."""
        return new_item_id(item_type)

    # Threads

    async def load_thread(self, thread_id: str, context: Context) -> ThreadMetadata:
        """A thread's metadata, or `NotFoundError`."""
        async with self._open(context) as (session, tenant_id, user_id):
            mine = threads_of(tenant_id, user_id, self.agent_of(context))
            row = await session.scalar(mine.where(models.Thread.thread_id == _id(thread_id)))
        if row is None:
            raise NotFoundError(f"Thread {thread_id} not found")
        return _thread(row)

    async def save_thread(self, thread: ThreadMetadata, context: Context) -> None:
        """Insert or update. An id that someone else's thread has is `NotFoundError`."""
        changing = {
            "title": None if thread.title is None else without_nul(thread.title),
            "status": status_json(thread.status),
            "metadata_json": thread.model_dump_json(include={"metadata"})[len('{"metadata":') : -1],
            "allowed_image_domains": thread.allowed_image_domains,
        }
        agent_id = self.agent_of(context)
        async with self._open(context) as (session, tenant_id, user_id):
            adding = insert(models.Thread).values(
                tenant_id=tenant_id,
                thread_id=_id(thread.id),
                user_id=user_id,
                agent_id=agent_id,
                created_at=aware(thread.created_at),
                created_at_naive=thread.created_at.tzinfo is None,
                **changing,
            )
            mine = models.Thread.user_id == user_id
            if agent_id is not None:
                mine &= models.Thread.agent_id == agent_id
            saving = adding.on_conflict_do_update(
                index_elements=["tenant_id", "thread_id"],
                set_={_column(models.Thread, name): value for name, value in changing.items()}
                | {"updated_at": func.now()},
                where=mine,
            ).returning(models.Thread.thread_id)
            await _upsert(session, saving, f"Thread {thread.id} not found")

    async def load_threads(self, limit: int, after: str | None, order: str, context: Context) -> Page[ThreadMetadata]:
        """The user's threads by age; `after` is a thread's id. An unknown one is `NotFoundError`."""
        limit = _limit(limit)
        async with self._open(context) as (session, tenant_id, user_id):
            chosen = threads_of(tenant_id, user_id, self.agent_of(context))
            if after:
                position = chosen.with_only_columns(models.Thread.seq)
                seq = await session.scalar(position.where(models.Thread.thread_id == _id(after)))
                if seq is None:
                    raise NotFoundError(f"Thread {after} not found")
                chosen = chosen.where(models.Thread.seq > seq if order == "asc" else models.Thread.seq < seq)
            chosen = chosen.order_by(models.Thread.seq.asc() if order == "asc" else models.Thread.seq.desc())
            rows = list(await session.scalars(chosen.limit(limit + 1)))
        threads = [_thread(row) for row in rows[:limit]]
        more = len(rows) > limit
        return Page(data=threads, has_more=more, after=threads[-1].id if more else None)

    async def delete_thread(self, thread_id: str, context: Context) -> None:
        """Delete the thread with its items, runs and feedback. Deleting what is not there changes nothing."""
        async with self._open(context) as (session, tenant_id, user_id):
            row = models.Thread
            await session.execute(
                delete(row).where(*own_thread(tenant_id, user_id, _id(thread_id), self.agent_of(context)))
            )

    # Items

    async def load_thread_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Context
    ) -> Page[ThreadItem]:
        """A page of items, hidden ones included; `after` is an item's id. An unknown one is `NotFoundError`."""
        return await self._items_page(thread_id, after, limit, order, context, hidden=True)

    async def load_visible_items(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Context
    ) -> Page[ThreadItem]:
        """A page of what clients may see: hidden items neither appear nor make a page shorter."""
        return await self._items_page(thread_id, after, limit, order, context, hidden=False)

    async def _items_page(
        self, thread_id: str, after: str | None, limit: int, order: str, context: Context, *, hidden: bool
    ) -> Page[ThreadItem]:
        row, limit = models.ThreadItem, _limit(limit)
        async with self._open(context) as (session, tenant_id, user_id):
            mine = own_items(tenant_id, user_id, _id(thread_id), self.agent_of(context))
            chosen = select(row.item_id, row.data).where(*mine)
            if not hidden:
                chosen = chosen.where(row.kind.not_in(HIDDEN_KINDS))
            if after:
                seq = await session.scalar(select(row.seq).where(*mine, row.item_id == _id(after)))
                if seq is None:
                    raise NotFoundError(f"Item {after} not found")
                chosen = chosen.where(row.seq > seq if order == "asc" else row.seq < seq)
            chosen = chosen.order_by(row.seq.asc() if order == "asc" else row.seq.desc())
            rows = (await session.execute(chosen.limit(limit + 1))).all()
        more = len(rows) > limit
        items = [parse_item(data) for _, data in rows[:limit]]
        return Page(data=items, has_more=more, after=rows[limit - 1].item_id if more else None)

    async def add_thread_item(self, thread_id: str, item: ThreadItem, context: Context) -> None:
        """Insert. Only a workflow may be added again: the SDK does so after a client tool call.

        Raises `AlreadyExists` for another item's id, `NotFoundError` for an unknown thread.
        """
        await self._write(thread_id, item, context, upsert=False)

    async def save_item(self, thread_id: str, item: ThreadItem, context: Context) -> None:
        """Insert, or replace the item of that id where it stands. `NotFoundError` for an unknown thread."""
        await self._write(thread_id, item, context, upsert=True)

    async def _write(self, thread_id: str, item: ThreadItem, context: Context, *, upsert: bool) -> None:
        row = models.ThreadItem
        async with self._open(context) as (session, tenant_id, user_id):
            await _require_thread(session, tenant_id, user_id, thread_id, self.agent_of(context))
            adding = insert(row).values(
                tenant_id=tenant_id,
                thread_id=thread_id,
                item_id=_id(item.id),
                user_id=user_id,
                kind=item.type,
                data=item_json(item),
                created_at=aware(item.created_at),
            )
            new = adding.excluded
            saving = adding.on_conflict_do_update(
                index_elements=["tenant_id", "thread_id", "item_id"],
                set_={"kind": new.kind, "data": new.data},
                where=None if upsert else (row.kind == "workflow") & (new.kind == "workflow"),
            ).returning(row.item_id)
            if await session.scalar(saving) is None:
                raise AlreadyExists(f"The conversation already has an item {item.id}.")

    async def load_item(self, thread_id: str, item_id: str, context: Context) -> ThreadItem:
        """An item, hidden or not, or `NotFoundError`."""
        row = models.ThreadItem
        async with self._open(context) as (session, tenant_id, user_id):
            mine = own_items(tenant_id, user_id, _id(thread_id), self.agent_of(context))
            data = await session.scalar(select(row.data).where(*mine, row.item_id == _id(item_id)))
        if data is None:
            raise NotFoundError(f"Item {item_id} not found in thread {thread_id}")
        return parse_item(data)

    async def delete_thread_item(self, thread_id: str, item_id: str, context: Context) -> None:
        """Delete an item. Deleting what is not there changes nothing."""
        row = models.ThreadItem
        async with self._open(context) as (session, tenant_id, user_id):
            mine = own_items(tenant_id, user_id, _id(thread_id), self.agent_of(context))
            await session.execute(delete(row).where(*mine, row.item_id == _id(item_id)))

    async def delete_items_after(self, thread_id: str, item_id: str, context: Context) -> None:
        """Delete what follows an item, to answer it again, but why older answers were judged as they were.

        `NotFoundError` if there is no such item.
        """
        row = models.ThreadItem
        async with self._open(context) as (session, tenant_id, user_id):
            mine = own_items(tenant_id, user_id, _id(thread_id), self.agent_of(context))
            seq = await session.scalar(select(row.seq).where(*mine, row.item_id == _id(item_id)))
            if seq is None:
                raise NotFoundError(f"Item {item_id} not found in thread {thread_id}")
            await session.execute(delete(row).where(*mine, row.seq > seq, not_(is_reason_until(seq))))

    async def save_feedback(
        self, thread_id: str, item_ids: Sequence[str], kind: FeedbackKind, context: Context
    ) -> None:
        """Judge what the assistant said, all or none; the latest judgement counts.

        One that is missing, or hidden, is `NotFoundError`; the visitor's own words are `WrongItem`.
        """
        wanted = {_id(each) for each in item_ids}
        async with self._open(context) as (session, tenant_id, user_id):
            mine = own_items(tenant_id, user_id, _id(thread_id), self.agent_of(context))
            await judge_items(session, tenant_id, user_id, mine=mine, thread_id=thread_id, wanted=wanted, kind=kind)

    # Attachments

    async def save_attachment(self, attachment: Attachment, context: Context) -> None:
        """Insert or update. An id that someone else's attachment has is `NotFoundError`."""
        row, data = models.Attachment, attachment_json(attachment)
        async with self._open(context) as (session, tenant_id, user_id):
            adding = insert(row).values(
                tenant_id=tenant_id,
                attachment_id=_id(attachment.id),
                user_id=user_id,
                thread_id=attachment.thread_id,
                data=data,
            )
            saving = adding.on_conflict_do_update(
                index_elements=["tenant_id", "attachment_id"],
                set_={"thread_id": attachment.thread_id, "data": data},
                where=row.user_id == user_id,
            ).returning(row.attachment_id)
            await _upsert(session, saving, f"Attachment {attachment.id} not found")

    async def load_attachment(self, attachment_id: str, context: Context) -> Attachment:
        """The user's own attachment, or `NotFoundError`: ids in a message are a client's word."""
        row = models.Attachment
        async with self._open(context) as (session, tenant_id, user_id):
            data = await session.scalar(
                select(row.data).where(
                    row.tenant_id == tenant_id, row.user_id == user_id, row.attachment_id == _id(attachment_id)
                )
            )
        if data is None:
            raise NotFoundError(f"Attachment {attachment_id} not found")
        return parse_attachment(data)

    async def delete_attachment(self, attachment_id: str, context: Context) -> None:
        """Delete what is known of an attachment. Deleting what is not there changes nothing."""
        row = models.Attachment
        async with self._open(context) as (session, tenant_id, user_id):
            await session.execute(
                delete(row).where(
                    row.tenant_id == tenant_id, row.user_id == user_id, row.attachment_id == _id(attachment_id)
                )
            )


def _id(value: str) -> str:
    if not storable_id(value):
        raise NotFoundError(f"{value[:40]!r} not found")
    return value


def _limit(limit: int) -> int:
    return min(max(limit, 1), MAX_PAGE)


def _thread(row: models.Thread) -> ThreadMetadata:
    created_at = row.created_at.astimezone().replace(tzinfo=None) if row.created_at_naive else row.created_at
    return thread_metadata(
        row.thread_id,
        title=row.title,
        status=row.status,
        metadata=row.metadata_json,
        domains=row.allowed_image_domains,
        created_at=created_at,
    )


def _column(model: type[models.Thread], attribute: str) -> Any:
    return model.__table__.c["metadata" if attribute == "metadata_json" else attribute]


async def _require_thread(
    session: AsyncSession, tenant_id: UUID, user_id: str, thread_id: str, agent_id: str | None
) -> None:
    row = models.Thread
    mine = own_thread(tenant_id, user_id, _id(thread_id), agent_id)
    touching = update(row).where(*mine).values(updated_at=func.now()).returning(row.thread_id)
    if await session.scalar(touching) is None:
        raise NotFoundError(f"Thread {thread_id} not found")


async def _upsert(session: AsyncSession, saving: Any, missing: str) -> None:
    try:
        saved = await session.scalar(saving)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
            raise NotFoundError(missing) from None
        raise
    if saved is None:
        raise NotFoundError(missing)

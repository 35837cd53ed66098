"""One attempt at reading a document: how far it has come, whether it is still the one that counts, and how it ends.

An attempt writes its name into the document's row when it begins. Whoever cancels, deletes or starts again takes the name
out, and the attempt learns so the next time it reports: then it leaves everything as it is. Only the attempt whose name
stands in the row may make its passages the ones that answer, so of two that run at once one has no effect.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Literal, TypeVar
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.session import Database
from stonechat.errors import Conflict, EmbeddingFailed
from stonechat.knowledge.models import Document
from stonechat.knowledge.service import get_document
from stonechat.webhooks.fan_out import tell

Stage = Literal["pages", "files", "passages"]
Report = Callable[[Stage, int, int], Awaitable[None]]
"""Told what is counted, how many are done, and of how many."""
T = TypeVar("T")

REPORT_SECONDS = 1.0
"""At most one report in this time, but the first and last of each stage."""
WATCH_SECONDS = 2.0
CANCELLED = "reading_cancelled"
NO_VECTORS = EmbeddingFailed.code
"""Of a document that is ready, but found by its words only."""
AGAIN = " It will be tried again by itself."
_MAX_REASON = 1000


class Superseded(Exception):
    """This attempt does not count any more: the document was cancelled, deleted, or is being read anew."""


class Attempt:
    """The name that stands in the row while a document is read, and what is told under it."""

    def __init__(self, database: Database, document: Document) -> None:
        """`document` must be locked; the caller's transaction writes the name down."""
        self._database = database
        self.tenant_id, self.document_id = document.tenant_id, document.document_id
        self.name = document.reading = secrets.token_hex(8)
        self.lacks_vectors = document.error_code == NO_VECTORS
        """Whether what is in the index of it needs to be written again to be whole."""
        document.status, document.error = "processing", None
        document.progress_stage, document.progress_done, document.progress_total = None, 0, 0
        document.updated_at = clock.now()
        self._told: tuple[Stage | None, float] = (None, 0.0)

    async def report(self, stage: Stage, done: int, total: int) -> None:
        """Tell how far it is; cheap to call often. Raises `Superseded`."""
        now = time.monotonic()
        if stage == self._told[0] and now - self._told[1] < REPORT_SECONDS:
            return
        self._told = (stage, now)
        await self._write(progress_stage=stage, progress_done=done, progress_total=total)

    async def alongside(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result. Raises `Superseded`, having cancelled it, soon after the attempt lost its word."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                done, _ = await asyncio.wait({task}, timeout=WATCH_SECONDS)
                if done:
                    return task.result()
                await self._write()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def fail(self, *, code: str, reason: str) -> None:
        """Note that the document cannot be read, and why."""
        await self._write(status="failed", reading=None, error_code=code, error=reason[:_MAX_REASON])

    async def postpone(self, reason: str) -> None:
        """Note that it will be tried again by itself, and why."""
        await self._write(status="pending", reading=None, error_code="unavailable", error=reason[:_MAX_REASON])

    async def _write(self, **values: object) -> None:
        if values:
            values["updated_at"] = clock.now()
        mine = (
            Document.tenant_id == self.tenant_id,
            Document.document_id == self.document_id,
            Document.reading == self.name,
            Document.deleted_at.is_(None),
        )
        async with self._database.tenant(self.tenant_id) as session:
            changing = update(Document).where(*mine).values(values).returning(Document.document_id)
            found = await session.scalar(changing if values else select(Document.document_id).where(*mine))
            if found is not None and values.get("status") == "failed":
                await tell_of(session, self.tenant_id, document_id=self.document_id)
        if found is None:
            raise Superseded


async def tell_of(session: AsyncSession, tenant_id: UUID, *, document_id: str) -> None:
    """Tell the tenant's webhooks that a document became ready, or failed."""
    document = await session.scalar(
        select(Document)
        .where(Document.tenant_id == tenant_id, Document.document_id == document_id)
        .execution_options(populate_existing=True)
    )
    if document is not None and document.status in ("ready", "failed"):
        told = {name: getattr(document, name) for name in ("document_id", "source_id", "title", "url")}
        reason = {"code": document.error_code, "error": document.error} if document.status == "failed" else {}
        await tell(session, tenant_id, f"document.{document.status}", told | reason)


async def cancel_reading(session: AsyncSession, actor: Actor, *, document_id: str) -> Document:
    """Stop waiting for, or reading, a document. What was read of it before keeps answering; without that it is failed.

    Raises `NotFound`, or `Conflict` if it is not being read.
    """
    actor.require("write")
    document = await get_document(session, actor, document_id=document_id, lock=True)
    if document.status not in ("pending", "processing"):
        raise Conflict("This document is not being read. There is nothing to cancel.")
    document.reading, document.progress_stage = None, None
    document.updated_at = clock.now()
    if document.chunks:
        document.status, document.error_code, document.error = "ready", None, None
    else:
        document.status, document.error_code = "failed", CANCELLED
        document.error = "Reading it was cancelled. Have it read again whenever you like."
    await session.flush()
    await record_audit(session, actor, "document.cancel", subject_id=document_id)
    return document


async def places_in_line(session: AsyncSession, actor: Actor, *, documents: Iterable[Document]) -> dict[str, int]:
    """How many of the tenant's own documents are to be read before each of these that wait, as near as can be told."""
    actor.require("read")
    waiting = [document.document_id for document in documents if document.status == "pending"]
    if not waiting:
        return {}
    line = (
        select(
            Document.document_id,
            (func.row_number().over(order_by=(Document.updated_at, Document.document_id)) - 1).label("place"),
        )
        .where(Document.tenant_id == actor.tenant_id, Document.status == "pending", Document.deleted_at.is_(None))
        .subquery()
    )
    rows = await session.execute(select(line).where(line.c.document_id.in_(waiting)))
    return {row.document_id: row.place for row in rows}


async def give_up(database: Database, tenant_id: UUID, *, document_id: str) -> None:
    """Note that a document will not be tried again. What was read of it before keeps answering."""
    async with database.tenant(tenant_id) as session:
        document = await session.scalar(
            select(Document)
            .where(
                Document.tenant_id == tenant_id,
                Document.document_id == document_id,
                Document.deleted_at.is_(None),
                Document.status.in_(("pending", "processing")),
            )
            .with_for_update()
        )
        if document is None:
            return
        why = document.error if document.error_code == "unavailable" else None
        kept = " What was read of it before keeps answering." if document.chunks else ""
        document.status = "ready" if document.chunks else "failed"
        document.error_code = "unavailable" if why else "document_unreadable"
        document.error = (
            (why or "Something on our side kept this document from being read.").removesuffix(AGAIN)
            + f" It was tried many times.{kept} Have it read again in a while."
        )[:_MAX_REASON]
        document.reading, document.progress_stage = None, None
        document.updated_at = clock.now()

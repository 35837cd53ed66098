"""What is done with documents: add, find, list, delete, read again. Callers hold the transaction."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import Select, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import DocumentEmpty, InvalidInput, NotFound, PayloadTooLarge, PlanLimitReached, StorageFull
from stonechat.files import FileStore
from stonechat.jobs import enqueue
from stonechat.knowledge.extraction import refuse_unreadable
from stonechat.knowledge.media import MediaType, detect
from stonechat.knowledge.models import Chunk, Document, DocumentStatus
from stonechat.knowledge.quota import require_room, require_source
from stonechat.web.paging import decode_cursor, encode_cursor

MAX_DOCUMENT_BYTES = 25 * 1024 * 1024
MAX_TITLE, MAX_URL, MAX_FILENAME = 500, 2000, 255
MAX_PAGE = 100
INGEST, PURGE = "knowledge.ingest", "knowledge.purge"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]+")


async def create_document(
    session: AsyncSession,
    actor: Actor,
    *,
    files: FileStore,
    data: bytes,
    filename: str | None = None,
    title: str | None = None,
    url: str | None = None,
) -> Document:
    """Take a file in: checked, stored and queued for reading; its status tells the rest.

    Raises `PayloadTooLarge`, `DocumentEmpty`, `DocumentEncrypted`, `UnsupportedMediaType`, `InvalidInput`,
    `StorageFull` or `PlanLimitReached`. What the file is, its content says, not its name. Touches the database only after the file is stored.
    """
    actor.require("write")
    filename = _clean(PurePosixPath((filename or "").replace("\\", "/")).name, limit=MAX_FILENAME)
    check_size(data)
    media_type = detect(data, filename)
    await refuse_unreadable(data, media_type)
    document = await add_document(
        session, actor.tenant_id, files=files, data=data, media_type=media_type, filename=filename, title=title, url=url
    )
    await record_audit(session, actor, "document.create", subject_id=document.document_id, detail={"bytes": len(data)})
    return document


async def add_document(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    files: FileStore,
    data: bytes,
    media_type: MediaType,
    filename: str | None = None,
    title: str | None = None,
    url: str | None = None,
    source_id: str | None = None,
    parent_id: str | None = None,
) -> Document:
    """The part of `create_document` that sources share: store the bytes, insert the row, enqueue the reading."""
    title, filename = _clean(title, limit=MAX_TITLE), _clean(filename, limit=MAX_FILENAME)
    document = Document(
        tenant_id=tenant_id,
        document_id=ids.new_id("doc"),
        source_id=source_id,
        parent_id=parent_id,
        title=title or _title_from(filename) or "Untitled",
        title_given=title is not None,
        url=check_url(url),
        filename=filename,
        media_type=media_type.value,
        bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
        status="pending",
        version=0,
        chunks=0,
        created_at=(now := clock.now()),
        updated_at=now,
    )
    await files.put(tenant_id, original_of(document.document_id), data=data)
    try:
        if source_id is None and parent_id is None:
            await require_source(session, tenant_id)
        await require_room(session, tenant_id, documents=1, size=len(data))
    except (StorageFull, PlanLimitReached):
        await files.delete(tenant_id, original_of(document.document_id))
        raise
    session.add(document)
    await session.flush()
    await _enqueue(session, INGEST, document)
    return document


async def get_document(session: AsyncSession, actor: Actor, *, document_id: str, lock: bool = False) -> Document:
    """One document, or `NotFound`. A deleted one is not found."""
    actor.require("read")
    chosen = select(Document).where(
        Document.tenant_id == actor.tenant_id, Document.document_id == document_id, Document.deleted_at.is_(None)
    )
    document = await session.scalar(chosen.with_for_update() if lock else chosen)
    if document is None:
        raise NotFound("There is no such document.")
    return document


async def list_documents(
    session: AsyncSession,
    actor: Actor,
    *,
    status: DocumentStatus | Sequence[DocumentStatus] | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[list[Document], str | None]:
    """A page of documents, newest first, and the cursor of the next page or None. `status`: only those in it, or in any of them."""
    actor.require("read")
    limit = max(1, min(limit, MAX_PAGE))
    chosen = select(Document).where(Document.tenant_id == actor.tenant_id, Document.deleted_at.is_(None))
    if status is not None:
        chosen = chosen.where(Document.status.in_([status] if isinstance(status, str) else status))
    if cursor is not None:
        chosen = chosen.where(Document.document_id < decode_cursor(cursor, str)[0])
    found = list(await session.scalars(chosen.order_by(Document.document_id.desc()).limit(limit + 1)))
    following = encode_cursor(found[limit - 1].document_id) if len(found) > limit else None
    return found[:limit], following


async def list_passages(session: AsyncSession, actor: Actor, *, document_id: str) -> Sequence[Chunk]:
    """The passages of a document's current version, in reading order; the document must exist."""
    document = await get_document(session, actor, document_id=document_id)
    chosen = select(Chunk).where(
        Chunk.tenant_id == actor.tenant_id,
        Chunk.document_id == document.document_id,
        Chunk.version == document.version,
    )
    return list(await session.scalars(chosen.order_by(Chunk.ordinal)))


async def delete_document(session: AsyncSession, actor: Actor, *, document_id: str) -> None:
    """Delete a document everywhere. Once this transaction commits it is not found and never answers again.

    Its passages go at once; index, original and the row itself go in a job.
    """
    actor.require("write")
    await bury(session, await get_document(session, actor, document_id=document_id, lock=True))
    await record_audit(session, actor, "document.delete", subject_id=document_id)


async def bury(session: AsyncSession, document: Document) -> None:
    """Mark a document deleted, drop its text, and enqueue the rest."""
    document.deleted_at = document.updated_at = clock.now()
    document.source_id = None
    for child in await session.scalars(_living_children(document)):
        await bury(session, child)
    await session.execute(
        delete(Chunk).where(Chunk.tenant_id == document.tenant_id, Chunk.document_id == document.document_id)
    )
    await session.flush()
    await _enqueue(session, PURGE, document)


def _living_children(document: Document) -> Select[Document]:
    """What came out of an archive. Archives hold no archives, so this ends."""
    return (
        select(Document)
        .where(
            Document.tenant_id == document.tenant_id,
            Document.parent_id == document.document_id,
            Document.deleted_at.is_(None),
        )
        .with_for_update()
    )


async def reprocess_document(session: AsyncSession, actor: Actor, *, document_id: str) -> Document:
    """Read a document again. Until that is done, its present passages keep answering."""
    actor.require("write")
    document = await get_document(session, actor, document_id=document_id, lock=True)
    document.status, document.error = "pending", None
    document.reading, document.progress_stage = None, None
    document.updated_at = clock.now()
    await session.flush()
    await _enqueue(session, INGEST, document)
    await record_audit(session, actor, "document.reprocess", subject_id=document_id)
    return document


async def read_original(session: AsyncSession, actor: Actor, *, files: FileStore, document_id: str) -> bytes:
    """The bytes as they were uploaded."""
    document = await get_document(session, actor, document_id=document_id)
    return await stored_bytes(files, document)


def original_of(document_id: str) -> str:
    """The name in the file store of the bytes that a document came with."""
    return f"documents/{document_id}"


def replaced_original(document_id: str, digest: bytes) -> str:
    """The name of bytes that took the place of a document's first ones: another for others, so that whatever becomes of the
    transaction that writes the row, what the row tells of is there. What no row tells of goes with the next check."""
    return f"{original_of(document_id)}.{digest.hex()[:32]}"


async def stored_bytes(files: FileStore, document: Document) -> bytes:
    """A document's bytes as its row has them. Raises `NotFound`."""
    try:
        return await files.get(document.tenant_id, replaced_original(document.document_id, document.sha256))
    except NotFound:
        return await files.get(document.tenant_id, original_of(document.document_id))


def check_size(data: bytes) -> None:
    """Raise `DocumentEmpty` or `PayloadTooLarge`."""
    if len(data) > MAX_DOCUMENT_BYTES:
        raise PayloadTooLarge(f"A document may have at most {MAX_DOCUMENT_BYTES // 1024 // 1024} MB.")
    if not data.strip():
        raise DocumentEmpty("This file is empty. Choose one with something in it.")


def check_url(url: str | None) -> str | None:
    """The address, if it is one that a visitor's browser may be sent to; `InvalidInput` otherwise."""
    if url is None or not url.strip():
        return None
    url = url.strip()
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.username is None
    except ValueError:
        usable = False
    if not usable or len(url) > MAX_URL or _CONTROL.search(url) or " " in url:
        raise InvalidInput(
            "The document's address must start with http:// or https://.",
            errors=[{"field": "url", "message": "not an http or https address"}],
        )
    return url


async def _enqueue(session: AsyncSession, kind: str, document: Document) -> None:
    await enqueue(
        session,
        document.tenant_id,
        kind,
        {"document_id": document.document_id},
        dedupe_key=document.document_id,
    )


def _clean(value: str | None, *, limit: int) -> str | None:
    """One line without control characters, at most `limit` long; None if nothing is left."""
    if value is None:
        return None
    return " ".join(_CONTROL.sub(" ", value).split())[:limit].strip() or None


def _title_from(filename: str | None) -> str | None:
    if not filename:
        return None
    filename = PurePosixPath(filename).name
    stem = filename.rsplit(".", 1)[0] or filename
    return _clean(re.sub(r"[_\-]+", " ", stem), limit=MAX_TITLE)

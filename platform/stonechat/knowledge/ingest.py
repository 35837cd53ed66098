"""The bodies of the room's jobs. Each may run twice, at once or after a crash, and ends in the same state.

A new version is written to the index beside the old, then Postgres switches in one transaction, then the old version's
points go. Whatever a crash leaves in the index does not answer, because no passage in Postgres vouches for it, and the
job's next run removes it.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import all_, delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import DocumentUnreadable, NotFound
from stonechat.knowledge.archives import unpack
from stonechat.knowledge.chunk import index_text
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.extraction import Reading, read_document
from stonechat.knowledge.index import IndexPoint, chunk_id
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.models import Chunk, Document, IndexState
from stonechat.knowledge.service import original_of

_ROWS = 500


async def ingest_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> None:
    """Read a document, index its passages, and make them the ones that answer.

    A document that cannot be read becomes `failed` with the reason; other errors are raised, to be tried again.
    """
    async with knowledge.database.tenant(tenant_id) as session:
        document = await _locked(session, tenant_id, document_id)
        if document is not None and document.status in ("pending", "processing"):
            document.status, document.updated_at = "processing", clock.now()
    if document is None:
        await _purge_outside(knowledge, tenant_id, document_id)
        return
    if document.status in ("ready", "failed"):
        await knowledge.index.delete_document(tenant_id, document_id, keep_version=document.version)
        return

    if document.media_type == MediaType.ARCHIVE:
        await _unpack(knowledge, document)
        return
    version = document.version + 1
    try:
        reading = await read_document(await _original(knowledge, document), MediaType(document.media_type))
    except DocumentUnreadable as error:
        await fail_document(
            knowledge, tenant_id, document_id=document_id, code=error.code, reason=error.detail or error.title
        )
        return
    title = document.title if document.title_given or not reading.title else reading.title
    await knowledge.index.upsert(
        tenant_id,
        [
            IndexPoint(document_id, version, ordinal, index_text(piece, title=title), reading.language)
            for ordinal, piece in enumerate(reading.pieces)
        ],
    )
    async with knowledge.database.tenant(tenant_id) as session:
        document = await _locked(session, tenant_id, document_id)
        if document is not None and document.version < version:
            await _switch(session, document, version=version, title=title, reading=reading)
    if document is None:
        await _purge_outside(knowledge, tenant_id, document_id)
    else:
        await knowledge.index.delete_document(tenant_id, document_id, keep_version=document.version)


async def purge_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> None:
    """Remove what a deleted document left: its points, its original, at last its row. A living one is left alone."""
    async with knowledge.database.tenant(tenant_id) as session:
        if await _locked(session, tenant_id, document_id) is not None:
            return
    await _purge_outside(knowledge, tenant_id, document_id)
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(
            delete(Document).where(
                Document.tenant_id == tenant_id,
                Document.document_id == document_id,
                Document.deleted_at.is_not(None),
            )
        )


async def fail_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str, code: str, reason: str) -> None:
    """Note that a document could not be read, and why. A failed document does not answer."""
    async with knowledge.database.tenant(tenant_id) as session:
        document = await _locked(session, tenant_id, document_id)
        if document is not None and document.status != "ready":
            document.status, document.error_code, document.error = "failed", code, reason[:1000]
            document.updated_at = clock.now()


async def _locked(session: AsyncSession, tenant_id: UUID, document_id: str) -> Document | None:
    """The living document, locked until the transaction ends."""
    chosen = select(Document).where(
        Document.tenant_id == tenant_id, Document.document_id == document_id, Document.deleted_at.is_(None)
    )
    return await session.scalar(chosen.with_for_update())


async def _unpack(knowledge: Knowledge, archive: Document) -> None:
    tenant_id, document_id = archive.tenant_id, archive.document_id
    try:
        unpacked = await unpack(knowledge, archive, data=await _original(knowledge, archive))
        if not unpacked.taken:
            raise DocumentUnreadable(unpacked.report() or "This archive holds no documents.")
    except DocumentUnreadable as error:
        await fail_document(
            knowledge, tenant_id, document_id=document_id, code=error.code, reason=error.detail or error.title
        )
        return
    async with knowledge.database.tenant(tenant_id) as session:
        document = await _locked(session, tenant_id, document_id)
        if document is not None:
            document.status, document.error_code = "ready", None
            document.error = (unpacked.report() or "")[:1000] or None
            document.ready_at = document.updated_at = clock.now()


async def _original(knowledge: Knowledge, document: Document) -> bytes:
    try:
        return await knowledge.files.get(document.tenant_id, original_of(document.document_id))
    except NotFound:
        raise DocumentUnreadable("The original file is gone. Delete this document and upload it again.") from None


async def _switch(session: AsyncSession, document: Document, *, version: int, title: str, reading: Reading) -> None:
    """In one transaction: the new passages in, the old out, the version current, the document ready."""
    tenant_id, document_id = document.tenant_id, document.document_id
    await session.execute(delete(Chunk).where(Chunk.tenant_id == tenant_id, Chunk.document_id == document_id))
    rows = [
        {
            "tenant_id": tenant_id,
            "chunk_id": chunk_id(tenant_id, document_id, version=version, ordinal=ordinal),
            "document_id": document_id,
            "version": version,
            "ordinal": ordinal,
            "text": piece.text,
            "start_offset": piece.start,
            "end_offset": piece.end,
            "page": piece.page,
            "headings": list(piece.headings),
            "anchor": piece.anchor,
        }
        for ordinal, piece in enumerate(reading.pieces)
    ]
    for start in range(0, len(rows), _ROWS):
        await session.execute(insert(Chunk), rows[start : start + _ROWS])
    now = clock.now()
    document.version, document.chunks, document.title, document.language = version, len(rows), title, reading.language
    document.status, document.error_code, document.error = "ready", None, None
    document.ready_at = document.updated_at = now
    state = upsert(IndexState).values(tenant_id=tenant_id, languages=[reading.language], updated_at=now)
    await session.execute(
        state.on_conflict_do_update(
            index_elements=["tenant_id"],
            set_={"languages": func.array_append(IndexState.languages, reading.language), "updated_at": now},
            where=literal(reading.language) != all_(IndexState.languages),
        )
    )


async def _purge_outside(knowledge: Knowledge, tenant_id: UUID, document_id: str) -> None:
    await knowledge.index.delete_document(tenant_id, document_id)
    await knowledge.files.delete(tenant_id, original_of(document_id))

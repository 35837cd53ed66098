"""The bodies of the room's jobs. Each may run twice, at once or after a crash, and ends in the same state.

What is new of a version is written to the index beside the old, then Postgres switches in one transaction, then the old
version's passages go from the index. A passage that did not change keeps its id and its place in the index: it is neither
written nor embedded again, however far it moved. Whatever a crash leaves in the index does not answer, because no passage
in Postgres vouches for it, and the job's next run removes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID
from weakref import WeakValueDictionary

from sqlalchemy import all_, delete, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import DocumentUnreadable, NotFound, StorageFull, Unavailable
from stonechat.knowledge.archives import unpack
from stonechat.knowledge.chunk import index_text
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.extraction import CONCURRENT, Reading, read_document
from stonechat.knowledge.index import BATCH, MAX_HELD, At, IndexPoint, points_of
from stonechat.knowledge.layouts import places_of
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.models import Chunk, Document, IndexState
from stonechat.knowledge.progress import AGAIN, NO_VECTORS, Attempt, Superseded, tell_of
from stonechat.knowledge.quota import require_room
from stonechat.knowledge.service import original_of, replaced_original, stored_bytes

_ROWS = 500
_turns: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()
"""Of each tenant whose documents are being read: a reader is always left to the others."""


async def ingest_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> None:
    """Read a document, index its passages, and make them the ones that answer.

    A document that cannot be read becomes `failed` with the reason; other errors are noted and raised, to be tried
    again.
    """
    attempt: Attempt | None = None
    async with knowledge.database.tenant(tenant_id) as session:
        document = await locked(session, tenant_id, document_id)
        if document is not None and document.status in ("pending", "processing"):
            attempt = Attempt(knowledge.database, document)
    if document is None:
        await _purge_outside(knowledge, tenant_id, document_id)
        return
    if attempt is None:
        await remove_orphans(knowledge, tenant_id, document_id=document_id)
        return
    try:
        if document.media_type == MediaType.ARCHIVE:
            await _unpack(knowledge, document, attempt)
        else:
            await _read(knowledge, document, attempt)
    except Superseded:
        await _leave(knowledge, tenant_id, document_id)
    except (DocumentUnreadable, StorageFull) as error:
        with suppress(Superseded):
            await attempt.fail(code=error.code, reason=error.detail or error.title)
    except Exception as error:
        reason = error.detail if isinstance(error, Unavailable) else None
        with suppress(Exception):  # the database itself may be what failed
            await attempt.postpone((reason or "Something on our side failed.") + AGAIN)
        raise


async def purge_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> None:
    """Remove what a deleted document left: its points, its original, at last its row. A living one is left alone."""
    async with knowledge.database.tenant(tenant_id) as session:
        if await locked(session, tenant_id, document_id) is not None:
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


async def remove_orphans(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> int:
    """Remove what the index holds of a living document and Postgres does not; how many points went.

    The row is locked meanwhile, so that no attempt begins; while one is going on, nothing is done, for what it wrote is
    not in Postgres yet.
    """
    async with knowledge.database.tenant(tenant_id) as session:
        document = await locked(session, tenant_id, document_id)
        if document is None or document.reading is not None:
            return 0
        rows = await session.scalars(
            select(Chunk.chunk_id).where(Chunk.tenant_id == tenant_id, Chunk.document_id == document_id)
        )
        vouched, removed = set(rows), 0
        # By its place, or the index would ask for another connection while this one is held.
        for laid in (await places_of(session, tenant_id)).written:
            doomed = sorted(await held_points(knowledge, laid.place, document_id=document_id) - vouched)
            await knowledge.index.delete_points(laid.place, doomed)
            removed += len(doomed)
    return removed


async def held_points(knowledge: Knowledge, at: At, *, document_id: str) -> set[str]:
    """The chunk ids that the index holds of a document."""
    found: set[str] = set()
    after: str | None = None
    while True:
        page = await knowledge.index.held(at, document_id=document_id, after=after, limit=MAX_HELD)
        found.update(each.chunk_id for each in page)
        if len(page) < MAX_HELD:
            return found
        after = page[-1].chunk_id


async def locked(session: AsyncSession, tenant_id: UUID, document_id: str) -> Document | None:
    """The living document, locked until the transaction ends."""
    chosen = select(Document).where(
        Document.tenant_id == tenant_id, Document.document_id == document_id, Document.deleted_at.is_(None)
    )
    return await session.scalar(chosen.with_for_update())


async def _read(knowledge: Knowledge, document: Document, attempt: Attempt) -> None:
    tenant_id, document_id = document.tenant_id, document.document_id
    turn = _turns.setdefault(tenant_id, asyncio.Semaphore(max(1, CONCURRENT - 1)))
    async with turn:
        data = await _original(knowledge, document)
        reading = await attempt.alongside(read_document(data, MediaType(document.media_type)))
    title = document.title if document.title_given or not reading.title else reading.title
    texts = [index_text(piece, title=title) for piece in reading.pieces]
    points = points_of(
        tenant_id,
        document_id,
        texts,
        language=reading.language,
        source_id=document.source_id,
        tags=document.tags,
    )
    before = await held_points(knowledge, tenant_id, document_id=document_id)
    known = frozenset[str]() if attempt.lacks_vectors else before
    note = await _write(knowledge, tenant_id, [point for point in points if point.chunk_id not in known], attempt)
    async with knowledge.database.tenant(tenant_id) as session:
        current = await locked(session, tenant_id, document_id)
        if current is None or current.reading != attempt.name:
            raise Superseded
        await require_room(session, tenant_id, chunks=len(points), besides=document_id)
        await _switch(session, current, title=title, reading=reading, points=points)
        if note is not None:
            current.error_code, current.error = NO_VECTORS, note[:1000]
        await session.flush()
        await tell_of(session, tenant_id, document_id=document_id)
    if before - {point.chunk_id for point in points}:
        await remove_orphans(knowledge, tenant_id, document_id=document_id)


async def _write(knowledge: Knowledge, tenant_id: UUID, points: Sequence[IndexPoint], attempt: Attempt) -> str | None:
    note = None
    for start in range(0, len(points), BATCH):
        note = await knowledge.index.upsert(tenant_id, points[start : start + BATCH]) or note
        if start + BATCH < len(points):
            await attempt.report("passages", start + BATCH, len(points))
    return note


async def _unpack(knowledge: Knowledge, archive: Document, attempt: Attempt) -> None:
    tenant_id, document_id = archive.tenant_id, archive.document_id
    unpacked = await unpack(knowledge, archive, data=await _original(knowledge, archive), report=attempt.report)
    if not unpacked.taken:
        raise DocumentUnreadable(unpacked.report() or "This archive holds no documents.")
    async with knowledge.database.tenant(tenant_id) as session:
        document = await locked(session, tenant_id, document_id)
        if document is None or document.reading != attempt.name:
            raise Superseded
        _finish(document)
        document.error = (unpacked.report() or "")[:1000] or None


async def _original(knowledge: Knowledge, document: Document) -> bytes:
    try:
        return await stored_bytes(knowledge.files, document)
    except NotFound:
        raise DocumentUnreadable("The original file is gone. Delete this document and upload it again.") from None


async def _switch(
    session: AsyncSession, document: Document, *, title: str, reading: Reading, points: Sequence[IndexPoint]
) -> None:
    """In one transaction: the new passages in, the old out, the version current, the document ready."""
    tenant_id, document_id, version = document.tenant_id, document.document_id, document.version + 1
    await session.execute(delete(Chunk).where(Chunk.tenant_id == tenant_id, Chunk.document_id == document_id))
    rows = [
        {
            "tenant_id": tenant_id,
            "chunk_id": point.chunk_id,
            "document_id": document_id,
            "version": version,
            "ordinal": ordinal,
            "text": piece.text,
            "start_offset": piece.start,
            "end_offset": piece.end,
            "page": piece.page,
            "headings": list(piece.headings),
            "anchor": piece.anchor,
            "columns": piece.columns,
        }
        for ordinal, (piece, point) in enumerate(zip(reading.pieces, points, strict=True))
    ]
    for start in range(0, len(rows), _ROWS):
        await session.execute(insert(Chunk), rows[start : start + _ROWS])
    document.version, document.chunks, document.title, document.language = version, len(rows), title, reading.language
    _finish(document)
    state = upsert(IndexState).values(tenant_id=tenant_id, languages=[reading.language], updated_at=clock.now())
    await session.execute(
        state.on_conflict_do_update(
            index_elements=["tenant_id"],
            set_={"languages": func.array_append(IndexState.languages, reading.language), "updated_at": clock.now()},
            where=literal(reading.language) != all_(IndexState.languages),
        )
    )


def _finish(document: Document) -> None:
    document.status, document.error_code, document.error = "ready", None, None
    document.reading, document.progress_stage = None, None
    document.ready_at = document.updated_at = clock.now()


async def _leave(knowledge: Knowledge, tenant_id: UUID, document_id: str) -> None:
    """Tidy up after an attempt that lost its word: what it wrote answers nobody, and goes, unless another needs it."""
    async with knowledge.database.tenant(tenant_id) as session:
        living = await locked(session, tenant_id, document_id) is not None
    if living:
        await remove_orphans(knowledge, tenant_id, document_id=document_id)
    else:
        await _purge_outside(knowledge, tenant_id, document_id)


async def _purge_outside(knowledge: Knowledge, tenant_id: UUID, document_id: str) -> None:
    await knowledge.index.delete_document(tenant_id, document_id)
    async with knowledge.database.tenant(tenant_id) as session:
        mine = (Document.tenant_id == tenant_id) & (Document.document_id == document_id)
        digest = await session.scalar(select(Document.sha256).where(mine))
    if digest is not None:
        await knowledge.files.delete(tenant_id, replaced_original(document_id, digest))
    await knowledge.files.delete(tenant_id, original_of(document_id))

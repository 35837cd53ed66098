"""What people who look after the documents read of them: how many there are, their passages, what an answer cited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.knowledge import service, sources
from stonechat.knowledge.models import Chunk, Document, Source
from stonechat.web.paging import decode_cursor, encode_cursor

MAX_CITED = 500
"""Sources that are looked up at once."""
WRITTEN = frozenset({"text", "faq"})
"""Kinds of sources that somebody wrote by hand; each is one document."""


async def count_documents(session: AsyncSession, actor: Actor) -> dict[str, int]:
    """How many documents are in each status; a status without any is left out."""
    actor.require("read")
    rows = await session.execute(
        select(Document.status, func.count().label("held"))
        .where(Document.tenant_id == actor.tenant_id, Document.deleted_at.is_(None))
        .group_by(Document.status)
    )
    return {row.status: row.held for row in rows}


async def get_documents(session: AsyncSession, actor: Actor, *, document_ids: Sequence[str]) -> list[Document]:
    """Those of these documents that exist, newest first; at most a page of them."""
    actor.require("read")
    wanted = [document_id for document_id in document_ids if "\x00" not in document_id][: service.MAX_PAGE]
    if not wanted:
        return []
    chosen = select(Document).where(
        Document.tenant_id == actor.tenant_id, Document.document_id.in_(wanted), Document.deleted_at.is_(None)
    )
    return list(await session.scalars(chosen.order_by(Document.document_id.desc())))


async def read_passages(
    session: AsyncSession, actor: Actor, *, document: Document, limit: int = 20, cursor: str | None = None
) -> tuple[list[Chunk], str | None]:
    """A page of a document's passages in reading order, and the cursor of the next page or None."""
    actor.require("read")
    limit = max(1, min(limit, service.MAX_PAGE))
    chosen = select(Chunk).where(
        Chunk.tenant_id == actor.tenant_id,
        Chunk.document_id == document.document_id,
        Chunk.version == document.version,
    )
    if cursor is not None:
        last = min(decode_cursor(cursor, int)[0], 2**31 - 1)
        chosen = chosen.where(Chunk.ordinal > max(last, -1))
    found = list(await session.scalars(chosen.order_by(Chunk.ordinal).limit(limit + 1)))
    following = encode_cursor(found[limit - 1].ordinal) if len(found) > limit else None
    return found[:limit], following


async def find_cited(
    session: AsyncSession, actor: Actor, *, urls: Iterable[str], titles: Iterable[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The ids of living documents by address and by title, the newest where several share one."""
    actor.require("read")
    by_url = sorted({url for url in urls if "\x00" not in url})[:MAX_CITED]
    by_title = sorted({title for title in titles if "\x00" not in title})[:MAX_CITED]
    if not by_url and not by_title:
        return {}, {}
    rows = await session.execute(
        select(Document.document_id, Document.url, Document.title)
        .where(
            Document.tenant_id == actor.tenant_id,
            Document.deleted_at.is_(None),
            or_(Document.url.in_(by_url), Document.title.in_(by_title)),
        )
        .order_by(Document.document_id)
        .limit(2 * MAX_CITED)
    )
    found = list(rows)
    return {url: key for key, url, _ in found if url}, {title: key for key, _, title in found}


async def kinds_of_sources(session: AsyncSession, actor: Actor, *, documents: Iterable[Document]) -> dict[str, str]:
    """The kind of each of these documents' sources, by the source's id; uploads have none."""
    actor.require("read")
    wanted = {document.source_id for document in documents if document.source_id}
    if not wanted:
        return {}
    rows = await session.execute(
        select(Source.source_id, Source.kind).where(Source.tenant_id == actor.tenant_id, Source.source_id.in_(wanted))
    )
    return {row.source_id: row.kind for row in rows}


async def delete_with_source(session: AsyncSession, actor: Actor, *, document_id: str) -> str:
    """Delete a document everywhere, and with it the text or the questions that somebody wrote. Returns its title."""
    actor.require("write")
    document = await service.get_document(session, actor, document_id=document_id)
    title = document.title
    kinds = await kinds_of_sources(session, actor, documents=[document])
    if document.source_id is not None and kinds.get(document.source_id) in WRITTEN:
        await sources.delete_source(session, actor, source_id=document.source_id)
    else:
        await service.delete_document(session, actor, document_id=document_id)
    return title

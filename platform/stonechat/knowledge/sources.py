"""Sources: texts and question-answer pairs written by hand, each one document. Those on the web: `web/service.py`."""

from __future__ import annotations

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import NotFound
from stonechat.files import FileStore
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.models import Source
from stonechat.knowledge.quota import require_source
from stonechat.knowledge.schemas import FaqSourceIn, TextSourceIn
from stonechat.knowledge.service import MAX_PAGE, add_document, check_size, check_url
from stonechat.knowledge.web.retire import bury_documents, documents_of_source
from stonechat.web.paging import decode_cursor, encode_cursor


async def create_source(
    session: AsyncSession, actor: Actor, *, files: FileStore, source: TextSourceIn | FaqSourceIn
) -> Source:
    """Add what somebody wrote, and its document, queued for reading. Raises `PlanLimitReached`."""
    actor.require("write")
    match source:
        case TextSourceIn():
            data, media_type = source.text.encode("utf-8", errors="replace"), MediaType.MARKDOWN
        case FaqSourceIn():
            pairs = source.model_dump_json(include={"pairs"})
            data, media_type = pairs.removeprefix('{"pairs":').removesuffix("}").encode(), MediaType.FAQ
    check_size(data)
    url = check_url(source.url)
    await require_source(session, actor.tenant_id)
    row = Source(
        tenant_id=actor.tenant_id,
        source_id=ids.new_id("src"),
        kind=source.type,
        name=source.name,
        settings={},
        created_at=(now := clock.now()),
        synced_at=now,
    )
    session.add(row)
    await session.flush()
    await add_document(
        session,
        actor.tenant_id,
        files=files,
        data=data,
        media_type=media_type,
        title=source.name,
        url=url,
        source_id=row.source_id,
    )
    await record_audit(session, actor, "source.create", subject_id=row.source_id, detail={"type": source.type})
    return row


async def get_source(session: AsyncSession, actor: Actor, *, source_id: str) -> Source:
    """One source, or `NotFound`."""
    actor.require("read")
    chosen = select(Source).where(Source.tenant_id == actor.tenant_id, Source.source_id == source_id)
    source = await session.scalar(chosen)
    if source is None:
        raise NotFound("There is no such source.")
    return source


async def list_sources(
    session: AsyncSession, actor: Actor, *, limit: int = 20, cursor: str | None = None
) -> tuple[list[Source], str | None]:
    """A page of sources, newest first, and the cursor of the next page or None."""
    actor.require("read")
    limit = max(1, min(limit, MAX_PAGE))
    chosen = select(Source).where(Source.tenant_id == actor.tenant_id)
    if cursor is not None:
        chosen = chosen.where(Source.source_id < decode_cursor(cursor, str)[0])
    found = list(await session.scalars(chosen.order_by(Source.source_id.desc()).limit(limit + 1)))
    following = encode_cursor(found[limit - 1].source_id) if len(found) > limit else None
    return found[:limit], following


async def delete_source(session: AsyncSession, actor: Actor, *, source_id: str) -> None:
    """Delete a source and its documents everywhere."""
    actor.require("write")
    source = await get_source(session, actor, source_id=source_id)
    held = await documents_of_source(session, actor.tenant_id, source_id)
    await bury_documents(session, actor.tenant_id, document_ids=held)
    await session.execute(
        delete(Source).where(Source.tenant_id == actor.tenant_id, Source.source_id == source.source_id)
    )
    await record_audit(session, actor, "source.delete", subject_id=source_id)

"""Words that people put on documents, for searches to be narrowed by."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import InvalidInput
from stonechat.jobs import enqueue
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.models import Document
from stonechat.knowledge.service import get_document

LABEL = "knowledge.label"
MAX_TAGS, MAX_TAG = 20, 50


async def set_tags(session: AsyncSession, actor: Actor, *, document_id: str, tags: Sequence[str]) -> Document:
    """Replace a document's tags. Searches are narrowed by them as soon as a job has told the index."""
    actor.require("write")
    document = await get_document(session, actor, document_id=document_id, lock=True)
    document.tags = clean_tags(tags)
    document.updated_at = clock.now()
    await session.flush()
    await enqueue(session, actor.tenant_id, LABEL, {"document_id": document_id}, dedupe_key=document_id)
    await record_audit(session, actor, "document.tag", subject_id=document_id, detail={"tags": document.tags})
    return document


def clean_tags(tags: Sequence[str]) -> list[str]:
    """Tags in lower case, each once, sorted. Raises `InvalidInput`."""
    cleaned = sorted({" ".join(tag.lower().split()) for tag in tags} - {""})
    if len(cleaned) > MAX_TAGS or any(len(tag) > MAX_TAG or not tag.isprintable() for tag in cleaned):
        message = f"A document has at most {MAX_TAGS} tags of {MAX_TAG} characters each."
        raise InvalidInput(message, errors=[{"field": "tags", "message": message}])
    return cleaned


async def label_document(knowledge: Knowledge, tenant_id: UUID, *, document_id: str) -> None:
    """Tell the index what a document can be filtered by now."""
    async with knowledge.database.tenant(tenant_id) as session:
        document = await session.scalar(
            select(Document).where(
                Document.tenant_id == tenant_id, Document.document_id == document_id, Document.deleted_at.is_(None)
            )
        )
    if document is not None:
        await knowledge.index.label_document(tenant_id, document_id, source_id=document.source_id, tags=document.tags)

"""`/api/v1/knowledge`: documents, sources, search."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, File, Form, Query, UploadFile

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant.agents import load_config
from stonechat.knowledge import search as retrieval
from stonechat.knowledge import service, sources
from stonechat.knowledge.models import DocumentStatus
from stonechat.knowledge.schemas import DocumentOut, PassageOut, SearchIn, SearchOut, SourceIn, SourceOut
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(
    prefix="/knowledge", tags=["Knowledge"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


@router.post("/documents", status_code=202, summary="Upload a document")
async def upload_document(
    actor: ApiActor,
    session: TenantSession,
    services: AppServices,
    file: Annotated[UploadFile, File(description="Text, Markdown, HTML or PDF, up to 25 MB.")],
    title: Annotated[str | None, Form(max_length=service.MAX_TITLE)] = None,
    url: Annotated[str | None, Form(max_length=service.MAX_URL)] = None,
) -> DocumentOut:
    document = await service.create_document(
        session,
        actor,
        files=services.knowledge.files,
        data=await file.read(service.MAX_DOCUMENT_BYTES + 1),
        filename=file.filename,
        title=title,
        url=url,
    )
    return DocumentOut.of(document)


@router.get("/documents", summary="List documents, newest first")
async def list_documents(
    actor: ApiActor,
    session: TenantSession,
    status: Annotated[DocumentStatus | None, Query(description="Only documents in this state.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[DocumentOut]:
    found, following = await service.list_documents(session, actor, status=status, limit=limit, cursor=cursor)
    return Page(data=[DocumentOut.of(document) for document in found], next_cursor=following)


@router.get("/documents/{document_id}", summary="One document and how far it has come")
async def get_document(document_id: str, actor: ApiActor, session: TenantSession) -> DocumentOut:
    return DocumentOut.of(await service.get_document(session, actor, document_id=document_id))


@router.delete("/documents/{document_id}", status_code=204, summary="Delete a document everywhere")
async def delete_document(document_id: str, actor: ApiActor, session: TenantSession) -> None:
    await service.delete_document(session, actor, document_id=document_id)


@router.post("/documents/{document_id}/reprocess", summary="Read a document again")
async def reprocess_document(document_id: str, actor: ApiActor, session: TenantSession) -> DocumentOut:
    return DocumentOut.of(await service.reprocess_document(session, actor, document_id=document_id))


@router.get("/sources", summary="List sources, newest first")
async def list_sources(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[SourceOut]:
    found, following = await sources.list_sources(session, actor, limit=limit, cursor=cursor)
    return Page(data=[SourceOut.of(source) for source in found], next_cursor=following)


@router.post("/sources", status_code=201, summary="Add a text or question-answer pairs")
async def create_source(
    source: Annotated[SourceIn, Body()], actor: ApiActor, session: TenantSession, services: AppServices
) -> SourceOut:
    return SourceOut.of(await sources.create_source(session, actor, files=services.knowledge.files, source=source))


@router.get("/sources/{source_id}", summary="One source")
async def get_source(source_id: str, actor: ApiActor, session: TenantSession) -> SourceOut:
    return SourceOut.of(await sources.get_source(session, actor, source_id=source_id))


@router.delete("/sources/{source_id}", status_code=204, summary="Delete a source and its documents everywhere")
async def delete_source(source_id: str, actor: ApiActor, session: TenantSession) -> None:
    await sources.delete_source(session, actor, source_id=source_id)


@router.post("/search", summary="The passages that would answer a question")
async def search(body: SearchIn, actor: ApiActor, services: AppServices) -> SearchOut:
    actor.require("read")
    limit = body.limit
    if body.agent_id is not None:
        async with services.database.tenant(actor.tenant_id) as session:
            config = await load_config(session, actor.tenant_id, agent_id=body.agent_id, version="draft")
        limit = min(limit, config.knowledge.max_passages) if config.knowledge.enabled else 0
    # No transaction is open here: none is held while the index searches.
    found = await retrieval.search(services.knowledge, actor.tenant_id, body.query, limit=limit) if limit else []
    return SearchOut(results=[PassageOut.of(passage) for passage in found])

"""`/api/v1/knowledge`: documents, sources, search."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, File, Form, Query, Response, UploadFile

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant.agents import load_config
from stonechat.knowledge import search as retrieval
from stonechat.knowledge import service, sources, tuning
from stonechat.knowledge.editing import Rewriting, rewrite_source
from stonechat.knowledge.models import DocumentStatus
from stonechat.knowledge.progress import cancel_reading
from stonechat.knowledge.schemas import (
    DocumentOut,
    PassageOut,
    SearchIn,
    SearchOut,
    SourceDetailOut,
    SourceIn,
    SourceOut,
    SourcePageOut,
    SourcePatch,
    TagsIn,
    WebSourceIn,
)
from stonechat.knowledge.tags import set_tags
from stonechat.knowledge.tuning import SearchSettings, SearchSettingsView
from stonechat.knowledge.web import service as web_sources
from stonechat.knowledge.web.models import PageState
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(
    prefix="/knowledge", tags=["Knowledge"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


_FETCHING: dict[str, str] = {"description": "A web source was added, and is being fetched."}


@router.post("/documents", status_code=202, summary="Upload a document")
async def upload_document(
    actor: ApiActor,
    session: TenantSession,
    services: AppServices,
    file: Annotated[UploadFile, File(description="Text, Markdown, HTML or PDF, up to 25 MB.")],
    title: Annotated[str | None, Form(max_length=service.MAX_TITLE)] = None,
    url: Annotated[str | None, Form(max_length=service.MAX_URL)] = None,
) -> DocumentOut:
    await services.flags.require("uploads", actor.tenant_id)
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


@router.post("/documents/{document_id}/cancel", summary="Stop reading a document; what was read before keeps answering")
async def cancel_document(document_id: str, actor: ApiActor, session: TenantSession) -> DocumentOut:
    return DocumentOut.of(await cancel_reading(session, actor, document_id=document_id))


@router.get("/sources", summary="List sources, newest first")
async def list_sources(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[SourceOut]:
    found, following = await sources.list_sources(session, actor, limit=limit, cursor=cursor)
    return Page(data=[SourceOut.of(source) for source in found], next_cursor=following)


@router.post(
    "/sources", status_code=201, summary="Add a text, question-answer pairs, or a web site", responses={202: _FETCHING}
)
async def create_source(
    source: Annotated[SourceIn, Body()],
    actor: ApiActor,
    session: TenantSession,
    services: AppServices,
    response: Response,
) -> SourceOut:
    web = isinstance(source, WebSourceIn)
    await services.flags.require("web_sources" if web else "uploads", actor.tenant_id)
    if isinstance(source, WebSourceIn):
        response.status_code = 202
        return SourceOut.of(
            await web_sources.create_web_source(session, actor, web=services.knowledge.web, source=source)
        )
    return SourceOut.of(await sources.create_source(session, actor, files=services.knowledge.files, source=source))


@router.get("/sources/{source_id}", summary="One source, how far it has come, and what failed of late")
async def get_source(source_id: str, actor: ApiActor, session: TenantSession) -> SourceDetailOut:
    source = await sources.get_source(session, actor, source_id=source_id)
    failures = await web_sources.recent_failures(session, actor, source=source)
    return SourceDetailOut(
        **SourceOut.of(source).model_dump(), recent_errors=[SourcePageOut.of(page) for page in failures]
    )


@router.patch("/sources/{source_id}", summary="Rename a source, schedule it, or rewrite what was written here")
async def update_source(
    source_id: str, patch: SourcePatch, actor: ApiActor, session: TenantSession, services: AppServices
) -> SourceOut:
    if patch.text is not None or patch.pairs is not None or patch.url is not None:
        change = Rewriting(name=patch.name, text=patch.text, pairs=patch.pairs, url=patch.url)
        await rewrite_source(session, actor, files=services.knowledge.files, source_id=source_id, change=change)
    return SourceOut.of(
        await web_sources.update_source(session, actor, source_id=source_id, name=patch.name, schedule=patch.schedule)
    )


@router.post("/sources/{source_id}/sync", summary="Fetch a web source again, now")
async def sync_source(source_id: str, actor: ApiActor, session: TenantSession, services: AppServices) -> SourceOut:
    """A source that is being fetched already, or was written here, stays as it is."""
    await services.flags.require("web_sources", actor.tenant_id)
    return SourceOut.of(await web_sources.sync_source(session, actor, source_id=source_id))


@router.post("/sources/{source_id}/cancel", summary="Stop fetching a web source")
async def cancel_sync(source_id: str, actor: ApiActor, session: TenantSession) -> SourceOut:
    """What was read so far stays, and answers."""
    return SourceOut.of(await web_sources.cancel_sync(session, actor, source_id=source_id))


@router.get("/sources/{source_id}/pages", summary="The addresses of a web source, in the order they were found")
async def list_source_pages(
    source_id: str,
    actor: ApiActor,
    session: TenantSession,
    state: Annotated[PageState | None, Query(description="Only addresses in this state.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[SourcePageOut]:
    source = await sources.get_source(session, actor, source_id=source_id)
    found, following = await web_sources.list_pages(
        session, actor, source=source, state=state, limit=limit, cursor=cursor
    )
    return Page(data=[SourcePageOut.of(page) for page in found], next_cursor=following)


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
    if not limit:
        return SearchOut(results=[])
    found = await retrieval.search(services.knowledge, actor.tenant_id, body.query, limit=limit, only=body.only)
    return SearchOut(results=[PassageOut.of(passage) for passage in found])


@router.get("/settings", summary="How documents are searched")
async def get_settings(actor: ApiActor, session: TenantSession) -> SearchSettingsView:
    return await tuning.get_settings(session, actor)


@router.put("/settings", summary="Change how documents are searched")
async def put_settings(
    body: SearchSettings, actor: ApiActor, session: TenantSession, services: AppServices
) -> SearchSettingsView:
    """Another embedding model has the index built anew in the background; the old one answers until then."""
    return await tuning.put_settings(session, actor, settings=body, layout=services.settings.index_layout)


@router.put("/documents/{document_id}/tags", summary="Replace a document's tags")
async def put_tags(document_id: str, body: TagsIn, actor: ApiActor, session: TenantSession) -> DocumentOut:
    return DocumentOut.of(await set_tags(session, actor, document_id=document_id, tags=body.tags))

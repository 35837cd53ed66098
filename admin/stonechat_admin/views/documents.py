"""`/console/knowledge/documents/…`: one document, what was read from it, and what can be done with it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Response

from stonechat.errors import Conflict
from stonechat.knowledge import browse, service
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.progress import cancel_reading, places_in_line
from stonechat.web import Cursor
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.documents import Show, by_filter, describe
from stonechat_admin.passages import shown

router = APIRouter(prefix="/console/knowledge/documents")

PASSAGES = 20
_SUFFIXES = {MediaType.TEXT: "txt", MediaType.MARKDOWN: "md", MediaType.HTML: "html", MediaType.PDF: "pdf"}


async def _values(console: Console, document_id: str, cursor: str | None = None) -> dict[str, Any]:
    document = await service.get_document(console.session, console.actor, document_id=document_id)
    kinds = await browse.kinds_of_sources(console.session, console.actor, documents=[document])
    places = await places_in_line(console.session, console.actor, documents=[document])
    passages, following = await browse.read_passages(
        console.session, console.actor, document=document, limit=PASSAGES, cursor=cursor
    )
    return {
        "document": describe(document, kinds, places),
        "passages": [shown(passage, title=document.title) for passage in passages],
        "following": following,
    }


@router.get("/{document_id}")
async def show_document(document_id: str, console: Viewer, cursor: Cursor = None) -> Response:
    values = await _values(console, document_id, cursor)
    if console.is_partial:
        return console.fragment("knowledge/_passages.html", **values)
    return console.page("knowledge/document.html", **values)


@router.get("/{document_id}/original")
async def download_original(document_id: str, console: Editor) -> Response:
    """The file as it was uploaded, as a download: nothing in it may run here."""
    document = await service.get_document(console.session, console.actor, document_id=document_id)
    suffix = _SUFFIXES.get(MediaType(document.media_type))
    if suffix is None:
        raise Conflict("This was written here, not uploaded. All of it stands on its page.")
    data = await service.read_original(
        console.session, console.actor, files=console.services.knowledge.files, document_id=document_id
    )
    name = document.filename or f"{document.title[:100]}.{suffix}"
    return Response(
        data,
        media_type="application/octet-stream",
        headers={
            "Content-Disposition": f"attachment; filename=\"document.{suffix}\"; filename*=UTF-8''{quote(name, safe='')}",
            "Content-Security-Policy": "default-src 'none'; sandbox",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        },
    )


@router.post("/{document_id}/reprocess")
async def reprocess_document(
    document_id: str, console: Editor, listed: Annotated[bool, Query()] = False, show: Annotated[Show, Query()] = ""
) -> Response:
    document = await service.get_document(console.session, console.actor, document_id=document_id)
    if document.status not in ("pending", "processing"):  # a second click changes nothing
        await service.reprocess_document(console.session, console.actor, document_id=document_id)
    toast = f"“{document.title}” is being read again."
    if listed:
        kinds = await browse.kinds_of_sources(console.session, console.actor, documents=[document])
        return console.fragment("knowledge/_row.html", toast=toast, document=describe(document, kinds), chosen=show)
    return console.go(f"/console/knowledge/documents/{document_id}", toast=toast)


@router.post("/{document_id}/cancel")
async def cancel_document(
    document_id: str, console: Editor, listed: Annotated[bool, Query()] = False, show: Annotated[Show, Query()] = ""
) -> Response:
    document = await cancel_reading(console.session, console.actor, document_id=document_id)
    kept = " What was read of it before keeps answering." if document.status == "ready" else ""
    toast = f"Reading “{document.title}” was cancelled.{kept}"
    if listed:
        kinds = await browse.kinds_of_sources(console.session, console.actor, documents=[document])
        return console.fragment("knowledge/_row.html", toast=toast, document=describe(document, kinds), chosen=show)
    return console.go(f"/console/knowledge/documents/{document_id}", toast=toast)


@router.delete("/{document_id}")
async def delete_document(
    document_id: str, console: Editor, listed: Annotated[bool, Query()] = False, show: Annotated[Show, Query()] = ""
) -> Response:
    title = await browse.delete_with_source(console.session, console.actor, document_id=document_id)
    toast = f"“{title}” was deleted. It answers no more."
    if listed:
        counts = await browse.count_documents(console.session, console.actor)
        return console.fragment(
            "knowledge/_deleted.html", toast=toast, gone=[document_id], documents=[], chosen=show, **by_filter(counts)
        )
    return console.go("/console/knowledge", toast=toast)

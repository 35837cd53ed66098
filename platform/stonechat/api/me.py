"""`/v1/me`: a visitor's own data, to take away and to have erased."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from starlette.responses import StreamingResponse

from stonechat.api.dependencies import AppServices, VisitorCaller
from stonechat.limits.addresses import limit_address
from stonechat.privacy.erasure import erase_visitor
from stonechat.privacy.export import export_visitor

router = APIRouter(prefix="/v1/me", tags=["visitors"], dependencies=[Depends(limit_address)])


@router.get(
    "/export",
    summary="Everything kept of the visitor",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
)
async def export_me(caller: VisitorCaller, services: AppServices) -> Response:
    """The visitor's conversations with all of the site's assistants, as one JSON document to be saved.

    At most 64 MB; `truncated` says whether there was more. Four requests a minute.
    """
    await services.limiter.check_privacy(caller)
    pieces = export_visitor(services.database, caller, attachments=services.chat.uploads.attachments)
    headers = {"Content-Disposition": 'attachment; filename="conversations.json"', "Cache-Control": "no-store"}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.delete("", status_code=204, summary="Erase the visitor")
async def delete_me(caller: VisitorCaller, services: AppServices) -> Response:
    """Delete the visitor's conversations, files and judgements, and who they were. Answers being written stop.

    There is no way back. Usage stays counted, under a hash that names nobody.
    """
    await services.limiter.check_privacy(caller)
    await erase_visitor(services.database, caller, hub=services.chat.hub, files=services.knowledge.files)
    return Response(status_code=204)

"""`/v1/uploads/{attachment}`: the bytes of attachments, put and fetched through signed links."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from urllib.parse import quote

from chatkit.types import Attachment
from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from stonechat.api.dependencies import AppServices
from stonechat.chat.links import MAX_TOKEN
from stonechat.errors import StonechatError, UnsupportedMediaType, UploadIncomplete
from stonechat.limits.addresses import limit_address

router = APIRouter(prefix="/v1/uploads", tags=["visitors"], dependencies=[Depends(limit_address)])
DISCARD_BYTES, DISCARD_SECONDS = 32 * 1024 * 1024, 5.0
"""How much of a body that is refused is read and thrown away, so that its sender reads why."""
Token = Annotated[str, Query(max_length=MAX_TOKEN, description="From the link that the attachment came with.")]


class UploadedFile(BaseModel):
    """An attachment whose bytes are here."""

    id: str
    type: Literal["image", "file"]
    name: str
    mime_type: str
    preview_url: str | None = None

    @classmethod
    def of(cls, attachment: Attachment) -> UploadedFile:
        link = str(attachment.preview_url) if attachment.type == "image" else None
        return cls(
            id=attachment.id,
            type=attachment.type,
            name=attachment.name,
            mime_type=attachment.mime_type,
            preview_url=link,
        )


@router.put("/{attachment}", openapi_extra={"requestBody": {"content": {"*/*": {}}, "required": True}})
async def put_upload(attachment: str, request: Request, services: AppServices, token: Token = "") -> UploadedFile:
    """Put the bytes of an attachment that `attachments.create` announced, exactly as many as were announced.

    The link came with the attachment and is good for ten minutes. What the file is, its content says. Pictures are drawn
    anew, without their metadata; documents are read, for their own conversation only.
    """
    body = _body(request)
    try:
        grant = services.chat.uploads.attachments.links.open_upload(attachment, token)
        await services.suspensions.require_active(grant.key.tenant_id)
        if "content-encoding" in request.headers:
            raise UnsupportedMediaType("Send the file as it is, without a Content-Encoding.")
        declared = request.headers.get("content-length", "")
        length = int(declared[:20]) if declared.isdigit() else None
        return UploadedFile.of(await services.chat.uploads.receive(grant, body, length=length))
    except StonechatError as refused:
        if not await _discard(body):
            refused.headers["Connection"] = "close"
        raise


@router.get("/{attachment}", response_class=Response, responses={200: {"content": {"*/*": {}}}})
async def get_upload(attachment: str, services: AppServices, token: Token = "") -> Response:
    """The file, as it is kept: a picture to be shown, anything else to be saved and never to be opened in place."""
    attachments = services.chat.uploads.attachments
    file = await attachments.open(attachments.links.open_view(attachment, token))
    picture = file.media_type in ("image/jpeg", "image/png")  # those we drew ourselves
    disposition = "inline" if picture else f"attachment; filename*=UTF-8''{quote(file.name, safe='')}"
    headers = {
        "Content-Disposition": disposition,
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
        "Cross-Origin-Resource-Policy": "cross-origin",  # shown on customers' pages
        "Cache-Control": "private, max-age=3600, immutable",
        "Referrer-Policy": "no-referrer",
    }
    media_type = file.media_type if picture else "application/octet-stream"
    return StreamingResponse(file.content, media_type=media_type, headers=headers)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise UploadIncomplete("The connection was cut.") from None


async def _discard(body: Any) -> bool:
    """Throw the rest of a body away. False if there was too much of it."""
    read = 0
    with contextlib.suppress(TimeoutError, StonechatError):
        async with asyncio.timeout(DISCARD_SECONDS):
            async for chunk in body:
                read += len(chunk)
                if read > DISCARD_BYTES:
                    return False
            return True
    return False

"""`/api/v1/users`: those who chat, by the tenant's hand: for who asks their shop what it knows, or to be forgotten."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.limits.addresses import limit_address
from stonechat.privacy import users
from stonechat.privacy.users import UserDetail, UserView
from stonechat.web import Cursor, Limit, Page

router = APIRouter(prefix="/users", tags=["Users"], dependencies=[Depends(limit_address)])


@router.get("", summary="List visitors and users, newest first")
async def list_users(
    actor: ApiActor,
    session: TenantSession,
    external_id: Annotated[str | None, Query(max_length=255, description="The `sub` of their user tokens.")] = None,
    email: Annotated[str | None, Query(max_length=320)] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[UserView]:
    return await users.list_users(session, actor, external_id=external_id, email=email, limit=limit, cursor=cursor)


@router.get("/{user_id}", summary="One visitor or user")
async def get_user(user_id: str, actor: ApiActor, session: TenantSession) -> UserDetail:
    return await users.get_user(session, actor, user_id=user_id)


@router.get(
    "/{user_id}/export",
    summary="Everything kept of a visitor or user",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def export_user(user_id: str, actor: ApiActor, services: AppServices) -> Response:
    """One JSON document of at most 64 MB, as `GET /v1/me/export` gives it to themselves; `truncated` tells of more."""
    pieces = await users.export_user(
        services.database, actor, user_id=user_id, attachments=services.chat.uploads.attachments
    )
    headers = {"Content-Disposition": 'attachment; filename="user.json"'}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.delete("/{user_id}", status_code=204, summary="Erase a visitor or user")
async def delete_user(user_id: str, actor: ApiActor, services: AppServices) -> Response:
    """Their conversations, files, judgements, and who they were. Answers being written stop. There is no way back."""
    await users.erase_user(
        services.database, actor, user_id=user_id, hub=services.chat.hub, files=services.knowledge.files
    )
    return Response(status_code=204)

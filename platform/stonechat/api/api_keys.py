"""`/api/v1/api-keys`: keys for scripts that manage this tenant."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from stonechat.accounts import api_keys
from stonechat.accounts.actor import Scope
from stonechat.accounts.api_keys import ApiKeyView
from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page, cut_page, decode_cursor

router = APIRouter(
    prefix="/api-keys", tags=["API keys"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


class NewApiKey(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=3)]


class CreatedApiKey(ApiKeyView):
    """`secret` is shown this once."""

    secret: str


@router.get("", summary="List the live API keys, newest first")
async def list_keys(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[ApiKeyView]:
    before = None if cursor is None else decode_cursor(cursor, str)[0]
    rows = await api_keys.list_api_keys(session, actor, limit=limit + 1, before=before)
    return cut_page(rows, limit, lambda row: row.id)


@router.post("", status_code=201, summary="Create an API key; its secret is shown once")
async def create_key(body: NewApiKey, actor: ApiActor, session: TenantSession) -> CreatedApiKey:
    view, secret = await api_keys.create_api_key(session, actor, name=body.name, scopes=body.scopes)
    return CreatedApiKey(**view.model_dump(), secret=secret)


@router.delete("/{api_key_id}", status_code=204, summary="Revoke an API key")
async def revoke_key(api_key_id: str, actor: ApiActor, session: TenantSession) -> None:
    await api_keys.revoke_api_key(session, actor, api_key_id=api_key_id)

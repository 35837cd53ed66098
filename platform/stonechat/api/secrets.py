"""`/api/v1/secrets`: values that an agent's tools send along. A value goes in and never comes out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from stonechat.accounts import secrets
from stonechat.accounts.secrets import SecretView
from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page, cut_page, decode_cursor

router = APIRouter(prefix="/secrets", tags=["Secrets"], dependencies=[Depends(limit_address)])


class NewSecret(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[
        str, Field(min_length=1, max_length=secrets.MAX_NAME_LENGTH, description="What configurations call it.")
    ]
    value: Annotated[SecretStr, Field(min_length=1, max_length=secrets.MAX_VALUE_LENGTH)]


@router.get("", summary="List the names of secrets")
async def list_secrets(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[SecretView]:
    after = None if cursor is None else decode_cursor(cursor, str)[0]
    rows = await secrets.list_secrets(session, actor, limit=limit + 1, after=after)
    return cut_page(rows, limit, lambda row: row.name)


@router.put("", summary="Store a secret, or replace its value")
async def put_secret(body: NewSecret, actor: ApiActor, session: TenantSession, services: AppServices) -> SecretView:
    return await secrets.put_secret(
        session, actor, keyring=services.keyring, name=body.name, value=body.value.get_secret_value()
    )


@router.delete("/{secret_id}", status_code=204, summary="Delete a secret")
async def delete_secret(secret_id: str, actor: ApiActor, session: TenantSession) -> None:
    await secrets.delete_secret(session, actor, secret_id=secret_id)

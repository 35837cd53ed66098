"""`/api/v1/identity-keys`: the keys with which a tenant's own server vouches for its users."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.identity import identity_keys
from stonechat.identity.identity_keys import CreatedIdentityKey, IdentityKeyView, NewIdentityKey
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(
    prefix="/identity-keys",
    tags=["Identity keys"],
    route_class=IdempotentRoute,
    dependencies=[Depends(limit_address)],
)


@router.get("", summary="List identity keys, newest first")
async def list_identity_keys(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[IdentityKeyView]:
    return await identity_keys.list_identity_keys(session, actor, limit=limit, cursor=cursor)


@router.post("", status_code=201, summary="Make a shared secret, or register a public key")
async def create_identity_key(
    body: NewIdentityKey, actor: ApiActor, session: TenantSession, services: AppServices
) -> CreatedIdentityKey:
    return await identity_keys.create_identity_key(session, actor, keyring=services.keyring, new=body)


@router.delete("/{identity_key_id}", status_code=204, summary="Retire an identity key")
async def retire_identity_key(identity_key_id: str, actor: ApiActor, session: TenantSession) -> None:
    await identity_keys.retire_identity_key(session, actor, identity_key_id=identity_key_id)

"""`/api/v1/agents/{agent_id}/domain-keys`."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant.agents import get_agent
from stonechat.identity import domain_keys
from stonechat.identity.domain_keys import DomainKeyPatch, DomainKeyView, NewDomainKey
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(
    prefix="/agents/{agent_id}/domain-keys",
    tags=["Domain keys"],
    route_class=IdempotentRoute,
    dependencies=[Depends(limit_address)],
)


@router.get("", summary="List an agent's domain keys, newest first")
async def list_domain_keys(
    agent_id: str, actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[DomainKeyView]:
    await get_agent(session, actor, agent_id=agent_id)
    return await domain_keys.list_domain_keys(session, actor, agent_id=agent_id, limit=limit, cursor=cursor)


@router.post("", status_code=201, summary="Make a domain key")
async def create_domain_key(
    agent_id: str, body: NewDomainKey, actor: ApiActor, session: TenantSession
) -> DomainKeyView:
    return await domain_keys.create_domain_key(session, actor, agent_id=agent_id, new=body)


@router.get("/{domain_key_id}", summary="Get a domain key")
async def get_domain_key(agent_id: str, domain_key_id: str, actor: ApiActor, session: TenantSession) -> DomainKeyView:
    return await domain_keys.get_domain_key(session, actor, agent_id=agent_id, domain_key_id=domain_key_id)


@router.patch("/{domain_key_id}", summary="Change a domain key")
async def patch_domain_key(
    agent_id: str, domain_key_id: str, body: DomainKeyPatch, actor: ApiActor, session: TenantSession
) -> DomainKeyView:
    return await domain_keys.patch_domain_key(
        session, actor, agent_id=agent_id, domain_key_id=domain_key_id, patch=body
    )


@router.post("/{domain_key_id}/rotate", summary="Make a second key with the same settings")
async def rotate_domain_key(
    agent_id: str, domain_key_id: str, actor: ApiActor, session: TenantSession
) -> DomainKeyView:
    return await domain_keys.rotate_domain_key(session, actor, agent_id=agent_id, domain_key_id=domain_key_id)


@router.delete("/{domain_key_id}", status_code=204, summary="Revoke a domain key")
async def revoke_domain_key(agent_id: str, domain_key_id: str, actor: ApiActor, session: TenantSession) -> None:
    await domain_keys.revoke_domain_key(session, actor, agent_id=agent_id, domain_key_id=domain_key_id)

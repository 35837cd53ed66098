"""`/api/v1/limits`: how many messages visitors, agents and the tenant may send."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.limits import rules
from stonechat.limits.addresses import limit_address
from stonechat.limits.rules import LimitRules

router = APIRouter(prefix="/limits", tags=["Limits"], dependencies=[Depends(limit_address)])


@router.get("", summary="Get the limits")
async def get_limits(actor: ApiActor, session: TenantSession) -> LimitRules:
    return await rules.get_limits(session, actor)


@router.put("", summary="Replace the limits")
async def put_limits(body: LimitRules, actor: ApiActor, session: TenantSession, services: AppServices) -> LimitRules:
    stored = await rules.put_limits(session, actor, rules=body)
    services.limiter.rules.forget_after_commit(session, actor.tenant_id)
    return stored

"""`/api/v1/agents`: drafts, publishing, versions, rolling back."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Header
from pydantic import BaseModel, ConfigDict, Field

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentVersionView, AgentView
from stonechat.assistant.config import AgentConfig
from stonechat.errors import InvalidInput
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page, cut_page, decode_cursor

router = APIRouter(
    prefix="/agents", tags=["Agents"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)

DraftPatch = Annotated[
    dict[str, Any],
    Body(description="Laid over the draft as RFC 7396 says: objects merge, null restores the default."),
]


class Rollback(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, description="The version to publish again.")]


@router.get("", summary="List agents, newest first")
async def list_agents(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None, archived: bool = False
) -> Page[AgentView]:
    return await agents.list_agents(session, actor, limit=limit, cursor=cursor, archived=archived)


@router.post("", status_code=201, summary="Create an agent; nothing is published yet")
async def create_agent(
    actor: ApiActor, session: TenantSession, services: AppServices, config: AgentConfig
) -> AgentView:
    chosen = {"model": services.settings.default_model} | config.model_dump(exclude_unset=True)
    return await agents.create_agent(session, actor, config=chosen)


@router.get("/{agent_id}", summary="One agent with its draft")
async def get_agent(agent_id: str, actor: ApiActor, session: TenantSession) -> AgentView:
    return await agents.get_agent(session, actor, agent_id=agent_id)


@router.patch("/{agent_id}", summary="Change the draft")
async def patch_agent(
    agent_id: str,
    actor: ApiActor,
    session: TenantSession,
    patch: DraftPatch,
    if_match: Annotated[str | None, Header(description="The `draft_revision` you have seen.")] = None,
) -> AgentView:
    return await agents.patch_draft(session, actor, agent_id=agent_id, patch=patch, revision=_revision(if_match))


@router.delete("/{agent_id}", status_code=204, summary="Delete an agent; its conversations stay")
async def delete_agent(agent_id: str, actor: ApiActor, session: TenantSession) -> None:
    await agents.delete_agent(session, actor, agent_id=agent_id)


@router.post("/{agent_id}/publish", summary="Make the draft what visitors meet")
async def publish_agent(
    agent_id: str, actor: ApiActor, session: TenantSession, services: AppServices
) -> AgentVersionView:
    await services.flags.require("publishing", actor.tenant_id)
    return await agents.publish_agent(session, actor, agent_id=agent_id, settings=services.settings)


@router.get("/{agent_id}/versions", summary="Published versions, newest first")
async def list_versions(
    agent_id: str, actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[AgentVersionView]:
    before = None if cursor is None else decode_cursor(cursor, int)[0]
    rows = await agents.list_versions(session, actor, agent_id=agent_id, limit=limit + 1, before=before)
    return cut_page(rows, limit, lambda row: row.version)


@router.post("/{agent_id}/rollback", summary="Publish an earlier version again")
async def rollback_agent(
    agent_id: str, body: Rollback, actor: ApiActor, session: TenantSession, services: AppServices
) -> AgentVersionView:
    return await agents.rollback_agent(
        session, actor, agent_id=agent_id, version=body.version, settings=services.settings
    )


def _revision(if_match: str | None) -> int | None:
    if if_match is None or if_match == "*":
        return None
    number = if_match.strip().removeprefix("W/").strip('"')
    if not number.isascii() or not number.isdigit() or len(number) > 9:
        raise InvalidInput("If-Match holds the “draft_revision” that you have seen, a number.")
    return int(number)

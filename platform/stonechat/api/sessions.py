"""`POST /v1/sessions`: what turns a visitor of an allowed page into a caller of the chat; and sessions for previews."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Depends, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.api.dependencies import ApiActor, AppServices, Services, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant.agents import get_agent
from stonechat.assistant.config import public_config
from stonechat.embed.published import published_public_config
from stonechat.errors import OriginNotAllowed
from stonechat.identity.jose import MAX_TOKEN_CHARACTERS
from stonechat.identity.lookup import MAX_KEY_CHARACTERS
from stonechat.identity.sessions import SessionRequest, open_preview_session, open_session
from stonechat.limits.addresses import limit_address

router = APIRouter(tags=["Visitors"], dependencies=[Depends(limit_address)])
preview_router = APIRouter(
    prefix="/agents", tags=["Agents"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)

Token = Annotated[str, Field(max_length=MAX_TOKEN_CHARACTERS)]


class OpenSessionBody(BaseModel):
    model_config = ConfigDict(extra="ignore")

    domain_key: Annotated[str, Field(min_length=1, max_length=MAX_KEY_CHARACTERS)]
    user_token: Annotated[Token | None, Field(description="A JWT in which your own server says who this is.")] = None
    visitor: Annotated[str | None, Field(max_length=256, description="What an earlier session answered.")] = None
    ticket: Annotated[Token | None, Field(description="From the frame's document.")] = None


class SessionUser(BaseModel):
    id: str
    verified: bool


class Session(BaseModel):
    token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_at: AwareDatetime
    user: SessionUser
    visitor: Annotated[str | None, Field(description="Keep it, and send it with the next session.")]
    agent: Annotated[dict[str, Any], Field(description="The agent's public configuration.")]


@router.post("/v1/sessions", summary="Open a session")
async def create_session(
    body: OpenSessionBody, request: Request, services: AppServices, background: BackgroundTasks
) -> Session:
    async def load_published(session: AsyncSession, tenant_id: UUID, agent_id: str) -> dict[str, Any]:
        return await published_public_config(session, tenant_id, agent_id=agent_id, configs=services.configs)

    asked = SessionRequest(
        domain_key=body.domain_key,
        origin=request.headers.get("origin"),
        user_token=body.user_token,
        visitor=body.visitor,
        ticket=body.ticket,
    )
    try:
        opened = await open_session(
            services.database,
            asked,
            keys=services.site_keys,
            tokens=services.session_tokens,
            keyring=services.keyring,
            platform_origins=services.platform_origins,
            load_published=load_published,
        )
    except OriginNotAllowed:
        request.state.cors_refused = True
        raise
    background.add_task(_note_install, services, body.domain_key, opened.caller.origin)
    return Session(
        token=opened.token,
        expires_at=opened.expires_at,
        user=SessionUser(id=opened.caller.user_id, verified=opened.caller.verified),
        visitor=opened.visitor,
        agent=opened.agent,
    )


@preview_router.post("/{agent_id}/preview-session", summary="Open a session with the draft")
async def create_preview_session(
    agent_id: str, actor: ApiActor, session: TenantSession, services: AppServices
) -> Session:
    agent = await get_agent(session, actor, agent_id=agent_id)
    token, expires_at, caller = await open_preview_session(
        session, actor, agent_id=agent.id, tokens=services.session_tokens
    )
    return Session(
        token=token,
        expires_at=expires_at,
        user=SessionUser(id=caller.user_id, verified=False),
        visitor=None,
        agent=public_config(agent.draft),
    )


async def _note_install(services: Services, public_key: str, origin: str | None) -> None:
    seen_at = origin if origin not in services.platform_origins else None
    await services.installs.note_seen(await services.site_keys.find(public_key), origin=seen_at)

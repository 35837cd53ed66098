"""`/api/v1/traces` and `/api/v1/conversations/{thread}/traces`: how answers came about."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.assistant import trace_store
from stonechat.assistant.trace import Outcome
from stonechat.assistant.trace_store import SLOW_MS, TraceView
from stonechat.chat import conversations
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(tags=["Traces"], dependencies=[Depends(limit_address)])


@router.get("/traces", summary="How answers came about, newest first")
async def list_traces(
    actor: ApiActor,
    session: TenantSession,
    agent_id: Annotated[str | None, Query(max_length=128)] = None,
    outcome: Annotated[Outcome | None, Query(description="How the turn ended.")] = None,
    slow: Annotated[bool, Query(description=f"Only turns that took longer than {SLOW_MS // 1000} seconds.")] = False,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[TraceView]:
    return await trace_store.list_traces(
        session, actor, agent_id=agent_id, outcome=outcome, slow=slow, limit=limit, cursor=cursor
    )


@router.get("/conversations/{thread_id}/traces", summary="How the answers of a conversation came about, newest first")
async def list_conversation_traces(
    thread_id: str, actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[TraceView]:
    await conversations.get_summary(session, actor, thread_id=thread_id)  # or it is not found
    return await trace_store.traces_of_thread(session, actor, thread_id=thread_id, limit=limit, cursor=cursor)

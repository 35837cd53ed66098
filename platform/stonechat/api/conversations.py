"""`/api/v1/conversations`: what visitors asked, and what they were answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response

from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.chat import conversations
from stonechat.chat.conversations import Conversation, ConversationSummary, FeedbackView
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(prefix="/conversations", tags=["Conversations"], dependencies=[Depends(limit_address)])


@router.get("", summary="List or search conversations, newest first")
async def list_conversations(
    actor: ApiActor,
    session: TenantSession,
    q: Annotated[str | None, Query(max_length=200, description="Words in the title or in what was said.")] = None,
    agent_id: Annotated[str | None, Query(max_length=128)] = None,
    user_id: Annotated[str | None, Query(max_length=128)] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ConversationSummary]:
    return await conversations.list_conversations(
        session, actor, query=q, agent_id=agent_id, user_id=user_id, limit=limit, cursor=cursor
    )


@router.get("/{thread_id}", summary="One conversation with its items")
async def get_conversation(thread_id: str, actor: ApiActor, session: TenantSession) -> Conversation:
    return await conversations.get_conversation(session, actor, thread_id=thread_id)


@router.get("/{thread_id}/export", summary="One conversation as a file")
async def export_conversation(
    thread_id: str, actor: ApiActor, session: TenantSession, response: Response
) -> Conversation:
    found = await conversations.get_conversation(session, actor, thread_id=thread_id)
    response.headers["Content-Disposition"] = 'attachment; filename="conversation.json"'
    return found


@router.get("/{thread_id}/feedback", summary="What the visitor thought of the answers")
async def list_feedback(thread_id: str, actor: ApiActor, session: TenantSession) -> Page[FeedbackView]:
    return Page(data=await conversations.list_feedback(session, actor, thread_id=thread_id))


@router.delete("/{thread_id}", status_code=204, summary="Delete a conversation")
async def delete_conversation(thread_id: str, actor: ApiActor, session: TenantSession) -> None:
    await conversations.delete_conversation(session, actor, thread_id=thread_id)

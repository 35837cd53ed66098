"""`/api/v1/conversations`: what visitors asked, and what they were answered."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.chat import conversations, hand_over
from stonechat.chat.conversations import Conversation, ConversationSummary, FeedbackView
from stonechat.chat.models import Handling
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Page

router = APIRouter(
    prefix="/conversations",
    tags=["Conversations"],
    route_class=IdempotentRoute,
    dependencies=[Depends(limit_address)],
)


@router.get("", summary="List or search conversations, newest first")
async def list_conversations(
    actor: ApiActor,
    session: TenantSession,
    q: Annotated[str | None, Query(max_length=200, description="Words in the title or in what was said.")] = None,
    agent_id: Annotated[str | None, Query(max_length=128)] = None,
    user_id: Annotated[str | None, Query(max_length=128)] = None,
    handling: Annotated[Handling | None, Query(description="Who answers, such as `waiting_for_person`.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[ConversationSummary]:
    return await conversations.list_conversations(
        session, actor, query=q, agent_id=agent_id, user_id=user_id, handling=handling, limit=limit, cursor=cursor
    )


@router.get("/{thread_id}", summary="One conversation with its items")
async def get_conversation(
    thread_id: str, actor: ApiActor, session: TenantSession, services: AppServices
) -> Conversation:
    found = await conversations.get_conversation(session, actor, thread_id=thread_id)
    services.chat.uploads.attachments.link_items(actor.tenant_id, found.user.id, found.items)
    return found


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


class Reply(BaseModel):
    """What a person says to the visitor."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1, max_length=hand_over.MAX_REPLY)]


class Replied(BaseModel):
    """The message that was made."""

    item_id: str


class Reason(BaseModel):
    """Why; the visitor is told."""

    model_config = ConfigDict(extra="forbid")
    reason: Annotated[str | None, Field(max_length=hand_over.MAX_REASON)] = None


@router.post("/{thread_id}/take-over", summary="Answer a conversation instead of the assistant")
async def take_over(thread_id: str, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.take_over(session, actor, thread_id=thread_id)
    return await conversations.get_summary(session, actor, thread_id=thread_id)


@router.post("/{thread_id}/reply", summary="Say something to the visitor, as a person")
async def reply(thread_id: str, body: Reply, actor: ApiActor, session: TenantSession) -> Replied:
    return Replied(item_id=await hand_over.reply(session, actor, thread_id=thread_id, text=body.text))


@router.post("/{thread_id}/give-back", summary="Let the assistant answer again")
async def give_back(thread_id: str, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.give_back(session, actor, thread_id=thread_id)
    return await conversations.get_summary(session, actor, thread_id=thread_id)


@router.post("/{thread_id}/resolve", summary="Mark what a person was needed for as done")
async def resolve(thread_id: str, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.resolve(session, actor, thread_id=thread_id)
    return await conversations.get_summary(session, actor, thread_id=thread_id)


@router.post("/{thread_id}/lock", summary="Take no new messages for now, and say why")
async def lock(thread_id: str, body: Reason, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.set_status(session, actor, thread_id=thread_id, status="locked", reason=body.reason)
    return await conversations.get_summary(session, actor, thread_id=thread_id)


@router.post("/{thread_id}/close", summary="Take no new messages any more, and say why")
async def close(thread_id: str, body: Reason, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.set_status(session, actor, thread_id=thread_id, status="closed", reason=body.reason)
    return await conversations.get_summary(session, actor, thread_id=thread_id)


@router.post("/{thread_id}/reopen", summary="Take new messages again")
async def reopen(thread_id: str, actor: ApiActor, session: TenantSession) -> ConversationSummary:
    await hand_over.set_status(session, actor, thread_id=thread_id, status="active")
    return await conversations.get_summary(session, actor, thread_id=thread_id)

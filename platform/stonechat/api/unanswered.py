"""`/api/v1/knowledge/unanswered`: what assistants could not answer; and `/api/v1/agents/{id}/ask`, to try again."""

from __future__ import annotations

from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.api.idempotency import IdempotentRoute
from stonechat.assistant.agents import get_agent
from stonechat.chat.asking import MAX_QUESTION, AgentAnswer, Which, ask_agent
from stonechat.knowledge import unanswered
from stonechat.knowledge.answering import answer_group
from stonechat.knowledge.schemas import Pair
from stonechat.knowledge.unanswered import GroupView, QuestionView, Reason, State
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Moment, Page

router = APIRouter(
    prefix="/knowledge/unanswered",
    tags=["Knowledge"],
    route_class=IdempotentRoute,
    dependencies=[Depends(limit_address)],
)
ask_router = APIRouter(
    prefix="/agents", tags=["Agents"], route_class=IdempotentRoute, dependencies=[Depends(limit_address)]
)


class UnansweredOut(BaseModel):
    """Questions to one agent that ask the same."""

    id: str
    agent_id: str
    question: str = Field(description="The first of them, without personal data as far as it was recognised.")
    state: State
    asked: int = Field(description="How often it was asked.")
    reasons: dict[Reason, int] = Field(
        description="How often it went unanswered why, among the questions that are kept. `said_unknown` is a guess from "
        "the words of an answer that cites nothing."
    )
    first_seen_at: AwareDatetime
    last_seen_at: AwareDatetime
    settled_at: AwareDatetime | None
    source_id: str | None = Field(description="The source that holds the answer.")

    @classmethod
    def of(cls, group: GroupView) -> Self:
        """From the room's own."""
        return cls.model_validate(group, from_attributes=True)


class UnansweredQuestionOut(BaseModel):
    """One of a group's questions."""

    conversation_id: str
    question: str
    reason: Reason
    found: list[dict[str, Any]] = Field(description="The passages that were found for it then.")
    asked_at: AwareDatetime

    @classmethod
    def of(cls, question: QuestionView) -> Self:
        """From the room's own."""
        return cls(
            conversation_id=question.thread_id,
            question=question.question,
            reason=question.reason,
            found=question.found,
            asked_at=question.asked_at,
        )


class UnansweredDetailOut(UnansweredOut):
    """A group with the questions that are kept of it, newest first."""

    questions: list[UnansweredQuestionOut]


class AskIn(BaseModel):
    """A question to an agent."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, max_length=MAX_QUESTION)
    version: Which = "draft"


class AnswerSourceOut(BaseModel):
    """What an answer cites."""

    title: str
    url: str | None
    section: str | None
    snippet: str | None


class AgentAnswerOut(BaseModel):
    """An agent's answer. Its conversation is not kept; what it used stands in the ledger."""

    text: str
    sources: list[AnswerSourceOut]
    answered: bool
    unanswered: Reason | None
    error: str | None = Field(description="The code of what the turn failed of.")

    @classmethod
    def of(cls, answer: AgentAnswer) -> Self:
        """From the room's own."""
        return cls.model_validate(answer, from_attributes=True)


@router.get("", summary="List what went unanswered, asked most first")
async def list_unanswered(
    actor: ApiActor,
    session: TenantSession,
    state: Annotated[State, Query(description="`open`, `answered` or `dismissed`.")] = "open",
    agent_id: Annotated[str | None, Query(max_length=128)] = None,
    since: Annotated[Moment | None, Query(description="Asked again after then.")] = None,
    limit: Limit = 20,
    cursor: Cursor = None,
) -> Page[UnansweredOut]:
    found, following = await unanswered.list_groups(
        session, actor, state=state, agent_id=agent_id, since=since, limit=limit, cursor=cursor
    )
    return Page(data=[UnansweredOut.of(group) for group in found], next_cursor=following)


@router.get("/{group_id}", summary="One group with its questions")
async def get_unanswered(group_id: str, actor: ApiActor, session: TenantSession) -> UnansweredDetailOut:
    group = UnansweredOut.of(await unanswered.get_group(session, actor, group_id=group_id))
    questions = await unanswered.list_questions(session, actor, group_id=group_id)
    shown = [UnansweredQuestionOut.of(question) for question in questions]
    return UnansweredDetailOut(**group.model_dump(), questions=shown)


@router.post("/{group_id}/answer", summary="Write the answer, which becomes a question-answer pair")
async def answer_unanswered(
    group_id: str, pair: Pair, actor: ApiActor, session: TenantSession, services: AppServices
) -> UnansweredOut:
    files = services.knowledge.files
    return UnansweredOut.of(await answer_group(session, actor, files=files, group_id=group_id, pair=pair))


@router.post("/{group_id}/dismiss", summary="Dismiss it")
async def dismiss_unanswered(group_id: str, actor: ApiActor, session: TenantSession) -> UnansweredOut:
    return UnansweredOut.of(await unanswered.settle_group(session, actor, group_id=group_id, state="dismissed"))


@router.post("/{group_id}/reopen", summary="Open it again")
async def reopen_unanswered(group_id: str, actor: ApiActor, session: TenantSession) -> UnansweredOut:
    return UnansweredOut.of(await unanswered.settle_group(session, actor, group_id=group_id, state="open"))


@ask_router.post("/{agent_id}/ask", summary="Ask the agent one question, as a test")
async def ask(agent_id: str, body: AskIn, actor: ApiActor, services: AppServices) -> AgentAnswerOut:
    actor.require("write")
    async with services.database.tenant(actor.tenant_id) as session:
        await get_agent(session, actor, agent_id=agent_id)
    # No transaction is open here: none is held while a model writes.
    return AgentAnswerOut.of(
        await ask_agent(services.chat, actor.tenant_id, agent_id=agent_id, question=body.question, version=body.version)
    )

"""A question when nothing more may be used, or nearly: answered by the steps that the tenant chose, in its order.

Each step answers or leaves the question to the next; to say so kindly is always the last. Only the cheaper model spends
anything, from the last tenth of the bound, which `usage_reserve` keeps for it. While some of that tenth is left nobody is told
that nothing is: where the cheaper model fails and no other step answers, the agent's own model does.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import assert_never
from uuid import UUID

from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageContentPartAdded,
    AssistantMessageContentPartDone,
    AssistantMessageContentPartTextDelta,
    AssistantMessageItem,
    HiddenContextItem,
    ProgressUpdateEvent,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    UserMessageItem,
)
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_parts import Attachments, KnowledgeUse
from stonechat.assistant.contacts import ask_for_contact
from stonechat.assistant.tools.hand_over import handed_over
from stonechat.assistant.turn import Responder, Turn
from stonechat.db.session import Database
from stonechat.errors import ModelUnknown, StonechatError
from stonechat.plans.entitlements import entitlements
from stonechat.plans.terms import Feature
from stonechat.providers.service import require_model
from stonechat.settings import Settings
from stonechat.usage.allowance import Step, Steps, put_steps, steps_of
from stonechat.usage.quota import Refusal

EMAIL_REQUEST = "Thank you for your message. I cannot answer it right now. Leave your e-mail address here, and we will write to you."
EMAIL_THANKS = "Thank you. We have your address and will write to you."
REASON = "The assistant may not answer any more: what it may use is used up."

AskPerson = Callable[..., Awaitable[None]]
"""Asks a person to take a conversation over: (caller, *, thread_id, reason)."""
_logger = logging.getLogger(__name__)


async def choose_steps(session: AsyncSession, actor: Actor, *, steps: Steps, settings: Settings) -> Steps:
    """`put_steps`, with a cheaper model that there is. Raises `ModelUnknown`, which names the field."""
    actor.require("admin")
    if steps.cheaper_model is not None:
        try:
            await require_model(session, actor, model=steps.cheaper_model, settings=settings)
        except ModelUnknown as error:
            fault = {"field": "cheaper_model", "message": str(error)}
            raise ModelUnknown(str(error), errors=[fault]) from None
    return await put_steps(session, actor, steps=steps)


class OverLimit:
    """One per process; `responder` is who answers otherwise."""

    def __init__(self, database: Database, responder: Responder, ask_person: AskPerson) -> None:
        self._database = database
        self._responder = responder
        self._ask_person = ask_person

    async def respond(self, turn: Turn, refusal: Refusal) -> AsyncIterator[ThreadStreamEvent]:
        """As `Responder.respond`."""
        steps = await self._steps(turn.caller.tenant_id)
        span = turn.trace.note("guardrail", "budget", reason=refusal.reason)
        for step in steps.steps:
            answered = False
            async for event in self._take(step, steps, turn, refusal):
                answered = answered or _stays(event)
                yield event
            if answered:
                span.data |= {"step": step, "blocked": step not in ("cheaper_model", "approved_answers")}
                return
        if refusal.reason == "cheaper":
            span.data |= {"step": "own_model", "blocked": False}
            async for event in self._responder.respond(turn):
                yield event
            return
        span.data |= {"step": "message", "blocked": True}
        async for event in say(turn, refusal.message):
            yield event

    async def _steps(self, tenant_id: UUID) -> Steps:
        """What the tenant chose, without what its plan includes no more."""
        async with self._database.tenant(tenant_id) as session:
            steps = await steps_of(session, tenant_id)
            if "hand_over" not in steps.steps or (await entitlements(session, tenant_id)).has(Feature.HAND_OVER):
                return steps
        return steps.model_copy(update={"steps": tuple(step for step in steps.steps if step != "hand_over")})

    async def _take(self, step: Step, steps: Steps, turn: Turn, refusal: Refusal) -> AsyncIterator[ThreadStreamEvent]:
        """The answer of one step; nothing where it has none."""
        match step:
            case "cheaper_model":
                # Elsewhere than on the last tenth, only what costs nothing goes on.
                if steps.cheaper_model == "extractive" or (refusal.reason == "cheaper" and steps.cheaper_model):
                    events = self._cheaper(turn, steps.cheaper_model)
                else:
                    return
            case "approved_answers":
                events = self._approved(turn)
            case "ask_email":
                events = self._ask_email(turn, steps)
            case "hand_over":
                events = self._hand_over(turn)
            case "message":
                if refusal.reason == "cheaper":
                    return
                events = say(turn, refusal.message)
            case _:
                assert_never(step)
        async for event in events:
            yield event

    async def _cheaper(self, turn: Turn, model: str) -> AsyncIterator[ThreadStreamEvent]:
        begun = False
        try:
            async for event in self._responder.respond(replace(turn, config=_answered_by(turn.config, model))):
                begun = begun or _stays(event)
                yield event
        except StonechatError as error:
            if begun:
                raise
            _logger.warning(
                "the cheaper model did not answer: %s", error.code, extra={"tenant_id": str(turn.caller.tenant_id)}
            )

    async def _approved(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        """Held back until it is known whether there is an answer at all."""
        asked = replace(turn, config=_only_quoting(turn.config), approved_only=True, afterwards=[])
        try:
            events = [event async for event in self._responder.respond(asked)]
        except StonechatError as error:
            _logger.warning(
                "approved answers could not be searched: %s",
                error.code,
                extra={"tenant_id": str(turn.caller.tenant_id)},
            )
            return
        abstained, turn.trace.abstained = turn.trace.abstained, False
        if not abstained:
            for event in events:
                yield event

    async def _hand_over(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        # First what the team sees: the visitor must not be promised what did not happen.
        await self._ask_person(turn.caller, thread_id=turn.thread.id, reason=REASON)
        for event in handed_over(turn):
            yield event

    async def _ask_email(self, turn: Turn, steps: Steps) -> AsyncIterator[ThreadStreamEvent]:
        last = next((item for item in reversed(turn.history) if isinstance(item, UserMessageItem)), None)
        said = "" if last is None else "".join(part.text for part in last.content)
        match await ask_for_contact(self._database, turn.caller, thread_id=turn.thread.id, said=said):
            case "ask":
                told = steps.email_request or EMAIL_REQUEST
            case "kept":
                told = steps.email_thanks or EMAIL_THANKS
            case "done":
                return
        async for event in say(turn, told):
            yield event


async def say(turn: Turn, text: str) -> AsyncIterator[ThreadStreamEvent]:
    """A message of ours as an ordinary answer; no model is asked."""
    item = AssistantMessageItem(
        id=turn.generate_item_id("message"), thread_id=turn.thread.id, created_at=clock.now(), content=[]
    )
    whole = AssistantMessageContent(text=text)
    yield ThreadItemAddedEvent(item=item)
    for update in (
        AssistantMessageContentPartAdded(content_index=0, content=AssistantMessageContent(text="")),
        AssistantMessageContentPartTextDelta(content_index=0, delta=text),
        AssistantMessageContentPartDone(content_index=0, content=whole),
    ):
        yield ThreadItemUpdatedEvent(item_id=item.id, update=update)
    yield ThreadItemDoneEvent(item=item.model_copy(update={"content": [whole]}))


def _stays(event: ThreadStreamEvent) -> bool:
    """Whether the visitor keeps something of it: news of a search passes, and what only models read is not shown."""
    match event:
        case ProgressUpdateEvent() | ThreadItemDoneEvent(item=HiddenContextItem()):
            return False
        case _:
            return True


def _answered_by(config: AgentConfig, model: str) -> AgentConfig:
    """The agent with this model and no other."""
    return config.model_copy(update={"model": model, "model_choices": (), "fallback_models": ()})


def _only_quoting(config: AgentConfig) -> AgentConfig:
    """The agent with nothing but documents to quote."""
    knowledge = KnowledgeUse(max_passages=config.knowledge.max_passages)
    return _answered_by(config, "extractive").model_copy(
        update={"knowledge": knowledge, "tools": (), "ask": False, "attachments": Attachments()}
    )

"""One short call of an agent's own model beside the conversation, counted, bounded in time, and never missed if it fails."""

from __future__ import annotations

import asyncio
import logging
import time

from agents import ModelResponse, ModelSettings
from agents.models.interface import ModelTracing
from agents.usage import Usage

from stonechat import metrics
from stonechat.assistant.history_budget import estimate_tokens
from stonechat.assistant.turn import Turn
from stonechat.db.session import Database
from stonechat.providers.provider import ModelProviders, ResolvedModel
from stonechat.providers.retries import judge
from stonechat.usage.ledger import Purpose, record_use
from stonechat.usage.quota import budget_reached

_logger = logging.getLogger(__name__)


async def ask_aside(
    database: Database,
    providers: ModelProviders,
    *,
    turn: Turn,
    model: str,
    instructions: str,
    text: str,
    purpose: Purpose,
    seconds: float,
) -> str | None:
    """What `model` (`<provider>/<model>`) answers to `text`; None if it does not, or the tenant's budget is used up.

    The use is in the ledger when this returns: an estimate, if the model did not answer in time.
    """
    caller = turn.caller
    async with database.tenant(caller.tenant_id) as session:
        if await budget_reached(session, caller.tenant_id):
            return None
    provider, _, name = model.partition("/")
    answer: ModelResponse | None = None
    kind, began = "", time.perf_counter()
    try:
        async with asyncio.timeout(seconds), providers.model(caller.tenant_id, model) as resolved:
            kind = resolved.kind
            answer = await _ask(providers, resolved, instructions, text)
    except Exception as error:  # a conversation is none the worse without
        _logger.info(
            "a model was asked aside for a %s in vain: %s",
            purpose,
            type(error).__name__,
            extra={"tenant_id": str(caller.tenant_id), "thread_id": turn.thread.id},
        )
        if not isinstance(error, TimeoutError):
            _count(kind, "not_reached" if judge(error).counts else "refused", began, Usage())
            return None  # who answers with an error does not charge for it
    said = "" if answer is None else _text_of(answer)
    use = Usage() if answer is None else answer.usage
    _count(kind, "stopped" if answer is None else "answered", began, use)
    async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        await record_use(
            session,
            caller.tenant_id,
            purpose=purpose,
            provider=provider,
            model=name,
            input_tokens=use.input_tokens or estimate_tokens(instructions + text),
            output_tokens=use.output_tokens or estimate_tokens(said),
            cached_tokens=use.input_tokens_details.cached_tokens or 0,
            estimated=not use.total_tokens,
            agent_id=caller.agent_id,
            user_id=caller.user_id,
        )
    return said or None


async def _ask(providers: ModelProviders, resolved: ResolvedModel, instructions: str, text: str) -> ModelResponse:
    """Under the breaker of the model's answers: a host that rests is not asked, and what becomes of this counts as well.

    Nobody waits for it, so that it falls back to no other model.
    """
    assert resolved.breaker_key is not None, "models that are built in are not asked aside"  # noqa: S101
    with providers.breakers.calling(resolved.breaker_key) as call:
        try:
            answer = await resolved.model.get_response(
                instructions,
                text,
                ModelSettings(include_usage=True),
                tools=[],
                output_schema=None,
                handoffs=[],
                tracing=ModelTracing.DISABLED,
                previous_response_id=None,
                conversation_id=None,
                prompt=None,
            )
        except Exception as error:
            call.failed() if judge(error).counts else call.succeeded()
            raise
        call.succeeded()
        return answer


def _count(kind: str, outcome: str, began: float, use: Usage) -> None:
    """`kind` is empty where no model was found, so that none was asked."""
    if kind:
        metrics.model_called(
            kind,
            outcome,
            seconds=time.perf_counter() - began,
            tokens_in=use.input_tokens,
            tokens_out=use.output_tokens,
            cached=use.input_tokens_details.cached_tokens or 0,
        )


def _text_of(answer: ModelResponse) -> str:
    pieces = [
        piece.text
        for item in answer.output
        if item.type == "message"
        for piece in item.content
        if piece.type == "output_text"
    ]
    # Postgres takes neither NUL nor half of a surrogate pair.
    return "\n".join(pieces).replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace").strip()

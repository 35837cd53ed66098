"""What visitors dislike is a question that was not answered: noted beside those that the assistant could not answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from chatkit.types import FeedbackKind, UserMessageItem
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import system
from stonechat.assistant.unanswered import UnansweredQuestions, cleaned_question
from stonechat.chat.codec import parse_item
from stonechat.chat.models import ThreadItem
from stonechat.chat.scoping import own_items
from stonechat.chat.searches import searches_of_answer
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.knowledge.unanswered import MAX_FOUND, Asked, withdraw_judgement
from stonechat.webhooks.fan_out import tell

MAX_NOTED = 5
"""Answers of one judgement."""

_log = logging.getLogger(__name__)


async def note_judgement(
    unanswered: UnansweredQuestions,
    database: Database,
    caller: Caller,
    thread_id: str,
    item_ids: Sequence[str],
    *,
    kind: FeedbackKind,
) -> None:
    """Note the questions whose answers were disliked, or take that back, and tell the tenant's webhooks.

    A judgement counts even if this fails.
    """
    if caller.preview or caller.origin is None:
        return
    try:
        async with database.tenant(caller.tenant_id) as session:
            named = {"conversation_id": thread_id, "agent_id": caller.agent_id, "user_id": caller.user_id}
            rated = {"message_ids": sorted(set(item_ids)), "rating": kind}
            await tell(session, caller.tenant_id, "message.rated", named | rated)
        for item_id in item_ids[:MAX_NOTED]:
            async with database.tenant(caller.tenant_id) as session:
                question = await _question_of(session, caller, thread_id, item_id)
                if question is None:
                    continue
                if kind == "positive":
                    await withdraw_judgement(session, caller.tenant_id, thread_id=thread_id, item_id=question.id)
                    continue
                found = await _found(session, caller, thread_id, item_id)
            text = cleaned_question(question)
            await unanswered.note(
                caller.tenant_id,
                Asked(caller.agent_id, caller.user_id, thread_id, question.id, text, "thumbs_down", found),
            )
    except Exception:
        _log.warning("A judgement was not noted as a question.", exc_info=True)


async def _question_of(session: AsyncSession, caller: Caller, thread_id: str, item_id: str) -> UserMessageItem | None:
    """What the visitor said last before this item of theirs."""
    mine = own_items(caller.tenant_id, caller.user_id, thread_id, caller.agent_id)
    seq = select(ThreadItem.seq).where(*mine, ThreadItem.item_id == item_id).scalar_subquery()
    data = await session.scalar(
        select(ThreadItem.data)
        .where(*mine, ThreadItem.kind == "user_message", ThreadItem.seq < seq)
        .order_by(ThreadItem.seq.desc())
        .limit(1)
    )
    item = parse_item(data) if data is not None else None
    return item if isinstance(item, UserMessageItem) else None


async def _found(session: AsyncSession, caller: Caller, thread_id: str, item_id: str) -> list[dict[str, Any]]:
    searches = await searches_of_answer(session, system(caller.tenant_id), thread_id=thread_id, item_id=item_id)
    hits = {chunk_id: score for search in searches for chunk_id, score in search.hits}
    return [{"chunk_id": chunk_id, "score": score} for chunk_id, score in hits.items()][:MAX_FOUND]

"""What was searched for an answer, and what the search returned: for those who shape the agent, never for visitors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.accounts.actor import Actor
from stonechat.assistant.tools.search import PASSAGES_KIND
from stonechat.chat.codec import storable_id
from stonechat.chat.models import ThreadItem
from stonechat.errors import NotFound

MAX_SEARCHES = 10


@dataclass(frozen=True, slots=True)
class AnswerSearch:
    """One search of a turn."""

    query: str
    hits: tuple[tuple[str, float | None], ...]
    """Chunk ids with their scores (None where none was noted), best first."""


async def searches_of_answer(
    session: AsyncSession, actor: Actor, *, thread_id: str, item_id: str
) -> list[AnswerSearch]:
    """The searches between a visitor's question and this answer, in their order. Raises `NotFound`."""
    actor.require("read")
    if not (storable_id(thread_id) and storable_id(item_id)):
        raise NotFound("There is no such answer.")
    within = (ThreadItem.tenant_id == actor.tenant_id) & (ThreadItem.thread_id == thread_id)
    seq = await session.scalar(select(ThreadItem.seq).where(within, ThreadItem.item_id == item_id))
    if seq is None:
        raise NotFound("There is no such answer.")
    question = (
        select(func.coalesce(func.max(ThreadItem.seq), 0))
        .where(within, ThreadItem.seq < seq, ThreadItem.kind == "user_message")
        .scalar_subquery()
    )
    rows = await session.scalars(
        select(ThreadItem.data)
        .where(within, ThreadItem.kind == "hidden_context_item", ThreadItem.seq.between(question, seq))
        .order_by(ThreadItem.seq)
        .limit(MAX_SEARCHES)
    )
    return [found for data in rows if (found := _parse(json.loads(data).get("content"))) is not None]


def _parse(content: Any) -> AnswerSearch | None:
    if not isinstance(content, Mapping) or content.get("kind") != PASSAGES_KIND:
        return None
    chunk_ids, scores = content.get("chunk_ids", ()), content.get("scores", ())
    # Searches of before scores were kept have none.
    scores = [*scores, *[None] * (len(chunk_ids) - len(scores))]
    return AnswerSearch(str(content.get("query", "")), tuple(zip(chunk_ids, scores, strict=False)))

"""Why visitors judged answers as they did: words of their own, which come with a judgement and are for the team to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from chatkit.types import HiddenContextItem, ItemsFeedbackReq
from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from stonechat import clock
from stonechat.assistant.unanswered import cleaned_words
from stonechat.chat.models import Feedback, ThreadItem

KIND = "stonechat.judgement"
"""What marks a hidden item as a reason. It goes with the conversation; models are not shown what begins with `stonechat.`."""
MAX_ITEMS = 5
"""Answers of one judgement."""
MAX_REASON = 500
"""Characters; what is longer is cut."""
_PREFIX, _SUFFIX = "hcx_why_", 100
"""How the id of a reason begins, and of how many of the last characters of the answer's id the rest consists."""


def reasons_given(request: ItemsFeedbackReq) -> list[HiddenContextItem]:
    """The reason that came with a judgement as `metadata.reason`, as an item to keep for each answer; none without one.

    Cleaned as questions are that the team is shown: one line, nothing invisible, no personal data that we recognise.
    """
    given = request.metadata.get("reason")
    reason = cleaned_words(given, max_characters=MAX_REASON) if isinstance(given, str) else ""
    if not reason:
        return []
    return [
        HiddenContextItem(
            id=_id_of(item_id),
            thread_id=request.params.thread_id,
            created_at=clock.now(),
            content={"kind": KIND, "judged": request.params.kind, "reason": reason},
        )
        for item_id in request.params.item_ids[:MAX_ITEMS]
    ]


async def reasons_of(
    session: AsyncSession, tenant_id: UUID, *, thread_id: str, judged: Mapping[str, str]
) -> dict[str, str]:
    """The reasons by the answer's id. `judged` maps an answer's id to its judgement: `positive` or `negative`."""
    if not judged:
        return {}
    answers = {_id_of(item_id): item_id for item_id in judged}
    rows = await session.execute(
        select(ThreadItem.item_id, ThreadItem.data).where(
            ThreadItem.tenant_id == tenant_id,
            ThreadItem.thread_id == thread_id,
            ThreadItem.kind == "hidden_context_item",
            ThreadItem.item_id.in_(answers),
        )
    )
    found: dict[str, str] = {}
    for item_id, data in rows:
        content, answer = json.loads(data)["content"], answers[item_id]
        # Who changes their mind leaves the reason of the judgement before.
        if isinstance(content, dict) and content.get("judged") == judged[answer]:
            found[answer] = str(content.get("reason", ""))
    return found


def is_reason_until(seq: int) -> ColumnElement[bool]:
    """Whether an item is the reason of a judgement of an answer that stands at `seq` or before it in the same thread."""
    answer = aliased(ThreadItem)
    return (ThreadItem.kind == "hidden_context_item") & exists().where(
        Feedback.tenant_id == ThreadItem.tenant_id,
        Feedback.thread_id == ThreadItem.thread_id,
        answer.tenant_id == Feedback.tenant_id,
        answer.thread_id == Feedback.thread_id,
        answer.item_id == Feedback.item_id,
        answer.seq <= seq,
        ThreadItem.item_id == func.concat(_PREFIX, func.right(Feedback.item_id, _SUFFIX)),
    )


def _id_of(item_id: str) -> str:
    """One an answer, so that the latest reason counts; ids have at most 128 characters."""
    return f"{_PREFIX}{item_id[-_SUFFIX:]}"

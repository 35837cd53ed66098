"""Why visitors judged answers as they did: words of their own, which come with a judgement and are for the team to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from uuid import UUID

from chatkit.types import HiddenContextItem, ItemsFeedbackReq
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.chat.models import ThreadItem

KIND = "stonechat.judgement"
"""What marks a hidden item as a reason. It goes with the conversation; models are not shown what begins with `stonechat.`."""
MAX_ITEMS = 5
"""Answers of one judgement."""
MAX_REASON = 500
"""Characters; what is longer is cut."""


def reasons_given(request: ItemsFeedbackReq) -> list[HiddenContextItem]:
    """The reason that came with a judgement as `metadata.reason`, as an item to keep for each answer; none without one."""
    given = request.metadata.get("reason")
    reason = " ".join(given.replace("\x00", "").split())[:MAX_REASON] if isinstance(given, str) else ""
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


def _id_of(item_id: str) -> str:
    """One an answer, so that the latest reason counts; ids have at most 128 characters."""
    return f"hcx_why_{item_id[-100:]}"

"""A visitor's judgement of what the assistant said, stored with the version of the agent that said it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from chatkit.store import NotFoundError
from chatkit.types import FeedbackKind
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.chat import models
from stonechat.chat.codec import HIDDEN_KINDS
from stonechat.errors import WrongItem

_JUDGED = ("assistant_message", "widget", "workflow", "task", "generated_image", "structured_input")


async def judge_items(
    session: AsyncSession,
    tenant_id: UUID,
    user_id: str,
    *,
    mine: Sequence[ColumnElement[bool]],
    thread_id: str,
    wanted: Collection[str],
    kind: FeedbackKind,
) -> None:
    """Judge the `wanted` items of a thread, all or none; `mine` chooses those that are the visitor's. The latest counts.

    Raises the SDK's `NotFoundError` for one that is missing or hidden, `WrongItem` for the visitor's own words.
    """
    item, run = models.ThreadItem, models.RunRow
    found = await session.execute(
        select(item.item_id, item.kind, run.agent_version)
        .outerjoin(run, (run.tenant_id == item.tenant_id) & (run.run_id == item.run_id))
        .where(*mine, item.item_id.in_(wanted), item.kind.not_in(HIDDEN_KINDS))
    )
    rows = found.all()
    versions: dict[str, int | None] = {row.item_id: row.agent_version for row in rows}
    if not wanted or set(wanted) - versions.keys():
        raise NotFoundError("One of the items was not found")
    if any(row.kind not in _JUDGED for row in rows):
        raise WrongItem("Only what the assistant said can be judged.")
    judged = insert(models.Feedback).values(
        [
            {
                "tenant_id": tenant_id,
                "thread_id": thread_id,
                "item_id": item_id,
                "user_id": user_id,
                "kind": kind,
                "agent_version": version,
            }
            for item_id, version in versions.items()
        ]
    )
    await session.execute(
        judged.on_conflict_do_update(
            index_elements=["tenant_id", "thread_id", "item_id"],
            set_={"kind": judged.excluded.kind, "created_at": func.now()},
        )
    )

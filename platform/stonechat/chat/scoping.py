"""Whose threads a visitor sees: their own, of this tenant, with the agent at hand.

One visitor may talk to two agents of a tenant, on two sites or two pages. Each agent's widget shows that agent's
conversations only: what was said to one is not for the other, and an answer comes from whom it was asked of.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import ColumnElement, Select, exists, select

from stonechat.chat import models


def threads_of(tenant_id: UUID, user_id: str, agent_id: str | None) -> Select[models.Thread]:
    """The user's threads with this agent; all of them for None."""
    row = models.Thread
    mine = select(row).where(row.tenant_id == tenant_id, row.user_id == user_id)
    return mine if agent_id is None else mine.where(row.agent_id == agent_id)


def own_thread(tenant_id: UUID, user_id: str, thread_id: str, agent_id: str | None) -> list[ColumnElement[bool]]:
    """The thread, if it is one of those."""
    row = models.Thread
    mine = [row.tenant_id == tenant_id, row.user_id == user_id, row.thread_id == thread_id]
    return mine if agent_id is None else [*mine, row.agent_id == agent_id]


def own_items(tenant_id: UUID, user_id: str, thread_id: str, agent_id: str | None) -> list[ColumnElement[bool]]:
    """The items of such a thread."""
    row = models.ThreadItem
    mine = [row.tenant_id == tenant_id, row.user_id == user_id, row.thread_id == thread_id]
    if agent_id is None:
        return mine
    return [*mine, exists().where(*own_thread(tenant_id, user_id, thread_id, agent_id))]

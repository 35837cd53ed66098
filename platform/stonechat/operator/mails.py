"""The log of mails as operators see it: each mail once, with what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

ROWS = 50
MAX_EXPORTED = 20_000


@dataclass(frozen=True, slots=True)
class MailView:
    """A mail, without its text."""

    entry_id: str
    mail_id: str
    recipient: str
    subject: str
    tenant_id: UUID | None
    queued_at: datetime
    state: str
    """`queued`, `sent` (the mail server took it) or `failed` (so far)."""
    attempts: int
    problem: str
    state_at: datetime


_LIST = text("""
    select q.entry_id, q.mail_id, q.recipient, q.subject, q.tenant_id, q.occurred_at as queued_at,
        coalesce(l.state, 'queued') as state, coalesce(l.attempts, 0) as attempts, coalesce(l.problem, '') as problem,
        coalesce(l.occurred_at, q.occurred_at) as state_at
    from mail_log q
    left join lateral (
        select state, problem, occurred_at, count(*) over () as attempts from mail_log
        where mail_id = q.mail_id and state <> 'queued' order by entry_id desc limit 1) l on true
    where q.state = 'queued' and q.entry_id < :before
      and (:recipient = '' or q.recipient = lower(:recipient)) and (:state = '' or coalesce(l.state, 'queued') = :state)
    order by q.entry_id desc limit :most""")


async def list_mails(
    session: AsyncSession, *, recipient: str = "", state: str = "", before: str = "", limit: int = ROWS
) -> tuple[list[MailView], str | None]:
    """Newest first, and the `before` of the next page."""
    values: dict[str, Any] = {
        "recipient": recipient.replace("\x00", "").strip(),
        "state": state.replace("\x00", "")[:20],
        "before": before.replace("\x00", "") or "~",
        "most": min(limit, MAX_EXPORTED) + 1,
    }
    found = [MailView(**row) for row in (await session.execute(_LIST, values)).mappings()]
    return found[:limit], found[limit - 1].entry_id if len(found) > limit else None

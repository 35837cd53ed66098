"""What a tenant used between two moments, whatever days or months they fall into, from the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import BigInteger, cast, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.usage.ledger import UsageLedgerRow

BUILT_IN_PROVIDER = "built-in"
"""Models of this provider are ours and cost nothing."""


@dataclass(frozen=True, slots=True)
class Used:
    """Messages are answers that a language model wrote; `usage_settle` counts them the same way."""

    messages: int
    tokens: int


async def used_in(session: AsyncSession, tenant_id: UUID, *, start: datetime, end: datetime) -> Used:
    """From `start` until just before `end`. Reads every entry of that time: a second for a million."""
    row = UsageLedgerRow
    tokens = row.input_tokens + row.output_tokens
    by_model = (row.purpose == "answer") & (row.provider != BUILT_IN_PROVIDER) & (tokens > 0)
    counted = select(
        func.count(func.distinct(row.run_id)).filter(by_model), cast(func.coalesce(func.sum(tokens), 0), BigInteger)
    ).where(
        row.tenant_id == tenant_id,
        row.occurred_at >= start.astimezone(UTC),
        row.occurred_at < end.astimezone(UTC),
    )
    messages, used = (await session.execute(counted)).one()
    return Used(messages, used)

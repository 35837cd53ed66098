"""What billing heard from outside, as operators see it; and having it taken up again."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.billing.models import BillingEventRow
from stonechat.billing.webhooks import count_refusals, replay_event
from stonechat.db.session import Database
from stonechat.operator.operators import Operator, record

ROWS = 50
MAX_EXPORTED = 20_000
STATES = ("failed", "unmatched", "queued", "done", "ignored")

REFUSALS = {
    "wrong_signature": "Its signature is not of any of the secrets in STRIPE_WEBHOOK_SECRET",
    "unsigned": "It bears no signature: not Stripe’s",
    "too_old": "It was signed more than five minutes ago, or a clock is wrong",
    "no_secret": "STRIPE_WEBHOOK_SECRET is not set, so nothing is taken",
    "malformed": "It was signed, and is no event of Stripe’s",
}
"""Why a webhook is refused, in words."""


async def refused_today(session: AsyncSession) -> list[tuple[str, int]]:
    """Why, in words, and how many times today (UTC), most first."""
    counted = await count_refusals(session, day=clock.now().date())
    return [(REFUSALS.get(reason, reason), number) for reason, number in counted.items()]


async def list_events(
    session: AsyncSession, *, state: str = "", before: str = "", limit: int = ROWS
) -> tuple[Sequence[BillingEventRow], str | None]:
    """Newest first by when they came, and the `before` (an event's id) of the next page."""
    row = BillingEventRow
    chosen = select(row)
    if state in STATES:
        chosen = chosen.where(row.state == state)
    if before and "\x00" not in before:
        last = select(row.received_at).where(row.event_id == before).scalar_subquery()
        chosen = chosen.where((row.received_at < last) | ((row.received_at == last) & (row.event_id < before)))
    limit = min(limit, MAX_EXPORTED)
    rows = (await session.scalars(chosen.order_by(row.received_at.desc(), row.event_id.desc()).limit(limit + 1))).all()
    return rows[:limit], rows[limit - 1].event_id if len(rows) > limit else None


async def count_events(session: AsyncSession) -> dict[str, int]:
    """How many there are in each state."""
    counted = await session.execute(select(BillingEventRow.state, func.count()).group_by(BillingEventRow.state))
    return {state: number for state, number in counted}  # noqa: C416


async def replay(database: Database, operator: Operator, *, event_id: str) -> None:
    """Have an event taken up again, whatever became of it: its customer is looked at anew. Raises `NotFound`."""
    await replay_event(database, event_id)
    async with database.platform() as session:
        await record(session, operator, "event.replay", subject_id=event_id)

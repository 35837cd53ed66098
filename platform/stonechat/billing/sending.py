"""The way of the outbox's rows to Stripe. See `billing.meters` for why nothing is lost or told twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from stonechat import clock
from stonechat.billing.gateway import REFUSED, StripeGateway
from stonechat.billing.models import MeterRow
from stonechat.db.session import Database
from stonechat.errors import StonechatError

ROWS_AT_ONCE = 200
TENANTS_AT_ONCE = 500
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
GIVE_WAY_AFTER = 3
"""Failures in a row after which a round ends: Stripe is down, and asking on would only add to it."""
STRIPE_TAKES = timedelta(days=35)
REMEMBERED = timedelta(hours=23)
"""How long an identifier surely counts once."""
_log = logging.getLogger(__name__)


@dataclass
class Round:
    """What one round of sending did."""

    sent: int = 0
    failed: int = 0
    expired: int = 0
    in_a_row: int = 0

    @property
    def is_over(self) -> bool:
        return self.in_a_row >= GIVE_WAY_AFTER


async def send_all(database: Database, gateway: StripeGateway) -> Round:
    """Send what waits and is due, of every tenant, the longest waiting first; ends early while Stripe is down."""
    row = MeterRow
    done = Round()
    async with database.platform() as session:
        due = (
            select(row.tenant_id)
            .where(row.state == "waiting", row.next_attempt_at <= clock.now())
            .group_by(row.tenant_id)
            .order_by(func.min(row.next_attempt_at), row.tenant_id)
            .limit(TENANTS_AT_ONCE)
        )
        tenants = list(await session.scalars(due))
    for tenant_id in tenants:
        await send_waiting(database, gateway, tenant_id, done=done)
        if done.is_over:
            _log.warning("Stripe does not take use at the moment; what is not told yet waits.")
            break
    return done


async def send_waiting(
    database: Database, gateway: StripeGateway, tenant_id: UUID, *, done: Round | None = None
) -> Round:
    """Send what waits of one tenant, oldest first."""
    done = done or Round()
    row = MeterRow
    async with database.tenant(tenant_id) as session:
        due = select(row).where(row.tenant_id == tenant_id, row.state == "waiting", row.next_attempt_at <= clock.now())
        rows = list(await session.scalars(due.order_by(row.slice_start, row.seq).limit(ROWS_AT_ONCE)))
    for waiting in rows:
        if done.is_over:
            break
        await _send(database, gateway, waiting, done)
    return done


async def is_all_told(database: Database, tenant_id: UUID) -> bool:
    """Whether nothing waits any more, but for what Stripe will never take."""
    row = MeterRow
    async with database.tenant(tenant_id) as session:
        waits = (row.tenant_id == tenant_id) & (row.state == "waiting") & row.error.is_distinct_from(REFUSED)
        return await session.scalar(select(row.tenant_id).where(waits).limit(1)) is None


async def _send(database: Database, gateway: StripeGateway, row: MeterRow, done: Round) -> None:
    now = clock.now()
    if row.slice_start <= now - STRIPE_TAKES:
        await _note(database, row, state="expired", error="Stripe takes nothing that is older than 35 days.")
        _log.error("%d tokens of tenant %s were never told to Stripe.", row.tokens, row.tenant_id)
        done.expired += 1
        return
    # Written down before it is sent: who dies now leaves a row that another takes up when its pause is over.
    claimed = await _claim(database, row, now)
    if not claimed:
        return
    try:
        uncertain = row.first_attempt_at is not None and row.first_attempt_at < now - REMEMBERED
        if not (uncertain and await _is_counted(database, gateway, row)):
            await gateway.send_use(row.customer_id, tokens=row.tokens, identifier=row.identifier, at=_as_of(row))
    except StonechatError as error:
        done.failed += 1
        if "stripe_status" not in error.members:  # a refusal is about this row alone
            done.in_a_row += 1
        await _note(database, row, error=str(error)[:500], next_attempt_at=now + _pause(row, error))
        return
    await _note(database, row, state="sent", sent_at=clock.now(), error=None)
    done.sent += 1
    done.in_a_row = 0


async def _claim(database: Database, row: MeterRow, now: datetime) -> bool:
    """Note the attempt, unless another sender did."""
    table = MeterRow
    async with database.tenant(row.tenant_id) as session:
        claimed = await session.scalar(
            update(table)
            .where(*_is(row), table.state == "waiting", table.attempts == row.attempts)
            .values(
                attempts=table.attempts + 1,
                first_attempt_at=func.coalesce(table.first_attempt_at, now),
                next_attempt_at=now + LONGEST_PAUSE,
            )
            .returning(table.attempts)
        )
    return claimed is not None


async def _note(database: Database, row: MeterRow, **values: Any) -> None:
    async with database.tenant(row.tenant_id) as session:
        await session.execute(update(MeterRow).where(*_is(row), MeterRow.state == "waiting").values(**values))


def _is(row: MeterRow) -> tuple[Any, ...]:
    table = MeterRow
    return table.tenant_id == row.tenant_id, table.slice_start == row.slice_start, table.seq == row.seq


def _pause(row: MeterRow, error: StonechatError) -> timedelta:
    """Doubles with each attempt; longer where Stripe says so, never beyond `LONGEST_PAUSE`."""
    pause: timedelta = min(FIRST_PAUSE * 2 ** min(row.attempts, 10), LONGEST_PAUSE)
    wait = str(error.members.get("retry_after") or "")
    return min(max(pause, timedelta(seconds=int(wait[:6]))), LONGEST_PAUSE) if wait.isdigit() else pause


async def _is_counted(database: Database, gateway: StripeGateway, row: MeterRow) -> bool:
    """Whether a row that was sent long ago, nobody knows with what success, is in Stripe's count of its minute."""
    table = MeterRow
    start = _as_of(row).replace(second=0, microsecond=0)
    end = start + timedelta(minutes=1)
    async with database.tenant(row.tenant_id) as session:
        touching = await session.scalars(
            select(table).where(
                table.tenant_id == row.tenant_id,
                table.customer_id == row.customer_id,
                table.slice_start < end,
                table.slice_end > start,
                table.state == "sent",
            )
        )
        sent = sum(one.tokens for one in touching if start <= _as_of(one) < end)
    counted = await gateway.use_told(await gateway.ensure_meter(), row.customer_id, start=start, end=end)
    return counted >= sent + row.tokens


def _as_of(row: MeterRow) -> datetime:
    """The moment that a row's use is told as of: the last second of its slice."""
    return max(row.slice_start, row.slice_end - timedelta(seconds=1))

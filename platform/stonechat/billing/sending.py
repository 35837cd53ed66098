"""The way of the outbox's rows to Stripe. See `billing.meters` for why nothing is lost or told twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import func, select, update

from stonechat import clock
from stonechat.billing.counting import SECOND, Counting, counting_of, told_as_of
from stonechat.billing.customers import ensure_customer, get_customer
from stonechat.billing.gateway import METER_EVENT, REFUSED, StripeGateway
from stonechat.billing.models import ALL_USE, MeterRow
from stonechat.billing.settling import MAX_ROWS, settle_by_itself
from stonechat.db.session import Database
from stonechat.errors import StonechatError

ROWS_AT_ONCE = 200
TENANTS_AT_ONCE = 500
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
GIVE_WAY_AFTER = 3
"""Failures in a row after which a round ends: Stripe is down, and asking on would only add to it."""
STRIPE_TAKES = timedelta(days=35)
UNTAKEN = "The invoice of its period was made without it: these tokens are on none."
NO_ITEM = "The subscription has no item for overage yet."
OTHER_PRICE = "The subscription's item for overage does not have the price of these tokens yet."
PRICE_GONE = "The price of these tokens had been replaced: they are an item of the next invoice."
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
        try:
            await send_waiting(database, gateway, tenant_id, done=done)
        except Exception:
            done.failed += 1
            _log.exception("could not tell Stripe of a tenant's use", extra={"tenant_id": str(tenant_id)})
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
        customer = await get_customer(session, tenant_id) if rows else None
    counting = counting_of(customer.overage_item) if customer is not None else None
    for waiting in rows:
        if done.is_over:
            break
        await _send(database, gateway, waiting, done, counting=counting)
    return done


async def is_all_told(database: Database, tenant_id: UUID) -> bool:
    """Whether nothing waits any more, but for what Stripe will not take."""
    row = MeterRow
    hopeless = row.error.is_not(None) & row.error.in_((REFUSED, NO_ITEM, OTHER_PRICE))
    async with database.tenant(tenant_id) as session:
        waits = (row.tenant_id == tenant_id) & (row.state == "waiting") & ~hopeless
        return await session.scalar(select(row.tenant_id).where(waits).limit(1)) is None


async def is_all_counted(
    database: Database, gateway: StripeGateway, tenant_id: UUID, *, customer_id: str, since: datetime
) -> bool:
    """Whether Stripe's own count has caught up with what it was told as of `since` or later: it counts with a delay."""
    row, start = MeterRow, since.replace(second=0, microsecond=0)
    mine = (row.tenant_id == tenant_id) & (row.customer_id == customer_id) & (row.meter == METER_EVENT)
    async with database.tenant(tenant_id) as session:
        sums = select(func.sum(row.tokens)).where(mine, row.state == "sent", row.told_as_of >= start)
        told = int(await session.scalar(sums) or 0)
    if told == 0:
        return True
    end = clock.now().replace(second=0, microsecond=0) + timedelta(minutes=1)
    return await gateway.use_told(await gateway.ensure_meter(), customer_id, start=start, end=end) >= told


async def _send(
    database: Database, gateway: StripeGateway, row: MeterRow, done: Round, *, counting: Counting | None
) -> None:
    now = clock.now()
    at = _of_all_use(row, now) if row.meter == ALL_USE else told_as_of(counting, row, now=now)
    if at in ("wait", "wait_for_price"):
        error = NO_ITEM if at == "wait" else OTHER_PRICE
        await _note(database, row, error=error, next_attempt_at=now + (LONGEST_PAUSE if at == "wait" else FIRST_PAUSE))
        return
    # Written down before it is sent: who dies now leaves a row that another takes up when its pause is over.
    if not await _claim(database, row, now, at=at if isinstance(at, datetime) else row.told_as_of):
        return
    attempted = row.first_attempt_at is not None
    uncertain = attempted and (isinstance(at, str) or row.first_attempt_at < now - REMEMBERED)  # type: ignore[operator]
    try:
        if not (uncertain and await _is_counted(database, gateway, row)):
            if isinstance(at, str):
                await (_give_up(database, row, done) if at == "missed" else invoice_apart(database, row))
                return
            await gateway.send_use(
                row.customer_id, tokens=row.tokens, identifier=row.identifier, at=at, meter=row.meter
            )
    except StonechatError as error:
        done.failed += 1
        if "stripe_status" not in error.members:  # a refusal is about this row alone
            done.in_a_row += 1
        await _note(database, row, error=str(error)[:500], next_attempt_at=now + _pause(row, error))
        return
    await _note(database, row, state="sent", sent_at=clock.now(), error=None)
    done.sent += 1
    done.in_a_row = 0


async def _give_up(database: Database, row: MeterRow, done: Round) -> None:
    """Kept for the operator, who may ask for it in another way: `stonechat doctor` counts what is."""
    await _note(database, row, state="expired", error=UNTAKEN)
    _log.error("%d tokens of tenant %s were never told to Stripe.", row.tokens, row.tenant_id)
    done.expired += 1


async def invoice_apart(database: Database, row: MeterRow) -> None:
    """Let a row that the metered item cannot price any more be an item of an invoice."""
    table = MeterRow
    async with database.tenant(row.tenant_id) as session:
        await ensure_customer(session, row.tenant_id, provider="stripe")
        mine = select(table).where(*_is(row), table.state == "waiting").with_for_update()
        held = await session.scalar(mine.execution_options(populate_existing=True))
        if held is not None:
            held.state, held.error = "expired", PRICE_GONE
            await settle_by_itself(session, row.tenant_id, held, reason=PRICE_GONE)


async def invoice_waiting_apart(database: Database, tenant_id: UUID) -> None:
    """The same for all that waits for a price which will not come: the subscription, or its period, is about to end."""
    row = MeterRow
    async with database.tenant(tenant_id) as session:
        waits = select(row).where(row.tenant_id == tenant_id, row.state == "waiting", row.error == OTHER_PRICE)
        rows = list(await session.scalars(waits.order_by(row.slice_start, row.seq).limit(MAX_ROWS)))
    for waiting in rows:
        await invoice_apart(database, waiting)


def _of_all_use(row: MeterRow, now: datetime) -> datetime | Literal["missed"]:
    """Rows of the scheme before are told as of their own time, as long as Stripe takes that."""
    return "missed" if row.slice_start <= now - STRIPE_TAKES else max(row.slice_start, row.slice_end - SECOND)


async def _claim(database: Database, row: MeterRow, now: datetime, *, at: datetime | None) -> bool:
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
                told_as_of=at,
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
    start = (row.told_as_of or max(row.slice_start, row.slice_end - SECOND)).replace(second=0, microsecond=0)
    end = start + timedelta(minutes=1)
    as_of = func.coalesce(table.told_as_of, table.slice_end - SECOND)
    async with database.tenant(row.tenant_id) as session:
        summed = await session.scalar(
            select(func.sum(table.tokens)).where(
                table.tenant_id == row.tenant_id,
                table.customer_id == row.customer_id,
                table.meter == row.meter,
                table.state == "sent",
                as_of >= start,
                as_of < end,
            )
        )
    meter = await gateway.ensure_meter(row.meter)
    counted = await gateway.use_told(meter, row.customer_id, start=start, end=end)
    return counted >= int(summed or 0) + row.tokens

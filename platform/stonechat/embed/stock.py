"""Where OpenAI's front end was wanted and did not come, so that whoever chose it knows what visitors saw instead."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.identity.caller import Caller

StockReason = Literal["refused", "timeout", "error"]
"""The script could not be loaded; it, or its element, was not ready in time; it gave up."""
COUNTED_EVERY = timedelta(minutes=10)
MAX_REMEMBERED = 10_000
DAYS_SHOWN = 7
DAYS_KEPT = 30

_log = logging.getLogger(__name__)


class StockTrouble(TenantRow):
    """How often in a day OpenAI's front end did not come, under one domain key and for one reason."""

    __tablename__ = "stock_troubles"

    domain_key_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    times: Mapped[int]
    last_at: Mapped[datetime]


@dataclass(frozen=True, slots=True)
class Trouble:
    """Of one domain key, over the last `DAYS_SHOWN` days."""

    times: int
    last_at: datetime
    reasons: frozenset[str]
    """Some of `StockReason`."""


class StockTroubles:
    """Counts what frames report, once in ten minutes for each visitor. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._counted: OrderedDict[tuple[UUID, str], datetime] = OrderedDict()

    async def note(self, caller: Caller, *, reason: StockReason) -> None:
        """Count one. Sessions of previews have no domain key and count nothing. Never fails: the visitor has our own chat."""
        now, name = clock.now(), (caller.tenant_id, caller.user_id)
        counted = self._counted.get(name)
        if caller.domain_key_id is None or (counted is not None and counted > now - COUNTED_EVERY):
            return
        self._counted[name] = now
        self._counted.move_to_end(name)
        while len(self._counted) > MAX_REMEMBERED:
            self._counted.popitem(last=False)
        row = insert(StockTrouble).values(
            tenant_id=caller.tenant_id,
            domain_key_id=caller.domain_key_id,
            day=now.date(),
            reason=reason,
            times=1,
            last_at=now,
        )
        again = {"times": StockTrouble.times + 1, "last_at": now}
        old = delete(StockTrouble).where(
            StockTrouble.tenant_id == caller.tenant_id,
            StockTrouble.domain_key_id == caller.domain_key_id,
            StockTrouble.day < now.date() - timedelta(days=DAYS_KEPT),
        )
        try:
            async with self._database.tenant(caller.tenant_id) as session:
                await session.execute(
                    row.on_conflict_do_update(
                        index_elements=["tenant_id", "domain_key_id", "day", "reason"], set_=again
                    )
                )
                await session.execute(old)
        except (SQLAlchemyError, OSError, TimeoutError):
            _log.warning("It was not recorded that OpenAI's front end did not come.", exc_info=True)


async def recent_stock_troubles(
    session: AsyncSession, actor: Actor, *, domain_key_ids: Sequence[str]
) -> dict[str, Trouble]:
    """By domain key, of those that are named; keys without any trouble are not in it."""
    actor.require("read")
    since = clock.now().date() - timedelta(days=DAYS_SHOWN - 1)
    rows = await session.execute(
        select(
            StockTrouble.domain_key_id,
            func.sum(StockTrouble.times),
            func.max(StockTrouble.last_at),
            func.array_agg(StockTrouble.reason.distinct()),
        )
        .where(
            StockTrouble.tenant_id == actor.tenant_id,
            StockTrouble.domain_key_id.in_(domain_key_ids),
            StockTrouble.day >= since,
        )
        .group_by(StockTrouble.domain_key_id)
    )
    return {key: Trouble(int(times), last_at, frozenset(reasons)) for key, times, last_at, reasons in rows}

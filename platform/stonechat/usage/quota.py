"""A tenant's monthly budget: how much may be used, what is used and reserved, and what visitors are told at its end.

Months are UTC's. The chat reserves and settles in its own SQL functions (`usage_reserve`, `usage_settle`); here are the
verbs of those who decide and look.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy import BigInteger, ForeignKeyConstraint, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from stonechat import clock, metrics
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.db.session import Database
from stonechat.db.tenancy import TenantRow
from stonechat.errors import BudgetUsedUp
from stonechat.usage.allowance_models import UsageAllowanceRow
from stonechat.usage.prices import CURRENCY
from stonechat.usage.report import used_since

REFUSAL = (
    "Thank you for your message. I cannot answer any more questions this month. "
    "Please contact us directly, and we will gladly help you."
)
"""What visitors are told unless the tenant has words of its own."""
RECOUNT_AT_ONCE = 1000
_log = logging.getLogger(__name__)


Reason = Literal["tokens", "cost", "included_messages", "included_tokens", "cheaper"]
"""What is used up: tokens or cost of the tenant's own budget, or what its plan includes. `cheaper`: nothing yet, but so much
that the tenant wants its cheaper model asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A question that the agent's own model is not asked, because what the tenant may use is used up, or nearly."""

    reason: Reason
    message: str
    """For the visitor."""

    @staticmethod
    def of(reason: str | None, message: str | None) -> Refusal | None:
        """From what `chat_begin_turn` answers."""
        match reason:
            case None:
                return None
            case "tokens" | "cost" | "included_messages" | "included_tokens" | "cheaper":
                return Refusal(reason, message or REFUSAL)
            case _:
                raise ValueError(f"unknown reason {reason}")


class UsageBudgetRow(TenantRow):
    """The budget of a tenant that has one. `month` is the first day of the month that the counts are of."""

    __tablename__ = "usage_budgets"

    max_tokens: Mapped[int | None] = mapped_column(BigInteger)
    max_cost_micros: Mapped[int | None] = mapped_column(BigInteger)
    message: Mapped[str | None]
    month: Mapped[date]
    used_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    used_micros: Mapped[int] = mapped_column(BigInteger, server_default="0")
    refused: Mapped[int] = mapped_column(server_default="0")
    refused_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class UsageReservationRow(TenantRow):
    """What a run that is going on may use, at a tenant with a budget. Goes with the run's end, whatever that is."""

    __tablename__ = "usage_reservations"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "run_id"], ["runs.tenant_id", "runs.run_id"], ondelete="CASCADE"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    tokens: Mapped[int] = mapped_column(BigInteger)
    micros: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


def _storable(text: str) -> str:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must not contain NUL or unpaired surrogates")
    return text


Amount = Annotated[int, Field(ge=1, le=1_000_000_000_000_000)]
Message = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_storable)
]


class Budget(BaseModel):
    """What may be used in a month (UTC). Once one of the two is used up, visitors are told so kindly; None is no bound."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: Amount | None = None
    """Input and output tokens together."""
    max_cost_micros: Amount | None = None
    """Millionths of a US dollar. Models whose price is not known do not count."""
    message: Message | None = None
    """What visitors are told when it, or what the plan includes, is used up; None for our own words. Dropped where nothing
    is bounded."""


class BudgetState(BaseModel):
    """A budget, and how far it is used."""

    max_tokens: int | None
    max_cost_micros: int | None
    message: str | None
    currency: str = CURRENCY
    month: date
    """Its first day."""
    resets_at: datetime
    used_tokens: int
    used_cost_micros: int
    reserved_tokens: int
    """For answers that are being written."""
    reserved_cost_micros: int
    refused: int
    """Questions of this month that met the budget's end."""
    refused_at: datetime | None

    @property
    def reached(self) -> bool:
        """Whether questions are refused now."""
        return (self.max_tokens is not None and self.used_tokens >= self.max_tokens) or (
            self.max_cost_micros is not None and self.used_cost_micros >= self.max_cost_micros
        )


def month_of(moment: datetime) -> date:
    """The first day of the moment's month, in UTC."""
    return moment.astimezone(UTC).date().replace(day=1)


def next_month(month: date) -> datetime:
    """When the month ends."""
    year, following = (month.year + 1, 1) if month.month == 12 else (month.year, month.month + 1)
    return datetime(year, following, 1, tzinfo=UTC)


async def get_budget(session: AsyncSession, actor: Actor) -> BudgetState:
    """The tenant's budget and this month's use, which is counted without a budget, too."""
    actor.require("read")
    month = month_of(clock.now())
    row = await session.get(UsageBudgetRow, actor.tenant_id, populate_existing=True)
    if row is None or row.month != month:
        tokens, micros = await used_since(session, actor.tenant_id, first=month)
    else:
        tokens, micros = row.used_tokens, row.used_micros
    _, reserved_tokens, reserved_micros = (0, 0, 0) if row is None else await _reserved(session, actor.tenant_id)
    counts = row is not None and row.month == month
    return BudgetState(
        max_tokens=row.max_tokens if row else None,
        max_cost_micros=row.max_cost_micros if row else None,
        message=row.message if row else None,
        month=month,
        resets_at=next_month(month),
        used_tokens=tokens,
        used_cost_micros=micros,
        reserved_tokens=reserved_tokens,
        reserved_cost_micros=reserved_micros,
        refused=row.refused if row and counts else 0,
        refused_at=row.refused_at if row and counts else None,
    )


async def require_budget(session: AsyncSession, tenant_id: UUID) -> None:
    """Raise `BudgetUsedUp` where a question would be refused now: for what asks a model beside conversations.

    Reserves nothing, so that a few such calls at once may end a little past the budget.
    """
    budget = await _reached(session, tenant_id)
    if budget is not None:
        metrics.BUDGET_REFUSALS.of("aside").add()
        raise BudgetUsedUp(budget.message or REFUSAL)


async def budget_reached(session: AsyncSession, tenant_id: UUID) -> bool:
    """Whether `require_budget` would refuse."""
    return await _reached(session, tenant_id) is not None


async def put_budget(session: AsyncSession, actor: Actor, *, budget: Budget) -> BudgetState:
    """Set or, with neither bound, remove the tenant's budget. It holds from the next message on."""
    actor.require("admin")
    row, tenant_id = UsageBudgetRow, actor.tenant_id
    bounded = budget.max_tokens is not None or budget.max_cost_micros is not None
    # Locked before it is asked whether the plan needs the row: an allowance that is being made holds the lock, too.
    await session.execute(select(row.tenant_id).where(row.tenant_id == tenant_id).with_for_update())
    if not bounded and await session.get(UsageAllowanceRow, tenant_id, populate_existing=True) is None:
        await session.execute(delete(row).where(row.tenant_id == tenant_id))
        await session.execute(delete(UsageReservationRow).where(UsageReservationRow.tenant_id == tenant_id))
    else:
        chosen = budget.model_dump() | {"updated_at": clock.now()}
        statement = insert(row).values(tenant_id=tenant_id, month=month_of(clock.now()), **chosen)
        await session.execute(statement.on_conflict_do_update(index_elements=[row.tenant_id], set_=chosen))
        await recount(session, tenant_id)
    await record_audit(session, actor, "usage.put_budget", detail=budget.model_dump(mode="json"))
    return await get_budget(session, actor)


async def recount(session: AsyncSession, tenant_id: UUID) -> None:
    """Make the budget's count what the ledger says. Exact: entries come in only with the row that is locked here."""
    row = UsageBudgetRow
    found = await session.scalar(select(row.tenant_id).where(row.tenant_id == tenant_id).with_for_update())
    if found is None:
        return
    month = month_of(clock.now())
    tokens, micros = await used_since(session, tenant_id, first=month)
    counts: dict[str, Any] = {"month": month, "used_tokens": tokens, "used_micros": micros}
    counts |= {"refused": case((row.month == month, row.refused), else_=0)}
    await session.execute(update(row).where(row.tenant_id == tenant_id).values(counts))


async def recount_budgets(database: Database) -> int:
    """Recount every budget, each under its own tenant: what was used while a budget was being made was not counted.

    One that fails holds up nobody. Returns how many were.
    """
    row = UsageBudgetRow
    done = failed = 0
    last: UUID | None = None
    while True:
        async with database.platform() as session:
            query = select(row.tenant_id).order_by(row.tenant_id).limit(RECOUNT_AT_ONCE)
            tenants = list(await session.scalars(query if last is None else query.where(row.tenant_id > last)))
        for tenant_id in tenants:
            try:
                async with database.tenant(tenant_id) as session:
                    await recount(session, tenant_id)
                done += 1
            except Exception:
                failed += 1
                _log.exception("could not recount a budget", extra={"tenant_id": str(tenant_id)})
        if len(tenants) < RECOUNT_AT_ONCE:
            break
        last = tenants[-1]
    if failed:
        _log.error("The budgets of %d tenants were not recounted; the next round tries again.", failed)
    return done


async def _reached(session: AsyncSession, tenant_id: UUID) -> UsageBudgetRow | None:
    """The budget of which nothing is left, or beside which nothing is left of what the plan includes, reservations counted;
    None while something is."""
    budget = await session.get(UsageBudgetRow, tenant_id, populate_existing=True)
    if budget is None:
        return None
    runs, tokens, micros = await _reserved(session, tenant_id)
    plan = await session.get(UsageAllowanceRow, tenant_id, populate_existing=True)
    if plan is not None:
        counts = plan.period_end > clock.now()
        if _at_end(runs + counts * plan.used_messages, plan.hard_messages) or _at_end(
            tokens + counts * plan.used_tokens, plan.hard_tokens
        ):
            return budget
    if budget.month == month_of(clock.now()):
        tokens, micros = tokens + budget.used_tokens, micros + budget.used_micros
    reached = _at_end(tokens, budget.max_tokens) or _at_end(micros, budget.max_cost_micros)
    return budget if reached else None


def _at_end(amount: int, bound: int | None) -> bool:
    return bound is not None and amount >= bound


async def _reserved(session: AsyncSession, tenant_id: UUID) -> tuple[int, int, int]:
    """Runs, tokens, micro-dollars."""
    held = UsageReservationRow
    sums = select(func.count(), func.coalesce(func.sum(held.tokens), 0), func.coalesce(func.sum(held.micros), 0))
    runs, tokens, micros = (await session.execute(sums.where(held.tenant_id == tenant_id))).one()
    return runs, int(tokens), int(micros)

"""What a tenant may use in a billing period, by its plan: how much is included, where the hard end is, and how far it is.

`usage_allowances` holds a row for each tenant whose plan bounds its use; the chat's SQL functions reserve and settle
against it. Everybody else has none, and pays nothing for it. Three points count:

- *included*: what the plan includes in a month of use. From there on the tenant is over the soft limit.
- *grace*: a tenant that pays and has been here for long goes on a little beyond: see `grace_percent`.
- *hard*: where questions are answered by the steps that the tenant chose instead (`usage/choices.py`). With overage it is
  where the tenant's spend cap is reached; without a cap there is none.

Whoever changes a subscription, or an exception from a plan, calls `refresh_allowance` in the same transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import case, delete, func, select, true
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.errors import InvalidInput
from stonechat.plans.entitlements import Entitlements, require_feature
from stonechat.plans.terms import Feature
from stonechat.usage.allowance_models import UsageAlertRow, UsageAllowanceRow, UsageChoicesRow
from stonechat.usage.overage import agree
from stonechat.usage.period_use import Used, used_in
from stonechat.usage.projection import projected_use
from stonechat.usage.quota import Message, UsageBudgetRow, UsageReservationRow, month_of
from stonechat.usage.terms import Amounts, Period, Terms, terms_of

CHEAPER_MODEL = r"^(extractive|[a-z0-9][a-z0-9-]{0,38}/[\x21-\x7e]{1,200})$"

MAX_CAP_MICROS = 10**15

Over = Literal["soft", "hard"]
Step = Literal["cheaper_model", "approved_answers", "ask_email", "hand_over", "message"]
"""What is done with a question when nothing more may be used: answer by a cheaper model, from question-answer pairs only,
ask for an e-mail address, ask a person to take over, or say so kindly."""


class Steps(BaseModel):
    """What is done with a question at the hard end, in order, until one step can; saying so kindly is always the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: Annotated[tuple[Step, ...], Field(max_length=5)] = ("message",)
    cheaper_model: Annotated[str, Field(max_length=240, pattern=CHEAPER_MODEL)] | None = None
    """`<provider>/<model>`, or `extractive`, which costs nothing. The last tenth of every bound is kept for it."""
    email_request: Message | None = None
    """How visitors are asked for their address; None for our own words."""
    email_thanks: Message | None = None
    """What is said once they left it."""

    @model_validator(mode="after")
    def _steps_can_be_done(self) -> Self:
        if len(set(self.steps)) < len(self.steps):
            raise ValueError("a step stands there twice")
        if "message" in self.steps[:-1]:
            raise ValueError("nothing comes after the message")
        if "cheaper_model" in self.steps and self.cheaper_model is None:
            raise ValueError("say which model is the cheaper one")
        return self


class Alert(BaseModel):
    """An alert of this period."""

    model_config = ConfigDict(frozen=True)

    percent: int
    at: AwareDatetime


class Overage(BaseModel):
    """Going on beyond what is included, for money. Money is in millionths of the plan's currency."""

    model_config = ConfigDict(frozen=True)

    micros_per_1k_tokens: int | None
    """What the plan asks; None where it offers none."""
    opt_in: bool
    active: bool
    """Whether it is offered to the tenant as it stands, and chosen."""
    spend_cap_micros: int | None
    tokens: int
    """That are charged in this period, so far: those beyond what is included, since the tenant agreed to pay for them."""
    cost_micros: int
    """Of those."""


class AllowanceState(BaseModel):
    """What the tenant may use in its period, and how far it is. Without bounds `percent` is 0 and `over` None."""

    model_config = ConfigDict(frozen=True)

    period: Period
    included: Amounts
    hard: Amounts
    """Where questions begin to be refused."""
    used: Amounts
    reserved: Amounts
    """For answers that are being written."""
    percent: int
    """Of what is included, the bound that is nearest; may be above 100."""
    projected_at_period_end: Amounts | None
    """If it goes on as it did so far; None while it is too early to say."""
    projected_percent: int | None
    alerts: list[Alert]
    over: Over | None
    grace_percent: int
    overage: Overage
    refused: int
    """Questions of this period that met the hard end."""
    refused_at: AwareDatetime | None
    steps: Steps
    """What is done with questions there."""

    @property
    def bounded(self) -> bool:
        """Whether the plan bounds anything."""
        return self.included.messages is not None or self.included.tokens is not None


async def refresh_allowance(session: AsyncSession, tenant_id: UUID, *, since: datetime | None = None) -> None:
    """Make the tenant's allowance what its plan says now, and its count what the ledger says. Twice changes nothing.

    Deletes it where nothing is bounded. Exact: entries come in only with the row that is locked here. `since` is when the
    plan changed, if that is known and just gone: what is charged for overage changes then, too.
    """
    row, budget = UsageAllowanceRow, UsageBudgetRow
    # Locked first: whoever chooses, and whoever changes the plan, at the same time sees what the other did.
    lock = select(budget.tenant_id).where(budget.tenant_id == tenant_id).with_for_update()
    locked = await session.scalar(lock) is not None
    terms = await terms_of(session, tenant_id)
    if terms.included.messages is None and terms.included.tokens is None:
        await agree(session, tenant_id, None, since=since)
        await session.execute(delete(row).where(row.tenant_id == tenant_id))
        unbounded = budget.max_tokens.is_(None) & budget.max_cost_micros.is_(None)
        gone = delete(budget).where(budget.tenant_id == tenant_id, unbounded).returning(budget.tenant_id)
        if (await session.scalar(gone)) is not None:
            held = UsageReservationRow
            await session.execute(delete(held).where(held.tenant_id == tenant_id))
        return
    if not locked:
        made = insert(budget).values(tenant_id=tenant_id, month=month_of(clock.now()))
        await session.execute(made.on_conflict_do_nothing(index_elements=[budget.tenant_id]))
        await session.execute(lock)
        terms = await terms_of(session, tenant_id)
    await agree(session, tenant_id, terms.agreement, since=since)
    included = select(row.included_messages, row.included_tokens).where(row.tenant_id == tenant_id)
    before = (await session.execute(included)).one_or_none()
    used = await used_in(session, tenant_id, start=terms.period.start, end=terms.period.end)
    values: dict[str, Any] = {
        "period_start": terms.period.start,
        "period_end": terms.period.end,
        "included_messages": terms.included.messages,
        "included_tokens": terms.included.tokens,
        "hard_messages": terms.hard.messages,
        "hard_tokens": terms.hard.tokens,
        "overage_micros_per_1k_tokens": terms.overage_price if terms.overage_active else None,
        "grace_percent": terms.grace_percent,
        "used_messages": used.messages,
        "used_tokens": used.tokens,
        "updated_at": clock.now(),
    }
    statement = insert(row).values(tenant_id=tenant_id, **values)
    changed: dict[str, Any] = {name: statement.excluded[name] for name in values}
    changed["refused"] = case((row.period_start == statement.excluded.period_start, row.refused), else_=0)
    await session.execute(statement.on_conflict_do_update(index_elements=[row.tenant_id], set_=changed))
    if before is not None and tuple(before) == (terms.included.messages, terms.included.tokens):
        return
    # Where more is included than before, what is still ahead is told of again: it is more than was told of.
    alert = UsageAlertRow
    again = (alert.period_start == terms.period.start) & (alert.percent > percent_of(used, terms.included))
    await session.execute(delete(alert).where(alert.tenant_id == tenant_id, alert.bound == "plan", again))


async def allowance_state(
    session: AsyncSession, tenant_id: UUID, *, rights: Entitlements | None = None
) -> AllowanceState:
    """What the tenant may use in the period that is now, and how far it is; counted without bounds, too."""
    now = clock.now()
    terms = await terms_of(session, tenant_id, at=now, rights=rights)
    row, alerts, runs, tokens = await _held(session, tenant_id, since=terms.period.start)
    current = row is not None and row.period_start == terms.period.start
    if row is not None and current:
        used = Used(row.used_messages, row.used_tokens)
    else:
        used = await used_in(session, tenant_id, start=terms.period.start, end=terms.period.end)
    percent = percent_of(used, terms.included)
    projected = projected_use(used, start=terms.period.start, end=terms.period.end, now=now)
    return AllowanceState(
        period=terms.period,
        included=terms.included,
        hard=terms.hard,
        used=Amounts(messages=used.messages, tokens=used.tokens),
        reserved=Amounts(messages=runs, tokens=tokens),
        percent=percent,
        projected_at_period_end=None
        if projected is None
        else Amounts(messages=projected.messages, tokens=projected.tokens),
        projected_percent=None if projected is None else percent_of(projected, terms.included),
        alerts=alerts,
        over=_over(used, terms),
        grace_percent=terms.grace_percent,
        overage=Overage(
            micros_per_1k_tokens=terms.overage_price,
            opt_in=terms.opt_in,
            active=terms.overage_active,
            spend_cap_micros=terms.spend_cap_micros,
            tokens=terms.so_far.tokens,
            cost_micros=terms.so_far.cost_micros,
        ),
        refused=row.refused if row is not None and current else 0,
        refused_at=row.refused_at if row is not None and current else None,
        steps=_steps(terms.choices),
    )


async def _held(
    session: AsyncSession, tenant_id: UUID, *, since: datetime
) -> tuple[UsageAllowanceRow | None, list[Alert], int, int]:
    """The allowance, the alerts of the period, and how many runs and tokens are reserved. One statement."""
    row, held, alert = UsageAllowanceRow, UsageReservationRow, UsageAlertRow
    told = (
        select(
            func.array_agg(aggregate_order_by(alert.percent, alert.percent)),
            func.array_agg(aggregate_order_by(alert.alerted_at, alert.percent)),
        )
        .where(alert.tenant_id == tenant_id, alert.bound == "plan", alert.period_start == since)
        .subquery("told")
    )
    sums = (
        select(func.count(), func.coalesce(func.sum(held.tokens), 0))
        .where(held.tenant_id == tenant_id)
        .subquery("sums")
    )
    chosen = select(row, told, sums).select_from(told).join(sums, true()).outerjoin(row, row.tenant_id == tenant_id)
    found = await session.execute(chosen.execution_options(populate_existing=True))
    allowance, percents, times, runs, tokens = found.one()
    alerts = [Alert(percent=percent, at=at) for percent, at in zip(percents or (), times or (), strict=True)]
    return allowance, alerts, runs, int(tokens)


async def put_overage(
    session: AsyncSession, actor: Actor, *, opt_in: bool, spend_cap_micros: int | None = None
) -> AllowanceState:
    """Go on beyond what is included, for money, up to a cap a period; or stop doing so. It holds from the next question on.

    Where the plan offers no overage, or not yet, the choice is kept for when it does.
    """
    actor.require("admin")
    chosen = {"overage_opt_in": opt_in, "spend_cap_micros": spend_cap_micros}
    if spend_cap_micros is not None and not 0 <= spend_cap_micros <= MAX_CAP_MICROS:
        raise InvalidInput(
            "A cap is an amount from 0 on, or nothing.",
            errors=[{"field": "spend_cap_micros", "message": "This is not an amount that can be spent."}],
        )
    await _choose(session, actor.tenant_id, chosen)
    await record_audit(session, actor, "usage.put_overage", detail=chosen)
    await refresh_allowance(session, actor.tenant_id)
    return await allowance_state(session, actor.tenant_id)


async def put_steps(session: AsyncSession, actor: Actor, *, steps: Steps) -> Steps:
    """Replace what is done, in order, when nothing more may be used. It holds from the next question on."""
    actor.require("admin")
    if "hand_over" in steps.steps:
        await require_feature(session, actor.tenant_id, Feature.HAND_OVER)
    await _choose(session, actor.tenant_id, steps.model_dump() | {"steps": list(steps.steps)})
    await record_audit(session, actor, "usage.put_steps", detail=steps.model_dump(mode="json"))
    return steps


async def get_steps(session: AsyncSession, actor: Actor) -> Steps:
    """What the tenant chose; by default, to say so kindly."""
    actor.require("read")
    return await steps_of(session, actor.tenant_id)


async def steps_of(session: AsyncSession, tenant_id: UUID) -> Steps:
    """`get_steps` for the chat, which has no actor."""
    return _steps(await session.get(UsageChoicesRow, tenant_id, populate_existing=True))


def _steps(row: UsageChoicesRow | None) -> Steps:
    return Steps() if row is None else Steps.model_validate({name: getattr(row, name) for name in Steps.model_fields})


async def _choose(session: AsyncSession, tenant_id: UUID, chosen: dict[str, Any]) -> None:
    chosen = chosen | {"updated_at": clock.now()}
    statement = insert(UsageChoicesRow).values(tenant_id=tenant_id, **chosen)
    await session.execute(statement.on_conflict_do_update(index_elements=[UsageChoicesRow.tenant_id], set_=chosen))


def percent_of(used: Used, included: Amounts) -> int:
    """Of the bound that is nearest to being used up; rounded down, so that 100 means all of it."""
    shares = [
        100 if bound == 0 else 100 * amount // bound
        for amount, bound in ((used.messages, included.messages), (used.tokens, included.tokens))
        if bound is not None
    ]
    return max(shares, default=0)


def _over(used: Used, terms: Terms) -> Over | None:
    def reaches(bounds: Amounts) -> bool:
        return (bounds.messages is not None and used.messages >= bounds.messages) or (
            bounds.tokens is not None and used.tokens >= bounds.tokens
        )

    if reaches(terms.hard):
        return "hard"
    return "soft" if reaches(terms.included) else None

"""`/api/v1/plan`: what the tenant may do, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, Field

from stonechat.api.dependencies import ApiActor, TenantSession
from stonechat.limits.addresses import limit_address
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.subscription import Provider, Status
from stonechat.plans.terms import PlanTerms

router = APIRouter(prefix="/plan", tags=["Plan"], dependencies=[Depends(limit_address)])


class SubscriptionOut(BaseModel):
    plan: str
    plan_version: int
    provider: Provider
    status: Status
    trial_ends_at: AwareDatetime | None
    period_start: AwareDatetime | None
    period_end: AwareDatetime | None
    cancel_at: AwareDatetime | None
    grace_until: Annotated[
        AwareDatetime | None, Field(description="Of a payment that failed: until then the plan holds all the same.")
    ]
    pending_plan: str | None
    pending_plan_at: AwareDatetime | None


class LineOut(BaseModel):
    """One thing that the plan decides: what it says, the exception from it if there is one, and what holds."""

    field: str
    label: str
    plan_value: int | bool | None
    override_id: str | None
    override_value: int | bool | None
    override_reason: str | None
    override_expires_at: AwareDatetime | None
    effective: Annotated[int | bool | None, Field(description="Null: no bound.")]
    in_words: str


class PlanOut(BaseModel):
    effective: Annotated[PlanTerms, Field(description="What holds now: the plan with its exceptions.")]
    lapsed: Annotated[bool, Field(description="Whether the subscription ended or was not paid, so that less holds.")]
    subscription: SubscriptionOut
    explain: list[LineOut]


@router.get("", summary="Get what the plan allows, and why")
async def get_plan(actor: ApiActor, session: TenantSession) -> PlanOut:
    actor.require("read")
    return _out(await entitlements(session, actor.tenant_id))


def _out(held: Entitlements) -> PlanOut:
    subscription = held.subscription
    return PlanOut(
        effective=held.terms,
        lapsed=held.lapsed,
        subscription=SubscriptionOut(
            plan=held.chosen.key,
            plan_version=held.chosen.version,
            provider=subscription.provider,
            status=subscription.status,
            trial_ends_at=subscription.trial_ends_at,
            period_start=subscription.period_start,
            period_end=subscription.period_end,
            cancel_at=subscription.cancel_at,
            grace_until=subscription.grace_until,
            pending_plan=subscription.pending_plan_key,
            pending_plan_at=subscription.pending_plan_at,
        ),
        explain=[LineOut.model_validate(line, from_attributes=True) for line in held.explain],
    )

"""What a tenant may do, and why: its plan, the exceptions from it, and what comes of both.

Bounds hold for what comes into being. Whatever a tenant has, however much beyond its plan, it can always read, export and
delete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import FeatureNotInPlan, PlanLimitReached
from stonechat.plans.catalog import Catalog, load_catalog
from stonechat.plans.models import PlanOverrideRow, PlatformSettingRow, TenantPlanRow
from stonechat.plans.overrides import Override, override_of
from stonechat.plans.platform_settings import DEFAULT_PLAN, LAPSED_PLAN
from stonechat.plans.subscription import Subscription, default_subscription, subscription_of
from stonechat.plans.terms import FREE, NUMBER_FIELDS, SELF_HOSTED, Bound, Feature, PlanTerms
from stonechat.plans.words import FEATURE_NAMES, FIELD_NAMES, value_in_words

_NOUNS: dict[Bound, tuple[str, str]] = {
    "agents": ("agent", "Delete or retire one that is not used"),
    "seats": ("seat", "Remove a member or an open invitation"),
    "sources": ("source", "Delete some that you do not need"),
    "webhook_endpoints": ("webhook endpoint", "Delete one that is not used"),
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that the plan decides, and how it came to be so."""

    field: str
    """A number of `PlanTerms`, or a feature."""
    label: str
    plan_value: int | bool | None
    """What the plan says; None for no bound. Of features whether it is included."""
    override_value: int | bool | None
    """What the exception says, if `override_id` names one."""
    override_id: str | None
    override_reason: str | None
    override_expires_at: datetime | None
    effective: int | bool | None
    in_words: str
    """Plan → exception → what holds, in a sentence."""


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What a tenant may do at a moment."""

    terms: PlanTerms
    """What holds: the numbers and features of `plan` with the exceptions laid over it."""
    plan: PlanTerms
    """The plan whose terms hold: the chosen one, or the one to fall back on when that lapsed."""
    chosen: PlanTerms
    """The plan that the subscription names."""
    subscription: Subscription
    lapsed: bool
    explain: list[Line]

    def has(self, feature: Feature) -> bool:
        """Whether the feature is on."""
        return feature in self.terms.features

    @property
    def is_unbounded(self) -> bool:
        """Whether nothing is bounded and everything on, as on an installation of one's own."""
        return self.terms.features == frozenset(Feature) and all(
            getattr(self.terms, name) is None for name in NUMBER_FIELDS if name != "overage_micros_per_1k_tokens"
        )


async def entitlements(
    session: AsyncSession, tenant_id: UUID, *, at: datetime | None = None, catalog: Catalog | None = None
) -> Entitlements:
    """What the tenant may do now, or at another moment. Two statements, one of them for the plans unless all are given."""
    at = at or clock.now()
    subscription, settings, overrides = await _held(session, tenant_id)
    key, version = subscription.key_at(at)
    fallback = settings.get(LAPSED_PLAN)
    keys = {key, fallback, settings.get(DEFAULT_PLAN)}
    if catalog is None:
        catalog = await load_catalog(session, *(name for name in keys if isinstance(name, str)))
    chosen = catalog.get(key, version) or FREE
    lapsed = subscription.lapsed(at)
    plan = _fallback(catalog, settings) if lapsed else chosen
    holding = _holding(overrides, at)
    return Entitlements(
        terms=_laid_over(plan, holding),
        plan=plan,
        chosen=chosen,
        subscription=subscription,
        lapsed=lapsed,
        explain=_explain(plan, holding),
    )


async def require_room(session: AsyncSession, tenant_id: UUID, bound: Bound, *, used: int | Select[int]) -> None:
    """Raise `PlanLimitReached` unless one more can come into being besides the `used` ones that there are.

    A query that counts them is asked only where there is a bound, and with one bound's creations waiting for one another, so
    that two at once cannot both be the last.
    """
    held = await entitlements(session, tenant_id)
    included: int | None = getattr(held.terms, bound)
    if included is None:
        return
    if not isinstance(used, int):
        await session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(f"{tenant_id}:{bound}", 0))))
        used = await session.scalar(used) or 0
    if used < included:
        return
    noun, remedy = _NOUNS[bound]
    number = f"{included:,} {noun}{'' if included == 1 else 's'}" if included else f"no {noun}s"
    raise PlanLimitReached(
        f"Your plan, {held.plan.name}, includes {number}, and there {'is' if used == 1 else 'are'} {used:,}. "
        f"{remedy}, or change to a larger plan.",
        limit=bound,
        included=included,
        used=used,
        plan=held.plan.key,
    )


async def require_feature(session: AsyncSession, tenant_id: UUID, *features: Feature) -> None:
    """Raise `FeatureNotInPlan` unless the tenant has all of them. None asks nothing."""
    if not features:
        return
    held = await entitlements(session, tenant_id)
    for feature in features:
        if not held.has(feature):
            raise FeatureNotInPlan(
                f"“{FEATURE_NAMES[feature]}” is not part of your plan, {held.plan.name}. Change to a plan that includes it.",
                feature=feature.value,
                plan=held.plan.key,
            )


async def _held(session: AsyncSession, tenant_id: UUID) -> tuple[Subscription, dict[str, Any], list[Override]]:
    """The subscription, the settings that matter and the exceptions, in one statement."""
    setting, row, override = PlatformSettingRow, TenantPlanRow, PlanOverrideRow
    settings = (
        select(func.jsonb_object_agg(setting.key, setting.value))
        .where(setting.key.in_([DEFAULT_PLAN, LAPSED_PLAN]))
        .scalar_subquery()
    )
    nothing = select(literal(1).label("one")).subquery("nothing")
    found = await session.execute(
        select(settings, row, override)
        .select_from(nothing)
        .outerjoin(row, row.tenant_id == tenant_id)
        .outerjoin(override, (override.tenant_id == tenant_id) & override.revoked_at.is_(None))
        .order_by(override.created_at, override.override_id)
        .execution_options(populate_existing=True)
    )
    rows = found.all()
    known, plan, _ = rows[0]
    known = known or {}
    subscription = default_subscription(known.get(DEFAULT_PLAN)) if plan is None else subscription_of(plan)
    return subscription, known, [override_of(exception) for *_, exception in rows if exception is not None]


def _fallback(catalog: Catalog, settings: dict[str, Any]) -> PlanTerms:
    """The terms that hold when a subscription lapsed: never better than what everybody has for nothing."""
    named = settings.get(LAPSED_PLAN)
    if isinstance(named, str) and (plan := catalog.get(named)) is not None:
        return plan
    default = settings.get(DEFAULT_PLAN)
    plan = catalog.get(default) if isinstance(default, str) else None
    return plan if plan is not None and plan.is_free and plan.key != SELF_HOSTED.key else FREE


def _holding(overrides: list[Override], at: datetime) -> dict[str, Override]:
    """The newest exception that holds for each field."""
    return {override.field: override for override in overrides if override.holds(at)}


def _laid_over(plan: PlanTerms, overrides: dict[str, Override]) -> PlanTerms:
    numbers: dict[str, Any] = {field: override.value for field, override in overrides.items() if field in NUMBER_FIELDS}
    features = set(plan.features)
    for feature in Feature:
        if (override := overrides.get(feature.value)) is not None:
            (features.add if override.value else features.discard)(feature)
    return plan.model_copy(update={**numbers, "features": frozenset(features)})


def _explain(plan: PlanTerms, overrides: dict[str, Override]) -> list[Line]:
    numbers = [(name, label, getattr(plan, name)) for name, label in FIELD_NAMES.items()]
    features = [(feature.value, FEATURE_NAMES[feature], feature in plan.features) for feature in Feature]
    return [_line(plan, field, label, value, overrides.get(field)) for field, label, value in (*numbers, *features)]


def _line(plan: PlanTerms, field: str, label: str, value: int | bool | None, override: Override | None) -> Line:
    effective = value if override is None else override.value
    words = f"{plan.name}: {value_in_words(field, value, plan.currency)}."
    if override is not None:
        until = f" until {override.expires_at:%-d %B %Y}" if override.expires_at else ""
        words += f" Exception{until}: {value_in_words(field, effective, plan.currency)}. Reason: {override.reason}"
    return Line(
        field=field,
        label=label,
        plan_value=value,
        override_value=override.value if override else None,
        override_id=override.id if override else None,
        override_reason=override.reason if override else None,
        override_expires_at=override.expires_at if override else None,
        effective=effective,
        in_words=words,
    )

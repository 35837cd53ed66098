"""Exceptions from a tenant's plan: a bound or a feature, with a reason and, mostly, an end."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.errors import Conflict, InvalidInput, NotFound
from stonechat.plans.models import PlanOverrideRow
from stonechat.plans.terms import NUMBER_FIELDS, Feature, PlanTerms

MAX_OVERRIDES = 200
"""Of a tenant, ended ones included."""
MAX_REASON = 500
_NUMBERS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(cast("Any", field.annotation))
    for name, field in PlanTerms.model_fields.items()
    if name in NUMBER_FIELDS
}
"""What each number may be, as `PlanTerms` says."""


class Override(BaseModel):
    """An exception, as operators and the tenant see it."""

    model_config = ConfigDict(frozen=True)

    id: str
    field: str
    """A number of `PlanTerms`, or a feature."""
    value: int | bool | None
    """A number, or None for no bound; whether the feature is on."""
    reason: str
    expires_at: AwareDatetime | None
    created_by: str
    created_at: AwareDatetime
    revoked_at: AwareDatetime | None

    def holds(self, at: datetime) -> bool:
        """Whether it counts at that moment."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


async def add_override(
    session: AsyncSession,
    tenant_id: UUID,
    *,
    field: str,
    value: int | bool | None,
    reason: str,
    expires_at: datetime | None,
    by: str,
) -> Override:
    """Make an exception; it takes the place of earlier ones for the same field. Raises `InvalidInput`, `Conflict`.

    Who calls this audits it, and runs `usage.allowance.refresh_allowance`.
    """
    reason = reason.strip()
    if not 1 <= len(reason) <= MAX_REASON or "\x00" in reason:
        raise InvalidInput(f"Say why, in at most {MAX_REASON} characters.")
    if expires_at is not None and expires_at <= clock.now():
        raise InvalidInput("An exception ends in the future, or never.")
    held = select(func.count()).select_from(PlanOverrideRow).where(PlanOverrideRow.tenant_id == tenant_id)
    if (await session.scalar(held) or 0) >= MAX_OVERRIDES:
        raise Conflict(f"A tenant has at most {MAX_OVERRIDES} exceptions, ended ones included.")
    row = PlanOverrideRow(
        tenant_id=tenant_id,
        override_id=ids.new_id("ovr"),
        field=field,
        value=checked_value(field, value),
        reason=reason,
        expires_at=expires_at,
        created_by=by,
        created_at=clock.now(),
        revoked_at=None,
    )
    session.add(row)
    await session.flush()
    return override_of(row)


async def revoke_override(session: AsyncSession, tenant_id: UUID, *, override_id: str) -> Override:
    """End an exception now. Twice changes nothing; raises `NotFound`."""
    row = await session.scalar(
        select(PlanOverrideRow)
        .where(PlanOverrideRow.tenant_id == tenant_id, PlanOverrideRow.override_id == override_id)
        .with_for_update()
    )
    if row is None:
        raise NotFound("There is no such exception.")
    if row.revoked_at is None:
        row.revoked_at = clock.now()
        await session.flush()
    return override_of(row)


async def list_overrides(session: AsyncSession, tenant_id: UUID) -> list[Override]:
    """All exceptions, newest first, ended ones too."""
    chosen = select(PlanOverrideRow).where(PlanOverrideRow.tenant_id == tenant_id)
    return [override_of(row) for row in await session.scalars(chosen.order_by(PlanOverrideRow.override_id.desc()))]


def checked_value(field: str, value: object) -> int | bool | None:
    """The value, if the field can have it. Raises `InvalidInput`."""
    if field in set(Feature):
        if not isinstance(value, bool):
            raise InvalidInput("A feature is on or off.")
        return value
    if field not in _NUMBERS:
        raise InvalidInput("There is no such field to make an exception for.")
    try:
        checked: int | None = _NUMBERS[field].validate_python(value, strict=True)
    except ValidationError:
        raise InvalidInput("This is a whole number, or nothing for no bound.") from None
    return checked


def override_of(row: PlanOverrideRow) -> Override:
    """A stored one."""
    return Override(
        id=row.override_id,
        field=row.field,
        value=row.value,
        reason=row.reason,
        expires_at=row.expires_at,
        created_by=row.created_by,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
    )

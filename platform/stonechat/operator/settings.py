"""What operators set for the whole platform while it runs."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.errors import InvalidInput
from stonechat.operator.operators import Operator, record
from stonechat.plans.catalog import list_plans
from stonechat.plans.platform_settings import BILLING, DEFAULT_PLAN, LAPSED_PLAN, list_settings, put_setting

BILLING_CHOICES = ("none", "manual")


async def change_settings(session: AsyncSession, operator: Operator, *, changes: dict[str, str]) -> list[str]:
    """Set what differs; an empty value takes a setting away. Returns the names that changed. Raises `InvalidInput`."""
    plans = {plan.key for plan in await list_plans(session)}
    errors = [
        {"field": name, "message": "Choose one of the plans."}
        for name in (DEFAULT_PLAN, LAPSED_PLAN)
        if changes.get(name) and changes[name] not in plans
    ]
    if changes.get(BILLING) and changes[BILLING] not in BILLING_CHOICES:
        errors.append({"field": BILLING, "message": "Choose one of these."})
    if errors:
        raise InvalidInput(errors[0]["message"] if len(errors) == 1 else "Correct what is marked.", errors=errors)
    before: dict[str, Any] = await list_settings(session)
    changed = []
    for name in (DEFAULT_PLAN, LAPSED_PLAN, BILLING):
        wanted = changes.get(name) or None
        if name in changes and before.get(name) != wanted:
            await put_setting(session, name, value=wanted, by=operator.email)
            detail = {"from": before.get(name), "to": wanted}
            await record(session, operator, "setting.change", subject_id=name, detail=detail)
            changed.append(name)
    return changed

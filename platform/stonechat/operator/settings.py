"""What operators set for the whole platform while it runs: every name that code reads, with what fits it."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.billing.dunning import GRACE_DAYS, MAX_GRACE_DAYS
from stonechat.billing.stripe_provider import TAX
from stonechat.errors import InvalidInput
from stonechat.operator.operators import Operator, record
from stonechat.plans.catalog import list_plans
from stonechat.plans.platform_settings import BILLING, DEFAULT_PLAN, LAPSED_PLAN, list_settings, put_setting

BILLING_CHOICES = ("none", "manual")
OFFERED = (DEFAULT_PLAN, LAPSED_PLAN, BILLING, GRACE_DAYS, TAX)
"""In the order of the page."""


async def change_settings(session: AsyncSession, operator: Operator, *, changes: dict[str, str]) -> list[str]:
    """Set what differs, from what a form says; an empty value takes a setting away. Returns the names that changed.

    Raises `InvalidInput`.
    """
    plans = {plan.key for plan in await list_plans(session)}
    wanted: dict[str, Any] = {}
    errors = []
    for name in (name for name in OFFERED if name in changes):
        try:
            wanted[name] = _read(name, changes[name].strip(), plans)
        except ValueError as error:
            errors.append({"field": name, "message": str(error)})
    if errors:
        raise InvalidInput(errors[0]["message"] if len(errors) == 1 else "Correct what is marked.", errors=errors)
    before: dict[str, Any] = await list_settings(session)
    changed = [name for name, value in wanted.items() if before.get(name) != value]
    for name in changed:
        await put_setting(session, name, value=wanted[name], by=operator.email)
        detail = {"from": before.get(name), "to": wanted[name]}
        await record(session, operator, "setting.change", subject_id=name, detail=detail)
    return changed


def as_typed(held: dict[str, Any]) -> dict[str, str]:
    """The settings as the form shows them."""
    return {name: "on" if held.get(name) is True else str(held.get(name) or "") for name in OFFERED} | {
        GRACE_DAYS: "" if held.get(GRACE_DAYS) is None else str(held[GRACE_DAYS])
    }


def _read(name: str, text: str, plans: set[str]) -> str | int | bool | None:
    """What is kept of what was typed. Raises `ValueError` with a sentence."""
    if not text:
        return None
    if name in (DEFAULT_PLAN, LAPSED_PLAN):
        if text not in plans:
            raise ValueError("Choose one of the plans.")
    elif name == BILLING:
        if text not in BILLING_CHOICES:
            raise ValueError("Choose one of these.")
    elif name == TAX:
        return True
    else:
        if not (text.isascii() and text.isdecimal()) or len(text) > 3 or int(text) > MAX_GRACE_DAYS:
            raise ValueError(f"Write a number of days from 0 to {MAX_GRACE_DAYS}, or nothing.")
        return int(text)
    return text

"""Amounts and periods: what a quantity of a price costs, and when the next period begins."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A quantity and what it costs, in the currency's smallest unit."""

    quantity: int
    amount: int
    unit: Decimal | None
    words: str = ""


def rounded(amount: Decimal) -> int:
    return int(amount.quantize(Decimal(1), rounding=ROUND_HALF_UP))


def cost_of(price: Json, quantity: int) -> list[Part]:
    """The lines that a quantity makes on an invoice: one, or one for each tier that it reaches."""
    if price["billing_scheme"] == "tiered":
        return _graduated(price, quantity) if price["tiers_mode"] == "graduated" else _by_volume(price, quantity)
    unit = Decimal(price["unit_amount_decimal"])
    billed = quantity
    if divide := price["transform_quantity"]:
        billed = quantity // divide["divide_by"]
        if divide["round"] == "up" and quantity % divide["divide_by"]:
            billed += 1
    return [Part(quantity, rounded(unit * billed), unit)]


def _graduated(price: Json, quantity: int) -> list[Part]:
    parts: list[Part] = []
    below = 0
    for place, tier in enumerate(price["tiers"]):
        upper = tier["up_to"]
        inside = max(0, (quantity if upper is None else min(quantity, upper)) - below)
        if inside == 0 and place > 0:
            break
        unit = Decimal(tier["unit_amount_decimal"] or 0)
        parts.append(Part(inside, rounded(unit * inside), unit, f"Tier {place + 1}"))
        if tier["flat_amount_decimal"]:
            parts.append(Part(0, rounded(Decimal(tier["flat_amount_decimal"])), None, f"Tier {place + 1} flat fee"))
        below = upper if upper is not None else quantity
    return parts


def _by_volume(price: Json, quantity: int) -> list[Part]:
    tier = next(tier for tier in price["tiers"] if tier["up_to"] is None or quantity <= tier["up_to"])
    unit = Decimal(tier["unit_amount_decimal"] or 0)
    parts = [Part(quantity, rounded(unit * quantity), unit)]
    if tier["flat_amount_decimal"]:
        parts.append(Part(0, rounded(Decimal(tier["flat_amount_decimal"])), None, "Flat fee"))
    return parts


def added(anchor: int, recurring: Json, times: int) -> int:
    """The anchor moved by so many intervals. Months keep the anchor's day, or take their last one."""
    count = times * recurring["interval_count"]
    match recurring["interval"]:
        case "day":
            return anchor + count * 86_400
        case "week":
            return anchor + count * 7 * 86_400
    moment = datetime.fromtimestamp(anchor, UTC)
    months = moment.month - 1 + count * (12 if recurring["interval"] == "year" else 1)
    year, month = moment.year + months // 12, months % 12 + 1
    day = min(moment.day, calendar.monthrange(year, month)[1])
    return int(moment.replace(year=year, month=month, day=day).timestamp())


def period_around(anchor: int, recurring: Json, moment: int) -> tuple[int, int]:
    """The period of that anchor which holds the moment: its start, and its end, which is not part of it."""
    days = {"day": 1, "week": 7, "month": 31, "year": 366}[recurring["interval"]] * recurring["interval_count"]
    times = (moment - anchor) // (days * 86_400) - 1
    while added(anchor, recurring, times + 1) <= moment:
        times += 1
    return added(anchor, recurring, times), added(anchor, recurring, times + 1)


def legacy_plan(price: Json) -> Json:
    """The `plan` that an item still carries beside its price."""
    recurring = price["recurring"]
    return {
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": price["billing_scheme"],
        "created": price["created"], "currency": price["currency"], "interval": recurring["interval"],
        "interval_count": recurring["interval_count"], "livemode": False, "metadata": price["metadata"],
        "meter": recurring["meter"], "nickname": price["nickname"], "product": price["product"],
        "tiers_mode": price["tiers_mode"], "transform_usage": None, "trial_period_days": None,
        "usage_type": recurring["usage_type"],
    }  # fmt: skip

"""Plans as Stripe knows them: a product a plan, a price a version, and a second price for what goes beyond."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from stonechat.billing.gateway import Json, StripeGateway
from stonechat.errors import BillingOff
from stonechat.plans.terms import PlanTerms

_LOOKUP = re.compile(r"stonechat_([a-z][a-z0-9_]*)_v([0-9]{1,7})(_overage)?")
MICROS_OF_THOUSAND_IN_CENT = 10_000_000
"""Millionths of the currency for a thousand tokens, in hundredths of it for one."""


@dataclass(frozen=True, slots=True)
class Prices:
    """Ids of a plan's prices at Stripe."""

    base: str
    overage: str | None
    """For tokens, metered; the first tier is what the plan includes, and costs nothing."""

    def items(self, *, overage: bool) -> list[Json]:
        """Items of a new subscription."""
        metered = [{"price": self.overage}] if overage and self.overage else []
        return [{"price": self.base, "quantity": 1}, *metered]


class PriceList:
    """Finds or makes the prices of plans. What was found is remembered: a published version never changes."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway
        self._known: dict[PlanTerms, Prices] = {}

    async def of(self, terms: PlanTerms) -> Prices:
        """The plan's prices. Raises `BillingOff` for a plan that nobody pays for."""
        if terms.is_free:
            raise BillingOff(f"“{terms.name}” costs nothing: nothing is to be paid.")
        if terms not in self._known:
            self._known[terms] = await self._find_or_make(terms)
        return self._known[terms]

    async def _find_or_make(self, terms: PlanTerms) -> Prices:
        base_key = f"stonechat_{terms.key}_v{terms.version}"
        wanted = {base_key: base_price(terms)}
        if terms.overage_micros_per_1k_tokens:
            wanted[f"{base_key}_overage"] = overage_price(terms, meter_id=await self._gateway.ensure_meter())
        there = await self._gateway.find_prices(list(wanted))
        made = {}
        for lookup_key, params in wanted.items():
            price = there.get(lookup_key)
            if price is None or not _is_same(price, params):
                await self._gateway.ensure_product(f"stonechat_{terms.key}", name=terms.name)
                # A price of other terms under this name keeps its subscribers, and gives the name away.
                price = await self._gateway.create_price(params | {"transfer_lookup_key": True}, lookup_key=lookup_key)
            made[lookup_key] = str(price["id"])
        return Prices(made[base_key], made.get(f"{base_key}_overage"))


def base_price(terms: PlanTerms) -> Json:
    """What is paid each period."""
    return _common(terms, part="base") | {
        "unit_amount": terms.price_cents,
        "recurring": {"interval": terms.interval},
    }


def overage_price(terms: PlanTerms, *, meter_id: str) -> Json:
    """What is paid for tokens: nothing for the included ones of a month, so much for each beyond."""
    assert terms.overage_micros_per_1k_tokens is not None  # noqa: S101
    each = f"{Decimal(terms.overage_micros_per_1k_tokens) / MICROS_OF_THOUSAND_IN_CENT:f}"
    included: list[Json] = [{"up_to": terms.included_tokens, "unit_amount": 0}] if terms.included_tokens else []
    return _common(terms, part="overage") | {
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
        "billing_scheme": "tiered",
        "tiers_mode": "graduated",
        "tiers": [*included, {"up_to": "inf", "unit_amount_decimal": each}],
    }


def _common(terms: PlanTerms, *, part: str) -> Json:
    return {
        "product": f"stonechat_{terms.key}",
        "currency": terms.currency,
        "tax_behavior": "exclusive",
        "nickname": f"{terms.name} {terms.version}{' overage' if part == 'overage' else ''}"[:100],
        "metadata": {"plan_key": terms.key, "plan_version": str(terms.version), "part": part},
    }


def _is_same(price: Json, params: Json) -> bool:
    """Tiers are not in a list of prices unless asked for; they go with the version."""
    names: tuple[str, ...] = ("currency", "unit_amount") if "unit_amount" in params else ("currency",)
    interval = (price.get("recurring") or {}).get("interval") == params["recurring"]["interval"]
    return interval and all(price.get(name) == params[name] for name in names)


@dataclass(frozen=True, slots=True)
class PlanOfPrice:
    """Which version of which plan a price at Stripe stands for."""

    key: str
    version: int
    is_overage: bool


def plan_of_price(price: Json) -> PlanOfPrice | None:
    """By what we wrote on the price, or by its lookup key; None for a price that is none of our plans'."""
    noted: dict[str, Any] = price.get("metadata") or {}
    key, version = noted.get("plan_key"), str(noted.get("plan_version", ""))
    if isinstance(key, str) and version.isdigit():
        return PlanOfPrice(key, int(version), noted.get("part") == "overage")
    found = _LOOKUP.fullmatch(price.get("lookup_key") or "")
    return PlanOfPrice(found[1], int(found[2]), found[3] is not None) if found else None

"""Plans as Stripe knows them: a product a plan and a price a version; and one price for each amount that tokens beyond a plan cost.

What is beyond is counted here (`usage.overage`): Stripe is told of nothing else, and its price for that is flat.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from stonechat.billing.gateway import Json, StripeGateway
from stonechat.errors import BillingOff
from stonechat.plans.terms import PlanTerms

_LOOKUP = re.compile(r"stonechat_([a-z][a-z0-9_]*)_v([0-9]{1,7})(_overage)?")
BEYOND = "beyond"
OVERAGE_PRODUCT, OVERAGE_NAME = "stonechat_overage", "Tokens beyond the plan"
MICROS_OF_THOUSAND_IN_CENT = 10_000_000
"""Millionths of the currency for a thousand tokens, in hundredths of it for one."""


class PriceList:
    """Finds or makes prices. What was found is remembered: a published version never changes."""

    def __init__(self, gateway: StripeGateway) -> None:
        self._gateway = gateway
        self._known: dict[str, str] = {}
        self._meter: str | None = None

    async def of(self, terms: PlanTerms) -> str:
        """The id of the plan's price. Raises `BillingOff` for a plan that nobody pays for."""
        if terms.is_free:
            raise BillingOff(f"“{terms.name}” costs nothing: nothing is to be paid.")
        return await self._price(f"stonechat_{terms.key}_v{terms.version}", base_price(terms), product_name=terms.name)

    async def overage(self, currency: str, micros_per_1k_tokens: int) -> str:
        """The id of the metered price of tokens beyond a plan."""
        self._meter = self._meter or await self._gateway.ensure_meter()
        params = overage_price(currency, micros_per_1k_tokens, meter_id=self._meter)
        key = f"stonechat_overage_{currency}_{micros_per_1k_tokens}"
        return await self._price(key, params, product_name=OVERAGE_NAME)

    async def _price(self, lookup_key: str, params: Json, *, product_name: str) -> str:
        known = f"{lookup_key} {params}"
        if known not in self._known:
            price = (await self._gateway.find_prices([lookup_key])).get(lookup_key)
            if price is None or not _is_same(price, params):
                await self._gateway.ensure_product(params["product"], name=product_name)
                # A price of other terms under this name keeps its subscribers, and gives the name away.
                price = await self._gateway.create_price(params | {"transfer_lookup_key": True}, lookup_key=lookup_key)
            self._known[known] = str(price["id"])
        return self._known[known]


def base_price(terms: PlanTerms) -> Json:
    """What is paid each period."""
    return {
        "product": f"stonechat_{terms.key}",
        "currency": terms.currency,
        "tax_behavior": "exclusive",
        "nickname": f"{terms.name} {terms.version}"[:100],
        "metadata": {"plan_key": terms.key, "plan_version": str(terms.version), "part": "base"},
        "unit_amount": terms.price_cents,
        "recurring": {"interval": terms.interval},
    }


def overage_price(currency: str, micros_per_1k_tokens: int, *, meter_id: str) -> Json:
    """What each token beyond a plan costs."""
    return {
        "product": OVERAGE_PRODUCT,
        "currency": currency,
        "tax_behavior": "exclusive",
        "nickname": OVERAGE_NAME,
        "metadata": {"part": BEYOND},
        "unit_amount_decimal": unit_cents(micros_per_1k_tokens),
        "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
    }


def _is_same(price: Json, params: Json) -> bool:
    there, wanted = price.get("recurring") or {}, params["recurring"]
    amount, decimal = params.get("unit_amount"), params.get("unit_amount_decimal")
    costs = price.get("unit_amount") == amount if amount is not None else _decimal(price) == Decimal(str(decimal))
    return (
        costs
        and price.get("currency") == params["currency"]
        and there.get("interval") == wanted["interval"]
        and there.get("meter") == wanted.get("meter")
    )


def _decimal(price: Json) -> Decimal | None:
    amount = price.get("unit_amount_decimal")
    return None if amount is None else Decimal(str(amount))


def micros_of(price: Json) -> int | None:
    """What a metered price asks for a thousand tokens, in millionths of its currency."""
    amount = _decimal(price)
    return None if amount is None else round(amount * MICROS_OF_THOUSAND_IN_CENT)


def unit_cents(micros_per_1k_tokens: int) -> str:
    """The same for one token, in hundredths, as Stripe reads it."""
    return f"{Decimal(micros_per_1k_tokens) / MICROS_OF_THOUSAND_IN_CENT:f}"


def is_beyond(price: Json) -> bool:
    """Whether it is a price of tokens beyond a plan."""
    return (price.get("metadata") or {}).get("part") == BEYOND or str(price.get("lookup_key") or "").startswith(
        "stonechat_overage_"
    )


@dataclass(frozen=True, slots=True)
class PlanOfPrice:
    """Which version of which plan a price at Stripe stands for."""

    key: str
    version: int
    is_overage: bool
    """A tiered price of the scheme before, which knew by itself what a plan includes."""


def plan_of_price(price: Json) -> PlanOfPrice | None:
    """By what we wrote on the price, or by its lookup key; None for a price that is none of our plans'."""
    noted: dict[str, Any] = price.get("metadata") or {}
    key, version = noted.get("plan_key"), str(noted.get("plan_version", ""))
    if isinstance(key, str) and version.isdigit():
        return PlanOfPrice(key, int(version), noted.get("part") == "overage")
    found = _LOOKUP.fullmatch(price.get("lookup_key") or "")
    return PlanOfPrice(found[1], int(found[2]), found[3] is not None) if found else None

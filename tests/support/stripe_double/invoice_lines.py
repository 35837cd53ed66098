"""The lines of invoices: a period of a licensed price, the usage of a metered one, prorations; and what they add up to."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from support.stripe_double import meters
from support.stripe_double.account import Account
from support.stripe_double.pricing import Part, cost_of, rounded

Json = dict[str, Any]


def is_metered(item: Json) -> bool:
    return bool(item["price"]["recurring"]["usage_type"] == "metered")


def new_line(
    account: Account, part: Part, *, price: Json | None, period: tuple[int, int], words: str, currency: str,
    subscription: Json | None = None, item: Json | None = None, invoice_item: Json | None = None, proration: bool = False,
) -> Json:  # fmt: skip
    details: Json = {"proration": proration, "proration_details": {"credited_items": None},
                     "subscription": subscription["id"] if subscription else None}  # fmt: skip
    if invoice_item is not None:
        kind, details = "invoice_item_details", {**details, "invoice_item": invoice_item["id"]}
    else:
        kind, details = (
            "subscription_item_details",
            {**details, "invoice_item": None, "subscription_item": (item or {}).get("id")},
        )
    parent = {"type": kind, "invoice_item_details": None, "subscription_item_details": None, kind: details}
    pricing = price and {
        "type": "price_details", "unit_amount_decimal": None if part.unit is None else str(part.unit),
        "price_details": {"price": price["id"], "product": price["product"]},
    }  # fmt: skip
    return {
        "id": account.new_id("il"), "object": "line_item", "amount": part.amount, "currency": currency,
        "description": f"{words} ({part.words})" if part.words else words, "discount_amounts": [], "discountable": True,
        "discounts": [], "invoice": None, "livemode": False, "metadata": {}, "parent": parent,
        "period": {"start": period[0], "end": period[1]}, "pretax_credit_amounts": [], "pricing": pricing,
        "quantity": part.quantity, "quantity_decimal": str(part.quantity),
        "subscription": subscription["id"] if subscription else None, "subtotal": part.amount, "taxes": [],
        "_tax_rates": (item or {}).get("tax_rates") or [],
    }  # fmt: skip


def name_of(account: Account, price: Json) -> str:
    """Of its product: a price's nickname is hidden from customers."""
    return str(account.objects[price["product"]]["name"])


def licensed_lines(account: Account, subscription: Json, item: Json, period: tuple[int, int]) -> list[Json]:
    price, quantity = item["price"], item["quantity"]
    words = f"{quantity} × {name_of(account, price)}"
    return [
        new_line(account, part, price=price, period=period, words=words, currency=price["currency"],
                 subscription=subscription, item=item)
        for part in cost_of(price, quantity)
    ]  # fmt: skip


def usage_of(account: Account, subscription: Json, item: Json, period: tuple[int, int]) -> int:
    """What the item's meter counted in the period, since the item has had this price."""
    start = max(period[0], item["_metered_since"])
    return meters.total(account, item["price"]["recurring"]["meter"], subscription["customer"], start, period[1])


def usage_lines(account: Account, subscription: Json, item: Json, period: tuple[int, int]) -> list[Json]:
    """Lines for a metered item, marked so that they are counted again when the invoice is finalised."""
    price = item["price"]
    quantity = usage_of(account, subscription, item, period)
    lines = [
        new_line(account, part, price=price, period=period, words=f"{quantity} × {name_of(account, price)}",
                 currency=price["currency"], subscription=subscription, item=item)
        for part in cost_of(price, quantity)
    ]  # fmt: skip
    for line in lines:
        line["_usage"] = (dict(item), period)
    return lines


def counted_again(account: Account, subscription: Json, lines: list[Json]) -> list[Json]:
    """The lines with usage as it is known now."""
    out: list[Json] = []
    done: set[tuple[str, int]] = set()
    for line in lines:
        if "_usage" not in line:
            out.append(line)
            continue
        item, period = line["_usage"]
        if (item["id"], period[0]) not in done:
            done.add((item["id"], period[0]))
            out += usage_lines(account, subscription, item, period)
    return out


def proration_part(item: Json, price: Json, quantity: int, moment: int, *, sign: int) -> Part:
    """The share of a licensed price for the rest of the item's period, to the second."""
    start, end = item["current_period_start"], item["current_period_end"]
    share = Decimal(max(0, end - moment)) / Decimal(end - start)
    whole = sum(part.amount for part in cost_of(price, quantity))
    return Part(quantity, sign * rounded(share * whole), None)


def taxed_and_totalled(account: Account, invoice: Json, *, rates: list[Json], discounts: list[Json]) -> None:
    """Set discounts, taxes and totals from the invoice's lines."""
    lines = invoice["lines"]["data"]
    for line in lines:
        line["invoice"] = invoice["id"]
        line["discount_amounts"], line["taxes"] = [], []
    for discount in discounts:
        _discount(account, lines, discount)
    for line in lines:
        taxable = line["amount"] - sum(part["amount"] for part in line["discount_amounts"])
        line["taxes"] = [_tax(rate, taxable) for rate in line["_tax_rates"] or rates]
    totals: dict[str, int] = {}
    for line in lines:
        for part in line["discount_amounts"]:
            totals[part["discount"]] = totals.get(part["discount"], 0) + part["amount"]
    subtotal = sum(line["amount"] for line in lines)
    taxes = [tax for line in lines for tax in line["taxes"]]
    exclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "exclusive")
    inclusive = sum(tax["amount"] for tax in taxes if tax["tax_behavior"] == "inclusive")
    total = subtotal - sum(totals.values()) + exclusive
    invoice |= {
        "subtotal": subtotal, "subtotal_excluding_tax": subtotal - inclusive, "total": total,
        "total_excluding_tax": total - exclusive - inclusive,
        "total_discount_amounts": [{"amount": amount, "discount": name} for name, amount in totals.items()],
        "total_taxes": _summed(taxes), "discounts": [discount["id"] for discount in discounts],
        "total_pretax_credit_amounts": [],
    }  # fmt: skip
    invoice["lines"] |= {"total_count": len(lines)}


def _discount(account: Account, lines: list[Json], discount: Json) -> None:
    coupon = account.objects[discount["source"]["coupon"]]
    if percent := coupon["percent_off"]:
        shares = [rounded(Decimal(line["amount"]) * Decimal(str(percent)) / 100) for line in lines]
    else:
        whole = sum(line["amount"] for line in lines)
        left = off = max(0, min(coupon["amount_off"], whole))
        shares = []
        for place, line in enumerate(lines):
            last = place == len(lines) - 1
            share = left if last else rounded(Decimal(off) * line["amount"] / whole) if whole else 0
            shares.append(share)
            left -= share
    for line, share in zip(lines, shares, strict=True):
        if share:
            line["discount_amounts"].append({"amount": share, "discount": discount["id"]})


def _tax(rate: Json, taxable: int) -> Json:
    percent = Decimal(str(rate["percentage"]))
    amount = Decimal(taxable) * percent / (100 + percent if rate["inclusive"] else 100)
    return {
        "amount": rounded(amount), "tax_behavior": "inclusive" if rate["inclusive"] else "exclusive",
        "tax_rate_details": {"tax_rate": rate["id"]}, "taxability_reason": "standard_rated",
        "taxable_amount": taxable, "type": "tax_rate_details",
    }  # fmt: skip


def _summed(taxes: list[Json]) -> list[Json]:
    by_rate: dict[str, Json] = {}
    for tax in taxes:
        name = tax["tax_rate_details"]["tax_rate"]
        if name in by_rate:
            by_rate[name]["amount"] += tax["amount"]
            by_rate[name]["taxable_amount"] += tax["taxable_amount"]
        else:
            by_rate[name] = dict(tax)
    return list(by_rate.values())

"""What an invoice looks like and adds up to, before anybody is told of it."""

from __future__ import annotations

from typing import Any

from support.stripe_double import invoice_lines
from support.stripe_double.account import Account

Json = dict[str, Any]


def discounts_of(account: Account, owner: Json | None, moment: int) -> list[Json]:
    """The discounts of a subscription that still apply."""
    found = [account.objects[name] for name in (owner or {}).get("discounts") or []]
    return [discount for discount in found if discount["end"] is None or moment < discount["end"]]


def rates_for(account: Account, subscription: Json | None, customer: Json) -> list[Json]:
    """The tax rates of an invoice: the subscription's own, or, with automatic tax, that of the customer's country."""
    if customer["tax_exempt"] == "exempt" or subscription is None:
        return []
    if subscription["default_tax_rates"]:
        return list(subscription["default_tax_rates"])
    country = (customer["address"] or {}).get("country")
    percent = account.tax_percent.get(country or "", 0.0)
    if not subscription["automatic_tax"]["enabled"] or not percent or customer["tax_exempt"] == "reverse":
        return []
    rate_id = f"txr_auto_{country}"
    if rate_id not in account.objects:
        account.put(
            {
                "id": rate_id,
                "object": "tax_rate",
                "active": True,
                "country": country,
                "created": account.now(),
                "display_name": "VAT",
                "inclusive": False,
                "percentage": percent,
                "effective_percentage": percent,
                "rate_type": "percentage",
                "metadata": {},
            }
        )
    return [account.objects[rate_id]]


def build(
    account: Account, customer: Json, *, subscription: Json | None, reason: str, lines: list[Json],
    period: tuple[int, int], invoice_id: str | None = None,
) -> Json:  # fmt: skip
    """An invoice with its totals, which nobody has been told of: the body of a draft, or a preview."""
    clock_id = customer["test_clock"]
    now = account.now(clock_id)
    invoice_id = invoice_id or account.new_id("in")
    parent = subscription and {
        "type": "subscription_details", "quote_details": None,
        "subscription_details": {"metadata": dict(subscription["metadata"]), "subscription": subscription["id"],
                                 "subscription_proration_date": None},
    }  # fmt: skip
    automatic = subscription["collection_method"] == "charge_automatically" if subscription else True
    taxes = bool(subscription and subscription["automatic_tax"]["enabled"])
    currency = subscription["currency"] if subscription else (lines[0]["currency"] if lines else "usd")
    invoice: Json = {
        "id": invoice_id, "object": "invoice", "account_country": "US", "account_name": "Double", "created": now,
        "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0, "amount_remaining": 0, "amount_shipping": 0,
        "attempt_count": 0, "attempted": False, "auto_advance": True, "billing_reason": reason,
        "automatic_tax": {"disabled_reason": None, "enabled": taxes, "liability": None, "provider": None,
                          "status": "complete" if taxes else None},
        "collection_method": "charge_automatically" if automatic else "send_invoice", "currency": currency,
        "customer": customer["id"], "customer_email": customer["email"], "customer_name": customer["name"],
        "customer_address": customer["address"], "customer_tax_exempt": customer["tax_exempt"], "customer_tax_ids": [],
        "default_tax_rates": list(subscription["default_tax_rates"] or []) if subscription else [],
        "issuer": {"type": "self", "account": None}, "livemode": False, "metadata": {}, "parent": parent,
        "lines": {"object": "list", "data": lines, "has_more": False, "url": f"/v1/invoices/{invoice_id}/lines"},
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "payments": {"object": "list", "data": [], "has_more": False, "url": f"/v1/invoice_payments?invoice={invoice_id}"},
        "period_start": period[0], "period_end": period[1], "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0, "starting_balance": customer["balance"], "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "test_clock": clock_id,
    }  # fmt: skip
    recount(account, invoice, subscription, customer)
    return invoice


def recount(account: Account, invoice: Json, subscription: Json | None, customer: Json) -> None:
    """Totals, and what is due after the customer's balance."""
    moment = account.now(customer["test_clock"])
    discounts = discounts_of(account, subscription, moment)
    rates = rates_for(account, subscription, customer)
    invoice_lines.taxed_and_totalled(account, invoice, rates=rates, discounts=discounts)
    invoice["starting_balance"] = customer["balance"]
    due = max(0, invoice["total"] + customer["balance"]) if invoice["total"] > 0 else 0
    invoice["amount_due"] = due
    invoice["amount_remaining"] = due - invoice["amount_paid"]

"""Customers and how they pay: cards by Stripe's test tokens, some of which are declined."""

from __future__ import annotations

from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.catalog import changed
from support.stripe_double.refusals import Refused, declined
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]

TEST_CARDS = {
    "pm_card_visa": ("visa", "4242", None),
    "pm_card_mastercard": ("mastercard", "4444", None),
    "pm_card_chargeCustomerFail": ("visa", "0341", "generic_decline"),
    "pm_card_chargeDeclined": ("visa", "0002", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": ("visa", "9995", "insufficient_funds"),
}
"""Test tokens: brand, last four digits, and why its charges are declined (None: they succeed)."""
CARD_NUMBERS = {
    "4242424242424242": "pm_card_visa",
    "5555555555554444": "pm_card_mastercard",
    "4000000000000341": "pm_card_chargeCustomerFail",
    "4000000000000002": "pm_card_chargeDeclined",
    "4000000000009995": "pm_card_chargeDeclinedInsufficientFunds",
}
REFUSED_AT_ONCE = {"pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"}
"""Cards that cannot even be saved; the others are only declined when charged."""


@route("POST", "/v1/customers", "CustomerCreateParams")
def create_customer(call: Call) -> Json:
    account, params = call.account, call.params
    clock_id = call.get("test_clock")
    if clock_id:
        account.named("test_helpers.test_clock", clock_id, "test_clock")
    settings = {"custom_fields": None, "default_payment_method": None, "footer": None, "rendering_options": None}
    customer = account.put(
        {
            "balance": 0,
            "metadata": {},
            "tax_exempt": "none",
            "preferred_locales": [],
            **{
                key: params[key]
                for key in params
                if key not in ("expand", "payment_method", "tax_id_data", "tax", "source")
            },
            "id": account.new_id("cus", 14),
            "object": "customer",
            "created": account.now(clock_id),
            "delinquent": False,
            "invoice_prefix": account.new_id("", 8)[1:].upper(),
            "next_invoice_sequence": 1,
            "invoice_settings": {**settings, **params.get("invoice_settings", {})},
        }
    )
    if method := call.get("payment_method"):
        attached(account, method, customer)
    if method := customer["invoice_settings"]["default_payment_method"]:
        customer["invoice_settings"]["default_payment_method"] = attached(account, method, customer)["id"]
    account.emit("customer.created", customer)
    return customer


@route("POST", "/v1/customers/{id}", "CustomerUpdateParams")
def update_customer(call: Call) -> Json:
    account, customer = call.account, call.account.find("customer", call.id)
    if settings := call.params.pop("invoice_settings", None):
        if method := settings.get("default_payment_method"):
            settings["default_payment_method"] = attached(account, method, customer)["id"]
        customer["invoice_settings"] = {**customer["invoice_settings"], **settings}
    return changed(call, "customer", "customer.updated", apart=("tax", "source"))


@route("GET", "/v1/customers/{id}", "CustomerRetrieveParams")
def get_customer(call: Call) -> Json:
    gone = call.account.objects.get(f"deleted:{call.id}")
    return gone or call.account.find("customer", call.id)


@route("GET", "/v1/customers", "CustomerListParams")
def list_customers(call: Call) -> Json:
    return listed(call, call.account.rows("customer"), equal=("email", "test_clock"))


@route("DELETE", "/v1/customers/{id}", "CustomerDeleteParams")
def delete_customer(call: Call) -> Json:
    from support.stripe_double.subscription_changes import end_subscription

    account, customer = call.account, call.account.find("customer", call.id)
    for subscription in list(account.rows("subscription")):
        if subscription["customer"] == call.id and subscription["ended_at"] is None:
            end_subscription(account, subscription, "cancellation_requested")
    account.emit("customer.deleted", customer)
    gone = account.drop("customer", call.id)
    account.objects[f"deleted:{call.id}"] = gone
    return gone


def attached(account: Account, method_id: str, customer: Json) -> Json:
    """A payment method of the customer's; a test token such as `pm_card_visa` becomes a new one."""
    if method_id in TEST_CARDS:
        if method_id in REFUSED_AT_ONCE:
            raise declined(TEST_CARDS[method_id][2] or "generic_decline", param="")
        method = new_card(account, method_id, customer.get("test_clock"))
    else:
        method = account.named("payment_method", method_id, "payment_method")
    if method["customer"] not in (None, customer["id"]):
        raise Refused(
            "The payment method you provided has already been attached to a customer.", param="payment_method"
        )
    if method["customer"] is None:
        method["customer"] = customer["id"]
        account.emit("payment_method.attached", method)
    return method


def new_card(account: Account, token: str, clock_id: str | None = None) -> Json:
    brand, last4, reason = TEST_CARDS[token]
    address = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
    card = {
        "brand": brand, "last4": last4, "exp_month": 12, "exp_year": 2040, "country": "US", "funding": "credit",
        "fingerprint": account.new_id("", 16)[1:], "display_brand": brand,
    }  # fmt: skip
    return account.put(
        {
            "id": account.new_id("pm"),
            "object": "payment_method",
            "type": "card",
            "card": card,
            "metadata": {},
            "billing_details": {"address": address, "email": None, "name": None, "phone": None, "tax_id": None},
            "created": account.now(clock_id),
            "customer": None,
            "allow_redisplay": "unspecified",
            "_declined": reason,
        }
    )


def paying_with(account: Account, customer: Json, subscription: Json | None = None) -> Json | None:
    """The payment method that a renewal would be charged to."""
    chosen = (subscription or {}).get("default_payment_method") or customer["invoice_settings"][
        "default_payment_method"
    ]
    return account.objects.get(chosen) if chosen else None


def decline_of(account: Account, customer: Json, method: Json | None) -> str | None:
    """Why a charge would be declined; None where it succeeds."""
    if customer["id"] in account.declining:
        return account.declining[customer["id"]]
    return "missing" if method is None else method["_declined"]


@route("POST", "/v1/payment_methods", "PaymentMethodCreateParams")
def create_payment_method(call: Call) -> Json:
    token = (call.get("card") or {}).get("token", "tok_visa").replace("tok_", "pm_card_")
    if token not in TEST_CARDS:
        raise Refused("Only test tokens such as tok_visa can be used.", param="card[token]")
    return new_card(call.account, token)


@route("POST", "/v1/payment_methods/{id}/attach", "PaymentMethodAttachParams")
def attach_payment_method(call: Call) -> Json:
    return attached(call.account, call.id, call.account.named("customer", call.params["customer"], "customer"))


@route("POST", "/v1/payment_methods/{id}/detach", "PaymentMethodDetachParams")
def detach_payment_method(call: Call) -> Json:
    method = call.account.find("payment_method", call.id)
    owner = call.account.objects.get(method["customer"] or "")
    method["customer"] = None
    if owner and owner["invoice_settings"]["default_payment_method"] == call.id:
        owner["invoice_settings"]["default_payment_method"] = None
    call.account.emit("payment_method.detached", method)
    return method


@route("GET", "/v1/payment_methods/{id}", "PaymentMethodRetrieveParams")
def get_payment_method(call: Call) -> Json:
    return call.account.find("payment_method", call.id)


@route("GET", "/v1/payment_methods", "PaymentMethodListParams")
def list_payment_methods(call: Call) -> Json:
    return listed(call, call.account.rows("payment_method"), equal=("customer", "type"))


@route("GET", "/v1/customers/{id}/payment_methods", "CustomerPaymentMethodListParams")
def list_customer_payment_methods(call: Call) -> Json:
    call.account.find("customer", call.id)
    rows = [row for row in call.account.rows("payment_method") if row["customer"] == call.id]
    return listed(call, rows, equal=("type",))


@route("GET", "/v1/customers/{id}/payment_methods/{pm}", "CustomerPaymentMethodRetrieveParams")
def get_customer_payment_method(call: Call) -> Json:
    return call.account.find("payment_method", call.ids[1])

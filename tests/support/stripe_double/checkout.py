"""Checkout: sessions, and what paying, declining or leaving on their page does."""

from __future__ import annotations

from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.customers import CARD_NUMBERS, attached, new_card
from support.stripe_double.invoice_bodies import rates_for
from support.stripe_double.pricing import cost_of, rounded
from support.stripe_double.refusals import Refused, declined
from support.stripe_double.routing import Call, listed, route
from support.stripe_double.subscriptions import start

Json = dict[str, Any]
LIFE_SECONDS = 24 * 3600
SHORTEST_TRIAL = 48 * 3600


@route("POST", "/v1/checkout/sessions", "checkout.SessionCreateParams")
def create_session(call: Call) -> Json:
    account, params = call.account, call.params
    if params.get("mode") not in ("subscription", "setup"):
        raise Refused("The double takes `mode` subscription and setup.", param="mode")
    if params.get("ui_mode", "hosted_page") == "hosted_page" and not params.get("success_url"):
        raise Refused("Missing required param: success_url.", code="parameter_missing", param="success_url")
    customer = account.named("customer", params["customer"], "customer") if call.get("customer") else None
    if (
        params.get("automatic_tax", {}).get("enabled")
        and customer
        and not customer["address"]
        and "customer_update" not in params
    ):
        raise Refused(
            "Automatic tax calculation in Checkout requires a valid address on the Customer.",
            code="customer_tax_location_invalid",
        )
    now = account.now(customer["test_clock"] if customer else None)
    data = params.get("subscription_data", {})
    if data.get("trial_end") and data["trial_end"] < now + SHORTEST_TRIAL:
        raise Refused(
            "The `trial_end` date has to be at least 2 days in the future.", param="subscription_data[trial_end]"
        )
    if call.get("allow_promotion_codes") and call.get("discounts"):
        raise Refused(
            "You may only specify one of these parameters: allow_promotion_codes, discounts.",
            param="allow_promotion_codes",
        )
    lines = [_line(account, given) for given in params.get("line_items", [])]
    if params["mode"] == "subscription" and not lines:
        raise Refused("Missing required param: line_items.", code="parameter_missing", param="line_items")
    session_id = account.new_id("cs_test", 40)
    subtotal = sum(line["amount_subtotal"] for line in lines)
    tax = {"enabled": False, "liability": None, "provider": None, "status": None, **params.get("automatic_tax", {})}
    return account.put(
        {
            "id": session_id,
            "object": "checkout.session",
            "created": now,
            "mode": params["mode"],
            "status": "open",
            "allow_promotion_codes": call.get("allow_promotion_codes"),
            "automatic_tax": tax,
            "amount_subtotal": subtotal,
            "amount_total": subtotal,
            "cancel_url": call.get("cancel_url"),
            "client_reference_id": call.get("client_reference_id"),
            "currency": lines[0]["currency"] if lines else None,
            "custom_fields": [],
            "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
            "customer": customer["id"] if customer else None,
            "customer_email": call.get("customer_email"),
            "expires_at": call.get("expires_at", now + LIFE_SECONDS),
            "metadata": call.get("metadata", {}),
            "line_items": {
                "object": "list",
                "data": lines,
                "has_more": False,
                "url": f"/v1/checkout/sessions/{session_id}/line_items",
            },
            "payment_method_collection": call.get("payment_method_collection", "always"),
            "payment_method_types": ["card"],
            "payment_status": "unpaid",
            "shipping_options": [],
            "success_url": call.get("success_url"),
            "ui_mode": "hosted_page",
            "url": f"{account.base_url}/pay/{session_id}",
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
            "discounts": [],
            "_data": data,
            "_discounts": call.get("discounts", []),
        }
    )


def _line(account: Account, given: Json) -> Json:
    price = account.named("price", given.get("price", ""), "line_items[0][price]")
    metered = (price["recurring"] or {}).get("usage_type") == "metered"
    if metered and "quantity" in given:
        raise Refused("You cannot set the quantity for metered prices.", param="line_items[0][quantity]")
    if not metered and "quantity" not in given:
        raise Refused("Quantity is required. Add `quantity` to `line_items[0]`", param="line_items[0][quantity]")
    cost = 0 if metered else sum(part.amount for part in cost_of(price, given["quantity"]))
    return {
        "id": account.new_id("li"), "object": "item", "amount_discount": 0, "amount_subtotal": cost, "amount_tax": 0,
        "amount_total": cost, "currency": price["currency"], "description": account.objects[price["product"]]["name"],
        "metadata": {}, "price": price, "quantity": given.get("quantity"), "adjustable_quantity": None,
    }  # fmt: skip


@route("GET", "/v1/checkout/sessions/{id}", "checkout.SessionRetrieveParams")
def get_session(call: Call) -> Json:
    return call.account.find("checkout.session", call.id)


@route("GET", "/v1/checkout/sessions", "checkout.SessionListParams")
def list_sessions(call: Call) -> Json:
    return listed(call, call.account.rows("checkout.session"), equal=("customer", "status", "subscription"))


@route("GET", "/v1/checkout/sessions/{id}/line_items", "checkout.SessionLineItemListParams")
def list_line_items(call: Call) -> Json:
    lines: Json = call.account.find("checkout.session", call.id)["line_items"]
    return lines


@route("POST", "/v1/checkout/sessions/{id}/expire", "checkout.SessionExpireParams")
def expire_session(call: Call) -> Json:
    session = call.account.find("checkout.session", call.id)
    if session["status"] != "open":
        raise Refused(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {session["status"]}.'
        )
    session |= {"status": "expired", "url": None}
    call.account.emit("checkout.session.expired", session)
    return session


def needs_card(session: Json) -> bool:
    """A trial with `payment_method_collection: if_required` asks for none."""
    data = session["_data"]
    trial = data.get("trial_end") or data.get("trial_period_days")
    return not (session["payment_method_collection"] == "if_required" and trial)


def complete(account: Account, session: Json, *, card_number: str = "", country: str = "", code: str = "") -> Json:
    """What the page's button does. Raises the decline of a card; the session stays open then."""
    if session["status"] != "open":
        raise Refused("This Checkout session is over.")
    if session["customer"] is None:
        from support.stripe_double.customers import create_customer

        session["customer"] = create_customer(Call(account, {"email": session["customer_email"]}, (), ""))["id"]
    customer = account.objects[session["customer"]]
    if country:
        customer["address"] = {**dict.fromkeys(("city", "line1", "line2", "postal_code", "state")), "country": country}
    method = _card(account, customer, card_number) if needs_card(session) else None
    if session["mode"] == "subscription":
        _subscribe(account, session, customer, method, code)
    elif method is not None:
        intent = account.put(
            {
                "id": account.new_id("seti"),
                "object": "setup_intent",
                "created": account.now(customer["test_clock"]),
                "customer": customer["id"],
                "payment_method": method["id"],
                "payment_method_types": ["card"],
                "status": "succeeded",
                "usage": "off_session",
            }
        )
        session |= {"setup_intent": intent["id"], "payment_status": "no_payment_required"}
    session |= {"status": "complete", "url": None}
    account.emit("checkout.session.completed", session)
    return session


def _card(account: Account, customer: Json, number: str) -> Json:
    token = CARD_NUMBERS.get(number.replace(" ", ""))
    if token is None:
        raise Refused("Your card number is invalid.", status=402, kind="card_error", code="invalid_number")
    if customer["id"] in account.declining:
        raise declined(account.declining[customer["id"]])
    card = attached(account, token, customer)
    if card["_declined"] is not None:  # it can be saved, and fails when it is charged later
        account.emit("payment_method.updated", card)
    return card


def _subscribe(account: Account, session: Json, customer: Json, method: Json | None, code: str) -> None:
    data = {key: value for key, value in session["_data"].items() if value is not None}
    given = [
        {"price": line["price"]["id"], **({} if line["quantity"] is None else {"quantity": line["quantity"]})}
        for line in session["line_items"]["data"]
    ]
    discounts = list(session["_discounts"])
    if code:
        found = next((row for row in account.rows("promotion_code") if row["code"] == code and row["active"]), None)
        if found is None:
            raise Refused("This code is invalid.", code="promotion_code_invalid", param="promotion_code")
        discounts = [{"promotion_code": found["id"]}]
    params = {
        **data,
        "customer": customer["id"],
        "items": given,
        "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]},
    }
    if discounts:
        params["discounts"] = discounts
    if method is not None:
        params["default_payment_method"] = method["id"]
    reason = method["_declined"] if method and not (data.get("trial_end") or data.get("trial_period_days")) else None
    if reason:
        raise declined(reason)
    subscription = start(account, params, from_checkout=True)
    invoice = account.objects[subscription["latest_invoice"]]
    session |= {
        "subscription": subscription["id"], "invoice": invoice["id"], "amount_total": invoice["total"],
        "payment_status": "paid" if invoice["amount_due"] else "no_payment_required",
        "total_details": {"amount_discount": sum(row["amount"] for row in invoice["total_discount_amounts"]),
                          "amount_shipping": 0, "amount_tax": sum(row["amount"] for row in invoice["total_taxes"])},
    }  # fmt: skip


def tax_of(account: Account, session: Json, customer: Json | None) -> int:
    """What the page shows as tax before it is paid."""
    if customer is None or not session["automatic_tax"]["enabled"]:
        return 0
    rates = rates_for(account, {"default_tax_rates": [], "automatic_tax": session["automatic_tax"]}, customer)
    return sum(rounded(session["amount_subtotal"] * rate["percentage"] / 100) for rate in rates) if rates else 0


def spare_card(account: Account, customer: Json, number: str) -> Json:
    """A card that the portal adds, whatever becomes of its charges."""
    token = CARD_NUMBERS.get(number.replace(" ", ""))
    if token is None:
        raise Refused("Your card number is invalid.", status=402, kind="card_error", code="invalid_number")
    return attached(account, new_card(account, token, customer["test_clock"])["id"], customer)

"""The customer portal: sessions, and what its buttons do."""

from __future__ import annotations

from typing import Any

from support.stripe_double import invoices
from support.stripe_double.account import Account
from support.stripe_double.checkout import spare_card
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route
from support.stripe_double.subscription_changes import update
from support.stripe_double.subscriptions import items_of

Json = dict[str, Any]


def default_configuration(account: Account) -> Json:
    found = next(iter(account.rows("billing_portal.configuration")), None)
    return found or _configuration(account, {"features": {}})


def _configuration(account: Account, params: Json) -> Json:
    now = account.now()
    features: Json = {
        "customer_update": {"allowed_updates": ["email", "address"], "enabled": True},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True, "payment_method_configuration": None},
        "subscription_cancel": {"cancellation_reason": {"enabled": False, "options": []}, "enabled": True,
                                "mode": "at_period_end", "proration_behavior": "none"},
        "subscription_pause": {"enabled": False, "duration": {"interval_options": [], "type": "indefinite"}},
        "subscription_update": {"default_allowed_updates": [], "enabled": False, "products": [], "trial_update_behavior": "end_trial",
                                "proration_behavior": "always_invoice", "schedule_at_period_end": {"conditions": []}},
    }  # fmt: skip
    for name, wanted in params["features"].items():
        features[name] |= wanted
    first = not account.tables.get("billing_portal.configuration")
    profile = {
        "headline": None,
        "privacy_policy_url": None,
        "terms_of_service_url": None,
        **params.get("business_profile", {}),
    }
    return account.put(
        {
            "id": account.new_id("bpc"),
            "object": "billing_portal.configuration",
            "active": True,
            "created": now,
            "business_profile": profile,
            "default_return_url": params.get("default_return_url"),
            "features": features,
            "is_default": first,
            "login_page": {"enabled": False, "url": None},
            "metadata": {},
            "updated": now,
        }
    )


@route("POST", "/v1/billing_portal/configurations", "billing_portal.ConfigurationCreateParams")
def create_configuration(call: Call) -> Json:
    return _configuration(call.account, call.params)


@route("GET", "/v1/billing_portal/configurations", "billing_portal.ConfigurationListParams")
def list_configurations(call: Call) -> Json:
    return listed(call, call.account.rows("billing_portal.configuration"), equal=("active", "is_default"))


@route("POST", "/v1/billing_portal/sessions", "billing_portal.SessionCreateParams")
def create_session(call: Call) -> Json:
    account = call.account
    customer = account.named("customer", call.params.get("customer", ""), "customer")
    wanted = call.get("configuration")
    configuration = (
        account.named("billing_portal.configuration", wanted, "configuration")
        if wanted
        else default_configuration(account)
    )
    session_id = account.new_id("bps")
    session = account.put(
        {
            "id": session_id,
            "object": "billing_portal.session",
            "configuration": configuration["id"],
            "created": account.now(customer["test_clock"]),
            "customer": customer["id"],
            "flow": None,
            "return_url": call.get("return_url"),
            "url": f"{account.base_url}/portal/{session_id}",
        }
    )
    account.emit("billing_portal.session.created", session)
    return session


def plans_offered(account: Account, session: Json) -> list[Json]:
    """Prices that the portal lets the customer switch to."""
    feature = account.objects[session["configuration"]]["features"]["subscription_update"]
    if not feature["enabled"]:
        return []
    return [account.objects[price_id] for product in feature["products"] or [] for price_id in product["prices"]]


def press(account: Account, session: Json, form: dict[str, str]) -> str:
    """One button of the portal's page; returns what to tell the customer. Raises what is not possible."""
    customer = account.objects[session["customer"]]
    subscription = account.objects.get(form.get("subscription", ""))
    if subscription is not None and subscription["customer"] != customer["id"]:
        raise Refused("This subscription is not yours.", status=404)
    match form.get("action"), subscription:
        case "card", _:
            card = spare_card(account, customer, form.get("number", ""))
            customer["invoice_settings"]["default_payment_method"] = card["id"]
            for row in account.rows("subscription"):
                if row["customer"] == customer["id"] and row["ended_at"] is None:
                    row["default_payment_method"] = card["id"]
                    account.emit("customer.subscription.updated", row)
            account.emit("customer.updated", customer)
            return "Your card was changed."
        case "cancel", dict():
            update(account, subscription, {"cancel_at_period_end": True})
            return "Your subscription will end with the period."
        case "resume", dict():
            update(account, subscription, {"cancel_at_period_end": False})
            return "Your subscription goes on."
        case "switch", dict():
            base = next(
                item for item in items_of(subscription) if item["price"]["recurring"]["usage_type"] == "licensed"
            )
            if form.get("price") not in [price["id"] for price in plans_offered(account, session)]:
                raise Refused("This plan is not offered.")
            update(
                account,
                subscription,
                {"items": [{"id": base["id"], "price": form["price"]}], "proration_behavior": "always_invoice"},
            )
            return "Your plan was changed."
        case "pay", _:
            invoice = account.objects.get(form.get("invoice", ""))
            if invoice is None or invoice["customer"] != customer["id"]:
                raise Refused("This invoice is not yours.", status=404)
            invoices.pay(account, invoice)
            return "Thank you: the invoice is paid."
        case _:
            raise Refused("This button does nothing.")

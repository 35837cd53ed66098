"""Subscriptions as they begin: items, trials, discounts, the first invoice; and how they are read."""

from __future__ import annotations

from typing import Any

from support.stripe_double import invoice_lines, invoices
from support.stripe_double.account import Account
from support.stripe_double.customers import attached, paying_with
from support.stripe_double.pricing import added, legacy_plan, period_around
from support.stripe_double.refusals import Refused, declined
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]
DAY = 86_400


def items_of(subscription: Json) -> list[Json]:
    items: list[Json] = subscription["items"]["data"]
    return items


def new_item(account: Account, subscription: Json, given: Json, *, period: tuple[int, int], now: int) -> Json:
    price = account.named("price", given.get("price", ""), "items[0][price]")
    if not price["active"]:
        raise Refused(
            "The price specified is inactive. This field only accepts active prices.", param="items[0][price]"
        )
    if price["recurring"] is None:
        raise Refused(
            "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`."
        )
    item = account.put(
        {
            "id": account.new_id("si", 14),
            "object": "subscription_item",
            "created": now,
            "discounts": [],
            "current_period_start": period[0],
            "current_period_end": period[1],
            "metadata": given.get("metadata", {}),
            "subscription": subscription["id"],
            "tax_rates": tax_rates(account, given.get("tax_rates")),
        }
    )
    return priced(item, price, given.get("quantity"), now=now)


def priced(item: Json, price: Json, quantity: int | None, *, now: int) -> Json:
    metered = price["recurring"]["usage_type"] == "metered"
    if metered and quantity:
        raise Refused("You cannot set the quantity for metered plans.", param="items[0][quantity]")
    if metered and item.get("price") is not price:
        item["_metered_since"] = now
    item |= {
        "price": price,
        "plan": legacy_plan(price),
        "quantity": None if metered else (1 if quantity is None else quantity),
    }
    return item


def tax_rates(account: Account, ids: list[str] | str | None) -> list[Json]:
    return [account.named("tax_rate", name, "tax_rates") for name in ids or []]


def add_discounts(account: Account, subscription: Json, given: list[Json] | str | None, now: int) -> None:
    """Replace a subscription's discounts by those of the coupons or promotion codes named."""
    subscription["discounts"] = []
    for wanted in given or []:
        if "discount" in wanted:
            subscription["discounts"].append(wanted["discount"])
            continue
        code = (
            account.named("promotion_code", wanted["promotion_code"], "discounts")
            if "promotion_code" in wanted
            else None
        )
        if code is not None and not code["active"]:
            raise Refused("This promotion code is expired.", param="discounts")
        coupon = account.named("coupon", code["promotion"]["coupon"] if code else wanted.get("coupon", ""), "discounts")
        months = coupon["duration_in_months"] if coupon["duration"] == "repeating" else None
        for redeemed in filter(None, (coupon, code)):
            redeemed["times_redeemed"] += 1
        discount = account.put(
            {
                "id": account.new_id("di"),
                "object": "discount",
                "customer": subscription["customer"],
                "start": now,
                "end": added(now, {"interval": "month", "interval_count": 1}, months) if months else None,
                "promotion_code": code["id"] if code else None,
                "source": {"type": "coupon", "coupon": coupon["id"]},
                "subscription": subscription["id"],
            }
        )
        subscription["discounts"].append(discount["id"])
        account.emit("customer.discount.created", discount)


def start(account: Account, params: Json, *, from_checkout: bool = False) -> Json:
    """Begin a subscription with the parameters of `POST /v1/subscriptions`: trial, first invoice, first charge."""
    customer = account.named("customer", params.get("customer", ""), "customer")
    now = account.now(customer["test_clock"])
    if not params.get("items"):
        raise Refused("Missing required param: items.", code="parameter_missing", param="items")
    subscription = _blank(account, params, customer, now)
    trial_end = _trial_end(params, now)
    first_price = account.named("price", params["items"][0].get("price", ""), "items[0][price]")
    recurring = first_price["recurring"] or {"interval": "month", "interval_count": 1}
    anchor = trial_end or params.get("billing_cycle_anchor") or now
    period = (now, trial_end or (anchor if anchor > now else added(now, recurring, 1)))
    subscription |= {"billing_cycle_anchor": anchor, "trial_end": trial_end, "trial_start": now if trial_end else None}
    data = [new_item(account, subscription, given, period=period, now=now) for given in params["items"]]
    if len({item["price"]["id"] for item in data}) != len(data):
        raise Refused("You cannot add multiple items with the same price to one subscription.", param="items")
    for item in data:
        if not trial_end and anchor == now:
            item["current_period_end"] = added(now, item["price"]["recurring"], 1)
    subscription["items"] = {
        "object": "list", "data": data, "has_more": False, "total_count": len(data),
        "url": f"/v1/subscription_items?subscription={subscription['id']}",
    }  # fmt: skip
    subscription["currency"] = data[0]["price"]["currency"]
    set_end(subscription, params, now)
    if method := params.get("default_payment_method"):
        subscription["default_payment_method"] = attached(account, method, customer)["id"]
    behaviour = params.get("payment_behavior", "allow_incomplete")
    automatic = subscription["collection_method"] == "charge_automatically"
    method = paying_with(account, customer, subscription)
    free = trial_end is not None or _costs_nothing(account, subscription)
    if automatic and not free and method is None and behaviour != "default_incomplete" and not from_checkout:
        raise Refused(
            "This customer has no attached payment source or default payment method. Please consider adding a default "
            "payment method.", code="resource_missing",
        )  # fmt: skip
    subscription["status"] = "trialing" if trial_end else "incomplete" if automatic and not free else "active"
    subscription = account.put(subscription)
    add_discounts(account, subscription, params.get("discounts"), now)
    customer["currency"] = customer["currency"] or subscription["currency"]
    account.emit("customer.subscription.created", subscription)
    _first_invoice(account, subscription, customer, behaviour)
    if trial_end and trial_end - now <= 3 * DAY:
        subscription["_trial_told"] = True
        account.emit("customer.subscription.trial_will_end", subscription)
    return subscription


def _blank(account: Account, params: Json, customer: Json, now: int) -> Json:
    tax = params.get("automatic_tax", {"enabled": False})
    mode = params.get("billing_mode", {"type": "flexible"})
    return {
        "id": account.new_id("sub"), "object": "subscription", "billing_schedules": [], "cancel_at_period_end": False,
        "automatic_tax": {"disabled_reason": None, "enabled": tax["enabled"], "liability": None},
        "billing_mode": {"flexible": {"proration_discounts": "included"} if mode["type"] == "flexible" else None, **mode},
        "cancellation_details": {"comment": None, "feedback": None, "feedback_option": None, "reason": None},
        "collection_method": params.get("collection_method", "charge_automatically"), "created": now,
        "customer": customer["id"], "days_until_due": params.get("days_until_due"),
        "default_tax_rates": tax_rates(account, params.get("default_tax_rates")), "description": params.get("description"),
        "discounts": [], "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self", "account": None}},
        "livemode": False, "metadata": params.get("metadata") or {}, "start_date": now, "status": "incomplete",
        "cancel_at": None, "canceled_at": None, "ended_at": None, "schedule": None, "latest_invoice": None,
        "default_payment_method": None,
        "payment_settings": {"payment_method_options": None, "payment_method_types": None,
                             "save_default_payment_method": "off", **params.get("payment_settings", {})},
        "test_clock": customer["test_clock"],
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice", "billing_cycle_anchor": None,
                                            **params.get("trial_settings", {}).get("end_behavior", {})}},
    }  # fmt: skip


def _trial_end(params: Json, now: int) -> int | None:
    wanted, days = params.get("trial_end"), params.get("trial_period_days")
    if wanted not in (None, "", "now"):
        if wanted <= now:
            raise Refused("Invalid timestamp: must be in the future.", param="trial_end")
        return int(wanted)
    return now + days * DAY if days and wanted != "now" else None


def set_end(subscription: Json, params: Json, now: int) -> None:
    """Apply `cancel_at_period_end` and `cancel_at`."""
    ends = [item["current_period_end"] for item in items_of(subscription)]
    if "cancel_at_period_end" in params:
        subscription["cancel_at_period_end"] = params["cancel_at_period_end"]
        subscription["cancel_at"] = min(ends) if params["cancel_at_period_end"] else None
    if "cancel_at" in params:
        wanted = {"min_period_end": min(ends), "max_period_end": max(ends), "": None}.get(
            params["cancel_at"], params["cancel_at"]
        )
        if wanted is not None and wanted <= now:
            raise Refused("Invalid timestamp: must be in the future.", param="cancel_at")
        subscription |= {"cancel_at": wanted, "cancel_at_period_end": False}
    if {"cancel_at_period_end", "cancel_at"} & set(params):
        asked = subscription["cancel_at"] is not None
        subscription["canceled_at"] = now if asked else None
        subscription["cancellation_details"]["reason"] = "cancellation_requested" if asked else None


def _costs_nothing(account: Account, subscription: Json) -> bool:
    licensed = [item for item in items_of(subscription) if not invoice_lines.is_metered(item)]
    return not any(
        line["amount"]
        for item in licensed
        for line in invoice_lines.licensed_lines(account, subscription, item, (0, 1))
    )


def _first_invoice(account: Account, subscription: Json, customer: Json, behaviour: str) -> None:
    now = account.now(customer["test_clock"])
    lines: list[Json] = []
    for item in items_of(subscription):
        period = (item["current_period_start"], item["current_period_end"])
        if invoice_lines.is_metered(item):
            lines += invoice_lines.usage_lines(account, subscription, item, (now, now))
        else:
            made = invoice_lines.licensed_lines(account, subscription, item, period)
            lines += [_shortened(subscription, item, line) for line in made]
    invoice = invoices.draft(
        account, customer, subscription=subscription, reason="subscription_create", lines=lines, period=(now, now)
    )
    invoices.finalize(account, invoice)
    if subscription["collection_method"] == "send_invoice":
        invoice["auto_advance"] = False
    if (
        invoice["status"] != "open"
        or invoice["collection_method"] != "charge_automatically"
        or behaviour == "default_incomplete"
    ):
        return
    if (reason := invoices.attempt(account, invoice)) and behaviour == "error_if_incomplete":
        raise declined(reason)


def _shortened(subscription: Json, item: Json, line: Json) -> Json:
    """Free in a trial; a share of the price where the first period only reaches to a billing anchor."""
    start, end = item["current_period_start"], item["current_period_end"]
    if subscription["status"] == "trialing":
        line |= {"amount": 0, "subtotal": 0, "description": f"Trial period for {line['description']}"}
    else:
        whole = period_around(subscription["billing_cycle_anchor"], item["price"]["recurring"], start)
        share = (end - start) / (whole[1] - whole[0])
        if share < 1:
            line |= {"amount": round(line["amount"] * share), "subtotal": round(line["amount"] * share)}
    return line


@route("POST", "/v1/subscriptions", "SubscriptionCreateParams")
def create_subscription(call: Call) -> Json:
    return start(call.account, {key: value for key, value in call.params.items() if value is not None})


@route("GET", "/v1/subscriptions/{id}", "SubscriptionRetrieveParams")
def get_subscription(call: Call) -> Json:
    return call.account.find("subscription", call.id)


@route("GET", "/v1/subscriptions", "SubscriptionListParams")
def list_subscriptions(call: Call) -> Json:
    """Without a status, those that have not ended; `all` for every one."""
    status, price = call.get("status"), call.get("price")
    over = ("canceled", "incomplete_expired")
    rows = [
        row
        for row in call.account.rows("subscription")
        if (
            status == "all"
            or (
                row["status"] == status
                if status and status != "ended"
                else (row["status"] in over) == (status == "ended")
            )
        )
        and (price is None or any(item["price"]["id"] == price for item in items_of(row)))
    ]
    return listed(call, rows, equal=("customer", "collection_method", "test_clock"))


@route("GET", "/v1/subscription_items", "SubscriptionItemListParams")
def list_items(call: Call) -> Json:
    return listed(call, items_of(call.account.named("subscription", call.params["subscription"], "subscription")))


@route("GET", "/v1/subscription_items/{id}", "SubscriptionItemRetrieveParams")
def get_item(call: Call) -> Json:
    return call.account.find("subscription_item", call.id)

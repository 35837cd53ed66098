"""The API of a subscription's items, one at a time."""

from __future__ import annotations

from typing import Any

from support.stripe_double.routing import Call, route
from support.stripe_double.subscription_changes import update
from support.stripe_double.subscriptions import items_of

Json = dict[str, Any]


@route("POST", "/v1/subscription_items/{id}", "SubscriptionItemUpdateParams")
def update_item(call: Call) -> Json:
    item = call.account.find("subscription_item", call.id)
    subscription = call.account.objects[item["subscription"]]
    about_item = ("price", "quantity", "metadata", "tax_rates")
    wanted = {"id": call.id, **{key: call.params[key] for key in about_item if key in call.params}}
    rest = {
        key: call.params[key]
        for key in ("proration_behavior", "proration_date", "payment_behavior")
        if key in call.params
    }
    update(call.account, subscription, {"items": [wanted], **rest})
    return call.account.objects[call.id]


@route("POST", "/v1/subscription_items", "SubscriptionItemCreateParams")
def create_item(call: Call) -> Json:
    subscription = call.account.named("subscription", call.params["subscription"], "subscription")
    wanted = {key: call.params[key] for key in ("price", "quantity", "metadata", "tax_rates") if key in call.params}
    rest = {
        key: call.params[key]
        for key in ("proration_behavior", "proration_date", "payment_behavior")
        if key in call.params
    }
    update(call.account, subscription, {"items": [wanted], **rest})
    return items_of(subscription)[-1]


@route("DELETE", "/v1/subscription_items/{id}", "SubscriptionItemDeleteParams")
def delete_item(call: Call) -> Json:
    item = call.account.find("subscription_item", call.id)
    rest = {
        key: call.params[key]
        for key in ("proration_behavior", "proration_date", "payment_behavior")
        if key in call.params
    }
    update(
        call.account, call.account.objects[item["subscription"]], {"items": [{"id": call.id, "deleted": True}], **rest}
    )
    return {"id": call.id, "object": "subscription_item", "deleted": True}

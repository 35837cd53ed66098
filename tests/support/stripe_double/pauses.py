"""Subscriptions that pause and come back."""

from __future__ import annotations

from typing import Any

from support.stripe_double import invoice_lines, invoices
from support.stripe_double.pricing import added
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, route
from support.stripe_double.subscriptions import items_of

Json = dict[str, Any]


@route("POST", "/v1/subscriptions/{id}/pause", "SubscriptionPauseParams")
def pause(call: Call) -> Json:
    account, subscription = call.account, call.account.find("subscription", call.id)
    if subscription["status"] not in ("active", "past_due", "trialing"):
        raise Refused(f"A subscription that is {subscription['status']} cannot be paused.")
    now = account.now(subscription["test_clock"])
    paused = {"subscription": {"type": "pause_requested"}, "transitioned_at": now, "type": "subscription"}
    subscription |= {"status": "paused", "status_details": {"paused": paused}}
    account.emit("customer.subscription.updated", subscription)
    account.emit("customer.subscription.paused", subscription)
    return subscription


@route("POST", "/v1/subscriptions/{id}/resume", "SubscriptionResumeParams")
def resume(call: Call) -> Json:
    """Begins a period now and invoices it; the subscription is active once that is paid."""
    account, subscription = call.account, call.account.find("subscription", call.id)
    if subscription["status"] != "paused":
        raise Refused("Only a paused subscription can be resumed.")
    customer = account.objects[subscription["customer"]]
    now = account.now(subscription["test_clock"])
    subscription |= {"billing_cycle_anchor": now, "status_details": None}
    lines: list[Json] = []
    for item in items_of(subscription):
        item |= {"current_period_start": now, "current_period_end": added(now, item["price"]["recurring"], 1)}
        if not invoice_lines.is_metered(item):
            lines += invoice_lines.licensed_lines(account, subscription, item, (now, item["current_period_end"]))
    invoice = invoices.draft(
        account, customer, subscription=subscription, reason="subscription_update", lines=lines, period=(now, now)
    )
    invoices.collect(account, invoice)
    account.emit("customer.subscription.updated", subscription)
    account.emit("customer.subscription.resumed", subscription)
    return subscription

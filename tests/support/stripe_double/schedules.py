"""Subscription schedules: a change that waits for the end of the period, as a downgrade does."""

from __future__ import annotations

from typing import Any

from support.stripe_double.account import Account
from support.stripe_double.pricing import added
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route
from support.stripe_double.subscription_changes import update
from support.stripe_double.subscription_cycle import Deed, renew
from support.stripe_double.subscriptions import items_of

Json = dict[str, Any]


@route("POST", "/v1/subscription_schedules", "SubscriptionScheduleCreateParams")
def create_schedule(call: Call) -> Json:
    account = call.account
    if not call.get("from_subscription"):
        raise Refused("The double makes schedules `from_subscription` only.", param="from_subscription")
    subscription = account.named("subscription", call.params["from_subscription"], "from_subscription")
    if subscription["schedule"] or subscription["ended_at"] is not None:
        raise Refused("The subscription has a schedule already, or has ended.", param="from_subscription")
    items = items_of(subscription)
    start, end = items[0]["current_period_start"], min(item["current_period_end"] for item in items)
    now = account.now(subscription["test_clock"])
    schedule = account.put(
        {
            "id": account.new_id("sub_sched"),
            "object": "subscription_schedule",
            "created": now,
            "billing_mode": dict(subscription["billing_mode"]),
            "current_phase": {"start_date": start, "end_date": end},
            "customer": subscription["customer"],
            "default_settings": _settings(subscription),
            "end_behavior": "release",
            "metadata": call.get("metadata", {}),
            "pause_schedules": [],
            "phases": [],
            "status": "active",
            "subscription": subscription["id"],
            "test_clock": subscription["test_clock"],
        }
    )
    given = [
        {"price": item["price"]["id"], **({} if item["quantity"] is None else {"quantity": item["quantity"]})}
        for item in items
    ]
    schedule["phases"] = [_phase(subscription, {"items": given}, start, end)]
    subscription["schedule"] = schedule["id"]
    account.emit("subscription_schedule.created", schedule)
    account.emit("customer.subscription.updated", subscription)
    return schedule


def _settings(subscription: Json) -> Json:
    return {
        "application_fee_percent": None, "automatic_tax": dict(subscription["automatic_tax"]), "billing_thresholds": None,
        "billing_cycle_anchor": "automatic", "collection_method": subscription["collection_method"], "description": None,
        "default_payment_method": None, "invoice_settings": dict(subscription["invoice_settings"]), "on_behalf_of": None,
        "transfer_data": None,
    }  # fmt: skip


def _phase(subscription: Json, given: Json, start: int, end: int) -> Json:
    items = [
        {
            "billing_thresholds": None,
            "discounts": [],
            "metadata": item.get("metadata", {}),
            "plan": item["price"],
            "price": item["price"],
            "quantity": item.get("quantity"),
            "tax_rates": [],
        }
        for item in given["items"]
    ]
    return {
        "add_invoice_items": [], "application_fee_percent": None, "billing_cycle_anchor": None, "billing_thresholds": None,
        "collection_method": None, "currency": subscription["currency"], "default_payment_method": None,
        "default_tax_rates": [], "description": None, "discounts": [], "start_date": start, "end_date": end,
        "invoice_settings": None, "items": items, "metadata": given.get("metadata", {}), "on_behalf_of": None,
        "proration_behavior": given.get("proration_behavior", "create_prorations"), "transfer_data": None,
        "trial_end": None, "automatic_tax": None,
    }  # fmt: skip


@route("POST", "/v1/subscription_schedules/{id}", "SubscriptionScheduleUpdateParams")
def update_schedule(call: Call) -> Json:
    account, schedule = call.account, _active(call)
    subscription = account.objects[schedule["subscription"]]
    if "end_behavior" in call.params:
        schedule["end_behavior"] = call.params["end_behavior"]
    if "metadata" in call.params:
        schedule["metadata"] = call.params["metadata"] or {}
    if phases := call.get("phases"):
        schedule["phases"] = _phases(account, schedule, subscription, phases)
        first = schedule["phases"][0]
        schedule["current_phase"] = {"start_date": first["start_date"], "end_date": first["end_date"]}
        if _prices(first["items"]) != _prices(items_of(subscription)):  # the present phase holds at once
            behaviour = call.get("proration_behavior", "create_prorations")
            _switch(account, subscription, {**first, "metadata": {}, "proration_behavior": behaviour})
    account.emit("subscription_schedule.updated", schedule)
    return schedule


def _prices(items: list[Json]) -> list[str]:
    """Ids, in order."""
    return sorted(item["price"] if isinstance(item["price"], str) else item["price"]["id"] for item in items)


def _phases(account: Account, schedule: Json, subscription: Json, given: list[Json]) -> list[Json]:
    now = account.now(schedule["test_clock"])
    phases: list[Json] = []
    start = schedule["current_phase"]["start_date"]
    for place, wanted in enumerate(given):
        said = wanted.get("start_date", start)
        start = now if said == "now" else said
        if place and start != phases[-1]["end_date"]:
            raise Refused("A phase must begin where the one before it ends.", param=f"phases[{place}][start_date]")
        recurring = account.named("price", wanted["items"][0]["price"], "phases[0][items][0][price]")["recurring"]
        if "end_date" in wanted:
            end = now if wanted["end_date"] == "now" else wanted["end_date"]
        else:
            length = {"interval_count": 1, **wanted["duration"]} if "duration" in wanted else recurring
            end = added(start, length, 1)
        if end <= start:
            raise Refused("The end date of a phase must be after its start date.", param=f"phases[{place}][end_date]")
        phases.append(_phase(subscription, wanted, start, end))
        start = end
    return phases


def _active(call: Call) -> Json:
    schedule = call.account.find("subscription_schedule", call.id)
    if schedule["status"] != "active":
        raise Refused(f"You cannot change a schedule that is {schedule['status']}.")
    return schedule


@route("GET", "/v1/subscription_schedules/{id}", "SubscriptionScheduleRetrieveParams")
def get_schedule(call: Call) -> Json:
    return call.account.find("subscription_schedule", call.id)


@route("GET", "/v1/subscription_schedules", "SubscriptionScheduleListParams")
def list_schedules(call: Call) -> Json:
    return listed(call, call.account.rows("subscription_schedule"), equal=("customer",))


@route("POST", "/v1/subscription_schedules/{id}/release", "SubscriptionScheduleReleaseParams")
def release_schedule(call: Call) -> Json:
    schedule = _active(call)
    _release(call.account, schedule)
    return schedule


def _release(account: Account, schedule: Json) -> None:
    subscription = account.objects[schedule["subscription"]]
    now = account.now(schedule["test_clock"])
    schedule |= {"status": "released", "released_at": now, "released_subscription": subscription["id"], "subscription": None,
                 "current_phase": None}  # fmt: skip
    subscription["schedule"] = None
    account.emit("subscription_schedule.released", schedule)
    account.emit("customer.subscription.updated", subscription)


@route("POST", "/v1/subscription_schedules/{id}/cancel", "SubscriptionScheduleCancelParams")
def cancel_schedule(call: Call) -> Json:
    from support.stripe_double.subscription_changes import end_subscription

    schedule = _active(call)
    end_subscription(call.account, call.account.objects[schedule["subscription"]], "cancellation_requested")
    return schedule


def due_of_schedule(account: Account, schedule: Json) -> Deed | None:
    """The end of the phase; it comes before the renewal of the same moment, which is made with the new prices."""
    if schedule["status"] != "active":
        return None
    return schedule["current_phase"]["end_date"], 1, lambda: _next_phase(account, schedule)


def _next_phase(account: Account, schedule: Json) -> None:
    now = schedule["current_phase"]["end_date"]
    subscription = account.objects[schedule["subscription"]]
    following = next((phase for phase in schedule["phases"] if phase["start_date"] == now), None)
    if following is None:
        if schedule["end_behavior"] == "cancel":
            from support.stripe_double.standing import ended

            ended(account, subscription, "cancellation_requested")
        else:
            _release(account, schedule)
        return
    schedule["current_phase"] = {"start_date": now, "end_date": following["end_date"]}
    account.emit("subscription_schedule.updated", schedule)
    ends = min(item["current_period_end"] for item in items_of(subscription))
    if now == ends and subscription["status"] in ("active", "past_due", "unpaid"):
        renew(
            account,
            subscription,
            switch=lambda: _switch(account, subscription, {**following, "proration_behavior": "none"}),
        )
    else:
        _switch(account, subscription, following)


def _switch(account: Account, subscription: Json, phase: Json) -> None:
    """Give the subscription the phase's prices, each in the place of one of its kind that it had."""
    left = list(items_of(subscription))
    changes: list[Json] = []
    for wanted in phase["items"]:
        metered = account.objects[wanted["price"]]["recurring"]["usage_type"] == "metered"
        alike = [item for item in left if (item["price"]["recurring"]["usage_type"] == "metered") == metered]
        same = [item for item in alike if item["price"]["id"] == wanted["price"]]
        change: Json = {"price": wanted["price"]}
        if wanted["quantity"] is not None:
            change["quantity"] = wanted["quantity"]
        if chosen := next(iter(same or alike), None):
            left.remove(chosen)
            change["id"] = chosen["id"]
        changes.append(change)
    changes += [{"id": item["id"], "deleted": True} for item in left]
    update(
        account,
        subscription,
        {"items": changes, "metadata": phase["metadata"], "proration_behavior": phase["proration_behavior"]},
    )

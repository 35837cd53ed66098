"""What happens to a subscription on request: other prices, with prorations; cancelling, pausing, resuming."""

from __future__ import annotations

import copy
from typing import Any

from support.stripe_double import invoice_lines, invoices
from support.stripe_double.account import Account
from support.stripe_double.catalog import merge_metadata
from support.stripe_double.customers import attached, decline_of, paying_with
from support.stripe_double.pricing import added, period_around
from support.stripe_double.refusals import Refused, declined
from support.stripe_double.routing import Call, route
from support.stripe_double.standing import ended
from support.stripe_double.subscriptions import add_discounts, items_of, new_item, priced, set_end, tax_rates

Json = dict[str, Any]


def invoice_item(
    account: Account, customer_id: str, *, part: invoice_lines.Part, price: Json | None, period: tuple[int, int],
    words: str, currency: str, subscription: Json | None, item_id: str | None = None, proration: bool = False,
) -> Json:  # fmt: skip
    """A pending item: the next invoice takes it in."""
    clock_id = account.clock_of(customer_id)
    pricing = price and {
        "type": "price_details", "unit_amount_decimal": None if part.unit is None else str(part.unit),
        "price_details": {"price": price["id"], "product": price["product"]},
    }  # fmt: skip
    parent = subscription and {
        "type": "subscription_details", "subscription_details": {"subscription": subscription["id"], "subscription_item": item_id},
    }  # fmt: skip
    row = account.put(
        {
            "id": account.new_id("ii"),
            "object": "invoiceitem",
            "amount": part.amount,
            "currency": currency,
            "customer": customer_id,
            "date": account.now(clock_id),
            "description": words,
            "discountable": True,
            "discounts": [],
            "metadata": {},
            "period": {"start": period[0], "end": period[1]},
            "pricing": pricing,
            "parent": parent,
            "proration": proration,
            "quantity": part.quantity,
            "quantity_decimal": str(part.quantity),
            "test_clock": clock_id,
            "created": account.now(clock_id),
            "invoice": None,
            "_price": price,
            "_subscription": subscription["id"] if subscription else None,
        }
    )
    account.emit("invoiceitem.created", row)
    return row


def prorations(account: Account, subscription: Json, before: list[Json], after: list[Json], moment: int) -> list[Json]:
    """Items for the unused time of what was, the remaining time of what is, and the usage that a metered price leaves."""
    made: list[Json] = []
    new_by_id = {item["id"]: item for item in after}
    old_by_id = {item["id"]: item for item in before}

    def add(item: Json, part: invoice_lines.Part, words: str, period: tuple[int, int], *, proration: bool) -> None:
        made.append(
            invoice_item(
                account,
                subscription["customer"],
                part=part,
                price=item["price"],
                period=period,
                words=words,
                currency=item["price"]["currency"],
                subscription=subscription,
                item_id=item["id"],
                proration=proration,
            )
        )

    for old in before:
        new = new_by_id.get(old["id"])
        if new is not None and new["price"]["id"] == old["price"]["id"] and new["quantity"] == old["quantity"]:
            continue
        name = invoice_lines.name_of(account, old["price"])
        if invoice_lines.is_metered(old):
            if subscription["billing_mode"]["type"] == "flexible":
                period = (old["current_period_start"], moment)
                for line in invoice_lines.usage_lines(account, subscription, old, period):
                    part = invoice_lines.Part(line["quantity"], line["amount"], None)
                    add(old, part, f"{line['quantity']} × {name}", period, proration=False)
        else:
            part = invoice_lines.proration_part(old, old["price"], old["quantity"], moment, sign=-1)
            add(old, part, f"Unused time on {name}", (moment, old["current_period_end"]), proration=True)
    for new in after:
        was = old_by_id.get(new["id"])
        if invoice_lines.is_metered(new) or (
            was and was["price"]["id"] == new["price"]["id"] and was["quantity"] == new["quantity"]
        ):
            continue
        part = invoice_lines.proration_part(new, new["price"], new["quantity"], moment, sign=1)
        words = f"Remaining time on {invoice_lines.name_of(account, new['price'])}"
        add(new, part, words, (moment, new["current_period_end"]), proration=True)
    return made


def new_items(account: Account, subscription: Json, given: list[Json], moment: int) -> list[Json]:
    """The items that a subscription would have: those named changed, those marked deleted left out, others kept."""
    items = [dict(item) for item in items_of(subscription)]
    by_id = {item["id"]: item for item in items}
    for wanted in given:
        if "id" not in wanted:
            added_item = new_item(
                account, subscription, wanted, period=(moment, items[0]["current_period_end"]), now=moment
            )
            if subscription["status"] != "trialing":
                anchor, recurring = subscription["billing_cycle_anchor"], added_item["price"]["recurring"]
                added_item["current_period_end"] = period_around(anchor, recurring, moment)[1]
            items.append(added_item)
            continue
        if wanted["id"] not in by_id:
            raise Refused(f"No such subscription item: '{wanted['id']}'", code="resource_missing", param="items[0][id]")
        item = by_id[wanted["id"]]
        if wanted.get("deleted"):
            items.remove(item)
            continue
        if "price" in wanted or "quantity" in wanted:
            price = account.named("price", wanted.get("price", item["price"]["id"]), "items[0][price]")
            priced(item, price, wanted.get("quantity", item["quantity"]), now=moment)
        if "metadata" in wanted:
            merge_metadata(item, wanted["metadata"])
        if "tax_rates" in wanted:
            item["tax_rates"] = tax_rates(account, wanted["tax_rates"])
    if not items:
        raise Refused("A subscription must have at least one active item.", param="items")
    return items


def update(account: Account, subscription: Json, params: Json) -> Json:
    if subscription["ended_at"] is not None and set(params) - {"metadata", "cancellation_details"}:
        raise Refused(
            "A canceled subscription can only update its cancellation_details and metadata.", code="resource_missing"
        )
    customer = account.objects[subscription["customer"]]
    now = account.now(customer["test_clock"])
    _plain_changes(account, subscription, customer, params, now)
    if params.get("trial_end") == "now" and subscription["status"] == "trialing":
        if params.get("payment_behavior") == "error_if_incomplete":
            _refuse_what_would_be_declined(account, subscription, customer)
        # Other items come first: the trial ends with them, and what is charged is their first period.
        _put_items(account, subscription, new_items(account, subscription, params.pop("items", []), now))
    if "trial_end" in params:
        _change_trial(account, subscription, params["trial_end"], now)
    if "items" in params or (params.get("billing_cycle_anchor") or {}).get("type") == "now":
        change_items(account, subscription, params, now)
    set_end(subscription, params, now)
    account.emit("customer.subscription.updated", subscription)
    return subscription


def _plain_changes(account: Account, subscription: Json, customer: Json, params: Json, now: int) -> None:
    if "metadata" in params:
        merge_metadata(subscription, params["metadata"])
    for name in ("collection_method", "days_until_due", "description"):
        if name in params:
            subscription[name] = params[name] or None
    if "cancellation_details" in params:
        subscription["cancellation_details"] |= params["cancellation_details"]
    if "default_payment_method" in params:
        subscription["default_payment_method"] = attached(account, params["default_payment_method"], customer)["id"]
    if "default_tax_rates" in params:
        subscription["default_tax_rates"] = tax_rates(account, params["default_tax_rates"])
    if "automatic_tax" in params:
        subscription["automatic_tax"]["enabled"] = params["automatic_tax"]["enabled"]
    if "trial_settings" in params:
        subscription["trial_settings"]["end_behavior"] |= params["trial_settings"]["end_behavior"]
    if "discounts" in params:
        add_discounts(account, subscription, params["discounts"], now)
    if "pause_collection" in params:
        wanted = params["pause_collection"]
        subscription["pause_collection"] = {"resumes_at": None, **wanted} if wanted else None


def _change_trial(account: Account, subscription: Json, wanted: int | str, now: int) -> None:
    from support.stripe_double.subscription_cycle import renew

    if wanted == "now":
        if subscription["status"] == "trialing":
            subscription["trial_end"] = now
            for item in items_of(subscription):
                item["current_period_end"] = now
            subscription["billing_cycle_anchor"] = now
            renew(account, subscription, reason="subscription_update", wait=None)
        return
    if int(wanted) <= now:
        raise Refused("Invalid timestamp: must be in the future.", param="trial_end")
    subscription |= {"trial_end": wanted, "trial_start": subscription["trial_start"] or now, "status": "trialing",
                     "billing_cycle_anchor": wanted}  # fmt: skip
    for item in items_of(subscription):
        item["current_period_end"] = wanted


def change_items(account: Account, subscription: Json, params: Json, now: int) -> None:
    """Put other items in place and charge or credit the difference as `proration_behavior` says."""
    customer = account.objects[subscription["customer"]]
    behaviour = params.get("proration_behavior", "create_prorations")
    moment = params.get("proration_date", now)
    before = [dict(item) for item in items_of(subscription)]
    after = new_items(account, subscription, params.get("items", []), now)
    old, new = before[0]["price"]["recurring"], after[0]["price"]["recurring"]
    restarts = (old["interval"], old["interval_count"]) != (new["interval"], new["interval_count"])
    restarts = restarts or (params.get("billing_cycle_anchor") or {}).get("type") == "now"
    trialing = subscription["status"] == "trialing"
    if params.get("payment_behavior") == "error_if_incomplete" and behaviour == "always_invoice" and not trialing:
        _refuse_what_would_be_declined(account, subscription, customer)
    if behaviour != "none" and not trialing:
        credited = [] if restarts else after
        prorations(account, subscription, before, credited, moment)
    _put_items(account, subscription, after)
    if restarts and not trialing:
        subscription["billing_cycle_anchor"] = now
        lines: list[Json] = []
        for item in items_of(subscription):
            item |= {"current_period_start": now, "current_period_end": added(now, item["price"]["recurring"], 1)}
            if not invoice_lines.is_metered(item):
                lines += invoice_lines.licensed_lines(account, subscription, item, (now, item["current_period_end"]))
        _invoice_now(account, subscription, customer, lines)
    elif behaviour == "always_invoice" and invoices.pending_items(account, customer["id"], subscription):
        _invoice_now(account, subscription, customer, [])


def _refuse_what_would_be_declined(account: Account, subscription: Json, customer: Json) -> None:
    reason = decline_of(account, customer, paying_with(account, customer, subscription))
    if reason:
        raise declined(reason)


def _put_items(account: Account, subscription: Json, after: list[Json]) -> None:
    data: list[Json] = []
    for item in after:
        kept = account.objects.get(item["id"])
        if kept is not None and kept is not item:
            kept.update(item)
        data.append(kept or item)
    for gone in items_of(subscription):
        if all(item["id"] != gone["id"] for item in data):
            account.objects.pop(gone["id"], None)
            account.tables["subscription_item"].pop(gone["id"], None)
    subscription["items"] |= {"data": data, "total_count": len(data)}


def _invoice_now(account: Account, subscription: Json, customer: Json, lines: list[Json]) -> Json:
    now = account.now(customer["test_clock"])
    invoice = invoices.draft(
        account, customer, subscription=subscription, reason="subscription_update", lines=lines, period=(now, now)
    )
    invoices.collect(account, invoice)
    return invoice


def end_subscription(
    account: Account, subscription: Json, reason: str, *, invoice_now: bool = False, prorate: bool = False
) -> None:
    """Cancel at once. Usage not yet invoiced is only billed where `invoice_now` asks for it."""
    customer = account.objects[subscription["customer"]]
    now = account.now(customer["test_clock"])
    items = copy.copy(items_of(subscription))
    if prorate:
        for item in items:
            if not invoice_lines.is_metered(item):
                prorations(account, subscription, [item], [], now)
    lines: list[Json] = []
    if invoice_now:
        for item in items:
            if invoice_lines.is_metered(item):
                lines += invoice_lines.usage_lines(account, subscription, item, (item["current_period_start"], now))
    ended(account, subscription, reason)
    if invoice_now and (
        any(line["quantity"] for line in lines) or invoices.pending_items(account, customer["id"], subscription)
    ):
        _invoice_now(account, subscription, customer, lines)


@route("POST", "/v1/subscriptions/{id}", "SubscriptionUpdateParams")
def update_subscription(call: Call) -> Json:
    params = {key: value for key, value in call.params.items() if key != "expand"}
    return update(call.account, call.account.find("subscription", call.id), params)


@route("DELETE", "/v1/subscriptions/{id}", "SubscriptionCancelParams")
def cancel_subscription(call: Call) -> Json:
    subscription = call.account.find("subscription", call.id)
    if subscription["ended_at"] is not None:
        raise Refused(f"No such subscription: '{call.id}'", code="resource_missing", param="id", status=404)
    if details := call.get("cancellation_details"):
        subscription["cancellation_details"] |= details
    end_subscription(call.account, subscription, "cancellation_requested",
                     invoice_now=call.get("invoice_now", False), prorate=call.get("prorate", False))  # fmt: skip
    return subscription

"""What time does to a subscription: renewals, the end of a trial, a cancellation that was scheduled, retries of payments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support.stripe_double import invoice_lines, invoices
from support.stripe_double.account import Account
from support.stripe_double.customers import paying_with
from support.stripe_double.pricing import period_around
from support.stripe_double.standing import ended
from support.stripe_double.subscriptions import DAY, items_of

Json = dict[str, Any]
INCOMPLETE_SECONDS = 23 * 3600


def renew(
    account: Account, subscription: Json, *, reason: str = "subscription_cycle", wait: int | None = invoices.DRAFT_SECONDS,
    switch: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """Begin the next period of every item whose period is over: usage in arrears, licensed prices in advance.

    `switch` puts other prices in place between the two: usage is billed by the old one, the new period by the new.
    """
    customer = account.objects[subscription["customer"]]
    now = account.now(subscription["test_clock"])
    lines: list[Json] = []
    over = (now, now)
    for item in items_of(subscription):
        if item["current_period_end"] <= now:
            over = (item["current_period_start"], item["current_period_end"])
            if invoice_lines.is_metered(item):
                lines += invoice_lines.usage_lines(account, subscription, item, over)
    if switch is not None:
        switch()
    for item in items_of(subscription):
        if item["current_period_end"] > now:
            continue
        start, end = period_around(subscription["billing_cycle_anchor"], item["price"]["recurring"], now)
        item |= {"current_period_start": start, "current_period_end": end}
        if not invoice_lines.is_metered(item):
            lines += invoice_lines.licensed_lines(account, subscription, item, (start, end))
    if subscription["status"] == "trialing":
        subscription["status"] = "active"
    invoice = invoices.draft(
        account, customer, subscription=subscription, reason=reason, lines=lines, period=over, wait=wait
    )
    _hold_back(account, subscription, invoice)
    account.emit("customer.subscription.updated", subscription)
    if wait is None and invoice["auto_advance"]:
        invoices.collect(account, invoice)


def _hold_back(account: Account, subscription: Json, invoice: Json) -> None:
    """Invoices of a subscription that is unpaid, or whose collection is paused, are not charged."""
    paused = subscription["pause_collection"]
    if subscription["status"] == "unpaid" or (paused and paused["behavior"] == "keep_as_draft"):
        invoice |= {"auto_advance": False, "automatically_finalizes_at": None}
        account.unfinished.pop(invoice["id"], None)
    elif paused:
        invoice["_paused"] = paused["behavior"]


def trial_over(account: Account, subscription: Json) -> None:
    """Convert a trial; without a card, do what `trial_settings` says."""
    customer = account.objects[subscription["customer"]]
    missing = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    without = (
        paying_with(account, customer, subscription) is None
        and subscription["collection_method"] == "charge_automatically"
    )
    if without and missing == "cancel":
        ended(account, subscription, "cancellation_requested")
    elif without and missing == "pause":
        now = account.now(subscription["test_clock"])
        paused = {
            "subscription": {"type": "trial_end_without_payment_method"},
            "transitioned_at": now,
            "type": "subscription",
        }
        subscription |= {"status": "paused", "status_details": {"paused": paused}}
        account.emit("customer.subscription.updated", subscription)
        account.emit("customer.subscription.paused", subscription)
    else:
        renew(account, subscription)


def cancel_as_scheduled(account: Account, subscription: Json) -> None:
    """The end that `cancel_at` names: what was used, and what is pending, is invoiced a last time."""
    customer = account.objects[subscription["customer"]]
    now = account.now(subscription["test_clock"])
    lines: list[Json] = []
    over = (now, now)
    for item in items_of(subscription):
        over = (item["current_period_start"], now)
        if invoice_lines.is_metered(item):
            lines += invoice_lines.usage_lines(account, subscription, item, over)
    owing = bool(lines or invoices.pending_items(account, customer["id"], subscription))
    ended(account, subscription, "cancellation_requested")
    if owing and subscription["pause_collection"] is None:
        invoices.draft(account, customer, subscription=subscription, reason="subscription_cycle", lines=lines, period=over,
                       wait=invoices.DRAFT_SECONDS)  # fmt: skip


Deed = tuple[int, int, Callable[[], None]]
"""When, in which order among deeds of that moment, and what."""


def due_of_subscription(account: Account, subscription: Json) -> Deed | None:
    """The next thing that happens to a subscription by itself."""
    status = subscription["status"]
    if subscription["ended_at"] is not None:
        return None
    deeds: list[Deed] = []
    if subscription["cancel_at"] is not None:
        deeds.append((subscription["cancel_at"], 0, lambda: cancel_as_scheduled(account, subscription)))
    if status == "incomplete":
        deeds.append((subscription["created"] + INCOMPLETE_SECONDS, 1, lambda: _expire(account, subscription)))
    paused = subscription["pause_collection"]
    if paused and paused["resumes_at"]:
        deeds.append((paused["resumes_at"], 1, lambda: _resume_collection(account, subscription)))
    if status == "trialing":
        deeds.append((subscription["trial_end"], 2, lambda: trial_over(account, subscription)))
        if not subscription.get("_trial_told"):
            deeds.append((subscription["trial_end"] - 3 * DAY, 1, lambda: _tell_of_trial(account, subscription)))
    elif status in ("active", "past_due", "unpaid"):
        end = min(item["current_period_end"] for item in items_of(subscription))
        deeds.append((end, 2, lambda: renew(account, subscription)))
    return min(deeds, key=lambda deed: deed[:2], default=None)


def _expire(account: Account, subscription: Json) -> None:
    subscription |= {"status": "incomplete_expired", "ended_at": account.now(subscription["test_clock"])}
    account.emit("customer.subscription.updated", subscription)


def _resume_collection(account: Account, subscription: Json) -> None:
    subscription["pause_collection"] = None
    account.emit("customer.subscription.updated", subscription)


def _tell_of_trial(account: Account, subscription: Json) -> None:
    subscription["_trial_told"] = True
    account.emit("customer.subscription.trial_will_end", subscription)


def due_of_invoice(account: Account, invoice: Json) -> Deed | None:
    """When a draft finalises itself, or an open invoice is charged again."""
    if invoice["status"] == "draft" and invoice["automatically_finalizes_at"] is not None:
        return invoice["automatically_finalizes_at"], 3, lambda: _advance(account, invoice)
    if invoice["status"] == "open" and invoice["next_payment_attempt"] is not None and invoice["auto_advance"]:
        return invoice["next_payment_attempt"], 3, lambda: _retry(account, invoice)
    return None


def _advance(account: Account, invoice: Json) -> None:
    held = invoice.get("_paused")
    if held is None:
        invoices.collect(account, invoice)
        return
    invoices.finalize(account, invoice)
    if invoice["status"] == "open":
        from support.stripe_double.invoice_routes import give_up

        give_up(account, invoice, "void" if held == "void" else "uncollectible")


def _retry(account: Account, invoice: Json) -> None:
    subscription = invoices.subscription_of(account, invoice)
    if subscription is not None and subscription["ended_at"] is not None:
        invoice |= {"next_payment_attempt": None, "auto_advance": False}
        account.unfinished.pop(invoice["id"], None)
        return
    invoices.attempt(account, invoice)

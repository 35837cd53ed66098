"""What the payment of an invoice, or its failure, means to the subscription behind it."""

from __future__ import annotations

from typing import Any

from support.stripe_double.account import Account

Json = dict[str, Any]


def after_payment(account: Account, invoice: Json, subscription: Json | None) -> None:
    if subscription is None or subscription["ended_at"] is not None:
        return
    if (
        subscription["status"] in ("incomplete", "past_due", "unpaid", "paused")
        and subscription["latest_invoice"] == invoice["id"]
    ):
        if subscription["status"] == "paused" and invoice["billing_reason"] != "subscription_update":
            return
        subscription["status"] = "active"
        account.emit("customer.subscription.updated", subscription)


def after_failure(account: Account, invoice: Json, subscription: Json | None) -> None:
    """A failed renewal makes a subscription past due; the last retry ends it, or leaves it unpaid or past due."""
    if subscription is None or subscription["ended_at"] is not None or subscription["status"] == "incomplete":
        return
    if subscription["status"] in ("active", "trialing"):
        subscription["status"] = "past_due"
        account.emit("customer.subscription.updated", subscription)
    gave_up = invoice["next_payment_attempt"] is None and invoice["attempt_count"] > len(account.retry_days)
    if gave_up and subscription["status"] == "past_due":
        invoice["auto_advance"] = False
        end_or_leave(account, subscription)


def end_or_leave(account: Account, subscription: Json) -> None:
    if account.after_last_retry == "canceled":
        ended(account, subscription, "payment_failed")
    elif account.after_last_retry == "unpaid":
        subscription["status"] = "unpaid"
        account.emit("customer.subscription.updated", subscription)


def ended(account: Account, subscription: Json, reason: str) -> None:
    now = account.now(subscription["test_clock"])
    subscription["canceled_at"] = subscription["canceled_at"] or now
    subscription |= {"status": "canceled", "ended_at": now}
    subscription["cancellation_details"] = {
        "comment": None, "feedback": None, "feedback_option": None, **(subscription["cancellation_details"] or {}), "reason": reason,
    }  # fmt: skip
    release_schedule(account, subscription)
    account.emit("customer.subscription.deleted", subscription)


def release_schedule(account: Account, subscription: Json) -> None:
    """A subscription that ends takes its schedule with it."""
    schedule = account.objects.get(subscription["schedule"] or "")
    if schedule is not None and schedule["status"] == "active":
        schedule |= {"status": "canceled", "canceled_at": account.now(subscription["test_clock"])}
        account.emit("subscription_schedule.canceled", schedule)

"""An invoice's life: draft, open, paid, void or uncollectible; its payment, and what that means to the subscription."""

from __future__ import annotations

from typing import Any

from support.stripe_double import invoice_lines
from support.stripe_double.account import Account
from support.stripe_double.customers import decline_of, paying_with
from support.stripe_double.invoice_bodies import build, recount
from support.stripe_double.refusals import Refused, declined
from support.stripe_double.standing import after_failure, after_payment

Json = dict[str, Any]
DRAFT_SECONDS = 3600
"""How long a renewal's invoice stays a draft: usage of the period that ended still counts until then."""
ITEM = "invoiceitem"


def pending_items(account: Account, customer_id: str, subscription: Json | None) -> list[Json]:
    wanted = subscription["id"] if subscription else None
    return [row for row in account.rows(ITEM) if row["invoice"] is None and row["customer"] == customer_id
            and row["_subscription"] in (wanted, None)]  # fmt: skip


def line_of_item(account: Account, row: Json, subscription: Json | None) -> Json:
    """An invoice item as a line."""
    part = invoice_lines.Part(row["quantity"], row["amount"], None)
    line = invoice_lines.new_line(
        account, part, price=row["_price"], period=(row["period"]["start"], row["period"]["end"]),
        words=row["description"] or "Invoice item", currency=row["currency"],
        subscription=subscription if row["_subscription"] else None, invoice_item=row, proration=row["proration"],
    )  # fmt: skip
    line["metadata"] = dict(row["metadata"] or {})
    return line


def draft(
    account: Account, customer: Json, *, subscription: Json | None, reason: str, lines: list[Json],
    period: tuple[int, int], pending: bool = True, wait: int | None = None,
) -> Json:  # fmt: skip
    """A draft with the pending items in. `wait` seconds later it finalises itself."""
    items = pending_items(account, customer["id"], subscription) if pending else []
    lines = [line_of_item(account, row, subscription) for row in items] + lines
    invoice = account.put(
        build(account, customer, subscription=subscription, reason=reason, lines=lines, period=period)
    )
    for row in items:
        row["invoice"] = invoice["id"]
    if subscription is not None:
        subscription["latest_invoice"] = invoice["id"]
    if wait is not None:
        invoice["automatically_finalizes_at"] = account.now(customer["test_clock"]) + wait
        account.unfinished[invoice["id"]] = invoice
    account.emit("invoice.created", invoice)
    return invoice


def subscription_of(account: Account, invoice: Json) -> Json | None:
    details = (invoice["parent"] or {}).get("subscription_details")
    return account.objects.get(details["subscription"]) if details else None


def finalize(account: Account, invoice: Json) -> Json:
    """From draft to open, with usage as it is known now; nothing due means paid."""
    if invoice["status"] != "draft":
        raise Refused(
            "This invoice is already finalized, you can't re-finalize a non-draft invoice.", code="invoice_not_editable"
        )
    customer, subscription = account.objects[invoice["customer"]], subscription_of(account, invoice)
    now = account.now(customer["test_clock"])
    if subscription is not None:
        invoice["lines"]["data"] = invoice_lines.counted_again(account, subscription, invoice["lines"]["data"])
    recount(account, invoice, subscription, customer)
    account.unfinished.pop(invoice["id"], None)
    customer["balance"] += invoice["total"] - invoice["amount_due"]
    number = customer["next_invoice_sequence"]
    customer["next_invoice_sequence"] += 1
    invoice |= {
        "automatically_finalizes_at": None, "status": "open", "effective_at": now,
        "ending_balance": customer["balance"], "number": f"{customer['invoice_prefix']}-{number:04d}",
        "hosted_invoice_url": f"{account.base_url}/i/{invoice['id']}",
        "invoice_pdf": f"{account.base_url}/i/{invoice['id']}/pdf",
    }  # fmt: skip
    invoice["status_transitions"]["finalized_at"] = now
    _discounts_used_up(account, subscription)
    account.emit("customer.updated", customer)
    account.emit("invoice.updated", invoice)
    account.emit("invoice.finalized", invoice)
    if invoice["amount_due"] == 0:
        mark_paid(account, invoice)
    return invoice


def _discounts_used_up(account: Account, subscription: Json | None) -> None:
    """A coupon of duration `once` applies to one invoice."""
    for name in list((subscription or {}).get("discounts") or []):
        discount = account.objects[name]
        if account.objects[discount["source"]["coupon"]]["duration"] == "once":
            assert subscription is not None
            subscription["discounts"].remove(name)


def mark_paid(account: Account, invoice: Json, *, out_of_band: bool = False) -> None:
    customer = account.objects[invoice["customer"]]
    now = account.now(customer["test_clock"])
    invoice |= {"status": "paid", "amount_paid": invoice["amount_due"], "amount_remaining": 0,
                "next_payment_attempt": None, "auto_advance": False}  # fmt: skip
    invoice["status_transitions"]["paid_at"] = now
    if not out_of_band and invoice["amount_due"]:
        _record_payment(account, invoice, "succeeded")
    account.unfinished.pop(invoice["id"], None)
    if customer["delinquent"] and not any(_owes(row, customer) for row in account.rows("invoice")):
        customer["delinquent"] = False
        account.emit("customer.updated", customer)
    account.emit("invoice.updated", invoice)
    account.emit("invoice.paid", invoice)
    account.emit("invoice.payment_succeeded", invoice)
    after_payment(account, invoice, subscription_of(account, invoice))


def _owes(row: Json, customer: Json) -> bool:
    return bool(row["customer"] == customer["id"] and row["status"] == "open" and row["attempted"])


def _record_payment(account: Account, invoice: Json, status: str) -> None:
    """The payment intent behind an invoice, and the invoice payment that joins them."""
    clock_id = account.clock_of(invoice["customer"])
    now, done = account.now(clock_id), status == "succeeded"
    found = invoice["payments"]["data"]
    intent = (
        account.objects[found[0]["payment"]["payment_intent"]]
        if found
        else account.put(
            {
                "id": account.new_id("pi"),
                "object": "payment_intent",
                "amount": invoice["amount_due"],
                "amount_capturable": 0,
                "amount_received": 0,
                "capture_method": "automatic",
                "confirmation_method": "automatic",
                "created": now,
                "currency": invoice["currency"],
                "customer": invoice["customer"],
                "metadata": {},
                "payment_method_types": ["card"],
                "status": "requires_payment_method",
            }
        )
    )
    if not found:
        found.append(
            account.put(
                {
                    "id": account.new_id("inpay"),
                    "object": "invoice_payment",
                    "amount_requested": invoice["amount_due"],
                    "created": now,
                    "currency": invoice["currency"],
                    "invoice": invoice["id"],
                    "is_default": True,
                    "payment": {"type": "payment_intent", "payment_intent": intent["id"]},
                    "status": "open",
                    "status_transitions": {"canceled_at": None, "paid_at": None},
                }
            )
        )
    if done:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        found[0] |= {"status": "paid", "amount_paid": invoice["amount_due"],
                     "status_transitions": {"canceled_at": None, "paid_at": now}}  # fmt: skip
    account.emit("payment_intent.succeeded" if done else "payment_intent.payment_failed", intent)


def attempt(account: Account, invoice: Json, *, method: Json | None = None, scheduled: bool = True) -> str | None:
    """Charge an open invoice; returns why it was declined, or None where it is paid now."""
    customer, subscription = account.objects[invoice["customer"]], subscription_of(account, invoice)
    now = account.now(customer["test_clock"])
    reason = decline_of(account, customer, method or paying_with(account, customer, subscription))
    invoice["attempted"] = True
    if scheduled or reason is None:
        invoice["attempt_count"] += 1
    if reason is None:
        mark_paid(account, invoice)
        return None
    if scheduled:
        retries = invoice["attempt_count"] - 1
        again = retries < len(account.retry_days) and invoice["billing_reason"] != "subscription_create"
        invoice["next_payment_attempt"] = now + account.retry_days[retries] * 86_400 if again else None
        if again:
            account.unfinished[invoice["id"]] = invoice
        else:
            account.unfinished.pop(invoice["id"], None)
    _record_payment(account, invoice, "failed")
    customer["delinquent"] = True
    account.emit("customer.updated", customer)
    account.emit("invoice.updated", invoice)
    account.emit("invoice.payment_failed", invoice)
    after_failure(account, invoice, subscription)
    return reason


def collect(account: Account, invoice: Json) -> None:
    """Finalise and, where it charges by itself, try to charge."""
    if invoice["status"] == "draft":
        finalize(account, invoice)
    if (
        invoice["status"] == "open"
        and invoice["collection_method"] == "charge_automatically"
        and invoice["auto_advance"]
    ):
        attempt(account, invoice)


def pay(account: Account, invoice: Json, *, method: Json | None = None, out_of_band: bool = False) -> Json:
    """Pay on request; raises the decline."""
    if invoice["status"] == "draft":
        finalize(account, invoice)
    if invoice["status"] == "paid":
        raise Refused("Invoice is already paid", code="invoice_already_paid")
    if invoice["status"] not in ("open", "uncollectible"):
        raise Refused(f"This invoice cannot be paid: it is {invoice['status']}.", code="invoice_not_editable")
    if out_of_band:
        mark_paid(account, invoice, out_of_band=True)
    elif reason := attempt(account, invoice, method=method, scheduled=False):
        if reason == "missing":
            raise Refused(
                "This customer has no attached payment source or default payment method.", code="resource_missing"
            )
        raise declined(reason)
    return invoice

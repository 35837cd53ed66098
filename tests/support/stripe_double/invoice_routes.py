"""The API of invoices, their items and payments, and the preview of the next one."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

from support.stripe_double import invoice_lines, invoices
from support.stripe_double.account import Account
from support.stripe_double.catalog import changed, new_price
from support.stripe_double.customers import attached
from support.stripe_double.invoice_bodies import build
from support.stripe_double.pricing import Part, added, cost_of, rounded
from support.stripe_double.refusals import Refused
from support.stripe_double.routing import Call, listed, route
from support.stripe_double.subscription_changes import invoice_item, new_items, prorations
from support.stripe_double.subscriptions import items_of

Json = dict[str, Any]


@route("GET", "/v1/invoices/{id}", "InvoiceRetrieveParams")
def get_invoice(call: Call) -> Json:
    return call.account.find("invoice", call.id)


@route("GET", "/v1/invoices", "InvoiceListParams")
def list_invoices(call: Call) -> Json:
    wanted = call.get("subscription")
    rows = [
        row
        for row in call.account.rows("invoice")
        if wanted is None or (row["parent"] or {}).get("subscription_details", {}).get("subscription") == wanted
    ]
    return listed(call, rows, equal=("customer", "status", "collection_method"))


@route("GET", "/v1/invoices/{id}/lines", "InvoiceLineItemListParams")
def list_lines(call: Call) -> Json:
    lines = [{**line, "created": 0} for line in call.account.find("invoice", call.id)["lines"]["data"]]
    page = listed(call, reversed(lines))
    page["data"] = [{key: value for key, value in line.items() if key != "created"} for line in page["data"]]
    return page


@route("POST", "/v1/invoices", "InvoiceCreateParams")
def create_invoice(call: Call) -> Json:
    account = call.account
    customer = account.named("customer", call.params.get("customer", ""), "customer")
    subscription = (
        account.named("subscription", call.params["subscription"], "subscription") if call.get("subscription") else None
    )
    now = account.now(customer["test_clock"])
    wait = invoices.DRAFT_SECONDS if call.get("auto_advance") else None
    invoice = invoices.draft(account, customer, subscription=subscription, reason="manual", lines=[], period=(now, now),
                             pending=call.get("pending_invoice_items_behavior") == "include" or subscription is not None, wait=wait)  # fmt: skip
    invoice |= {"auto_advance": bool(call.get("auto_advance")), "metadata": call.get("metadata", {}),
                "description": call.get("description")}  # fmt: skip
    return invoice


@route("POST", "/v1/invoices/create_preview", "InvoiceCreatePreviewParams")
def preview(call: Call) -> Json:
    """The next invoice, or the one that a change would make, computed on a copy of the subscription."""
    account, params = call.account, call.params
    details = call.get("subscription_details", {})
    if not call.get("subscription"):
        raise Refused("The double previews invoices of a subscription only.", param="subscription")
    real = account.named("subscription", params["subscription"], "subscription")
    if real["ended_at"] is not None:
        raise Refused(
            "You cannot preview the upcoming invoice of a canceled subscription.", code="invoice_upcoming_none"
        )
    subscription = copy.deepcopy(real)
    customer = account.objects[real["customer"]]
    now = account.now(customer["test_clock"])
    told, kept = (
        (account.events.copy(), account.thin_events.copy(), account.outgoing.copy()),
        dict(account.tables.get("invoiceitem", {})),
    )
    objects, items_table = dict(account.objects), dict(account.tables["subscription_item"])
    try:
        return _previewed(account, subscription, customer, details, now)
    finally:  # whatever the computation made on the way never was
        account.events, account.thin_events, account.outgoing = told
        account.tables["invoiceitem"], account.objects, account.tables["subscription_item"] = kept, objects, items_table


def _previewed(account: Account, subscription: Json, customer: Json, details: Json, now: int) -> Json:
    behaviour = details.get("proration_behavior", "create_prorations")
    moment = details.get("proration_date", now)
    before, after = items_of(subscription), items_of(subscription)
    restarts = False
    if "items" in details:
        after = new_items(account, subscription, details["items"], now)
        old, new = before[0]["price"]["recurring"], after[0]["price"]["recurring"]
        restarts = (old["interval"], old["interval_count"]) != (new["interval"], new["interval_count"])
        restarts = restarts or (details.get("trial_end") == "now" and subscription["status"] == "trialing")
        if behaviour != "none" and subscription["status"] != "trialing":
            prorations(account, subscription, before, [] if restarts else after, moment)
    subscription["items"]["data"] = after
    if details.get("cancel_at_period_end") or details.get("cancel_now"):
        after = []
    pending = invoices.pending_items(account, customer["id"], subscription)
    lines = [invoices.line_of_item(account, row, subscription) for row in pending]
    reason, period = "upcoming", (now, now)
    if restarts:
        subscription["status"] = "active"
        for item in after:
            if not invoice_lines.is_metered(item):
                lines += invoice_lines.licensed_lines(
                    account, subscription, item, (now, added(now, item["price"]["recurring"], 1))
                )
    elif not ("items" in details and behaviour == "always_invoice"):
        for item in subscription["items"]["data"]:
            start, end = item["current_period_start"], item["current_period_end"]
            period = (start, end)
            if invoice_lines.is_metered(item):
                lines += invoice_lines.usage_lines(account, subscription, item, (start, end))
            elif item in after:
                lines += invoice_lines.licensed_lines(
                    account, subscription, item, (end, added(end, item["price"]["recurring"], 1))
                )
    invoice = build(account, customer, subscription=subscription, reason=reason, lines=lines, period=period,
                             invoice_id=account.new_id("upcoming_in"))  # fmt: skip
    if invoice["parent"]:
        invoice["parent"]["subscription_details"]["subscription_proration_date"] = (
            moment if "items" in details else None
        )
    return invoice


@route("POST", "/v1/invoices/{id}", "InvoiceUpdateParams")
def update_invoice(call: Call) -> Json:
    return changed(call, "invoice", "invoice.updated")


@route("POST", "/v1/invoices/{id}/finalize", "InvoiceFinalizeInvoiceParams")
def finalize_invoice(call: Call) -> Json:
    return invoices.finalize(call.account, call.account.find("invoice", call.id))


@route("POST", "/v1/invoices/{id}/pay", "InvoicePayParams")
def pay_invoice(call: Call) -> Json:
    account, invoice = call.account, call.account.find("invoice", call.id)
    method = (
        attached(account, call.params["payment_method"], account.objects[invoice["customer"]])
        if call.get("payment_method")
        else None
    )
    return invoices.pay(account, invoice, method=method, out_of_band=call.get("paid_out_of_band", False))


def give_up(account: Account, invoice: Json, status: str) -> Json:
    """Void an open invoice, or mark it uncollectible."""
    if invoice["status"] not in ("open", "uncollectible"):
        raise Refused(
            f"This invoice is {invoice['status']}: only open invoices can be written off.", code="invoice_not_editable"
        )
    name = "voided_at" if status == "void" else "marked_uncollectible_at"
    invoice |= {"status": status, "next_payment_attempt": None, "auto_advance": False}
    invoice["status_transitions"][name] = account.now(invoice["test_clock"])
    account.unfinished.pop(invoice["id"], None)
    account.emit("invoice.updated", invoice)
    account.emit("invoice.voided" if status == "void" else "invoice.marked_uncollectible", invoice)
    return invoice


@route("POST", "/v1/invoices/{id}/void", "InvoiceVoidInvoiceParams")
def void_invoice(call: Call) -> Json:
    return give_up(call.account, call.account.find("invoice", call.id), "void")


@route("POST", "/v1/invoices/{id}/mark_uncollectible", "InvoiceMarkUncollectibleParams")
def write_off_invoice(call: Call) -> Json:
    return give_up(call.account, call.account.find("invoice", call.id), "uncollectible")


@route("DELETE", "/v1/invoices/{id}", "InvoiceDeleteParams")
def delete_invoice(call: Call) -> Json:
    account, invoice = call.account, call.account.find("invoice", call.id)
    if invoice["status"] != "draft":
        raise Refused("You can only delete draft invoices.", code="invoice_not_editable")
    account.unfinished.pop(call.id, None)
    account.emit("invoice.deleted", invoice)
    return account.drop("invoice", call.id)


@route("POST", "/v1/invoiceitems", "InvoiceItemCreateParams")
def create_invoice_item(call: Call) -> Json:
    account = call.account
    customer = account.named("customer", call.params.get("customer", ""), "customer")
    subscription = (
        account.named("subscription", call.params["subscription"], "subscription") if call.get("subscription") else None
    )
    now = account.now(customer["test_clock"])
    part, price, currency = _what_is_charged(call)
    living = [one for one in account.rows("subscription") if one["customer"] == customer["id"] and not one["ended_at"]]
    if any(one["currency"] != currency for one in living):
        raise Refused("You cannot combine currencies on a single customer.", param="currency")
    period = call.get("period", {"start": now, "end": now})
    if period["end"] < period["start"]:
        raise Refused("`period[end]` must be greater than or equal to `period[start]`.", param="period")
    row = invoice_item(account, customer["id"], part=part, price=price, period=(period["start"], period["end"]),
                       subscription=subscription, words=call.get("description", ""), currency=currency)  # fmt: skip
    row |= {"metadata": call.get("metadata", {}), "discountable": call.get("discountable", True)}
    return row


def _what_is_charged(call: Call) -> tuple[Part, Json | None, str]:
    """By a price that there is, by one made for this item alone, or as a plain amount, which has no quantity."""
    account, quantity = call.account, call.get("quantity", 1)
    given = [name for name in ("amount", "pricing", "price_data", "unit_amount_decimal") if name in call.params]
    if len(given) != 1:
        raise Refused("Specify one of `amount`, `pricing`, `price_data` and `unit_amount_decimal`.", param="amount")
    if given == ["amount"]:
        if "quantity" in call.params or not call.get("currency"):
            raise Refused("`amount` goes with `currency`, and without `quantity`.", param="amount")
        return Part(1, call.params["amount"], None), None, call.params["currency"]
    if given == ["unit_amount_decimal"]:
        unit = Decimal(call.params["unit_amount_decimal"])
        return Part(quantity, rounded(unit * quantity), unit), None, call.params["currency"]
    if given == ["pricing"]:
        price = account.named("price", call.params["pricing"]["price"], "pricing[price]")
    else:
        data = call.params["price_data"]
        account.named("product", data["product"], "price_data[product]")
        price = new_price(account, {**data, "active": False})
    if price["recurring"]:
        raise Refused("The price specified is set to `type=recurring`: an item takes `one_time` ones.", param="price")
    if call.get("currency", price["currency"]) != price["currency"]:
        raise Refused("The currency is not the price's.", param="currency")
    return cost_of(price, quantity)[0], price, price["currency"]


@route("GET", "/v1/invoiceitems/{id}", "InvoiceItemRetrieveParams")
def get_invoice_item(call: Call) -> Json:
    return call.account.find("invoiceitem", call.id)


@route("GET", "/v1/invoiceitems", "InvoiceItemListParams")
def list_invoice_items(call: Call) -> Json:
    pending = call.get("pending")
    rows = [row for row in call.account.rows("invoiceitem") if pending is None or pending == (row["invoice"] is None)]
    return listed(call, rows, equal=("customer", "invoice"))


@route("DELETE", "/v1/invoiceitems/{id}", "InvoiceItemDeleteParams")
def delete_invoice_item(call: Call) -> Json:
    row = call.account.find("invoiceitem", call.id)
    if row["invoice"] is not None and call.account.objects[row["invoice"]]["status"] != "draft":
        raise Refused("This item is on an invoice that is no draft any more.", code="invoice_not_editable")
    call.account.emit("invoiceitem.deleted", row)
    return call.account.drop("invoiceitem", call.id)


@route("GET", "/v1/invoice_payments", "InvoicePaymentListParams")
def list_invoice_payments(call: Call) -> Json:
    return listed(call, call.account.rows("invoice_payment"), equal=("invoice", "status"))


@route("GET", "/v1/payment_intents/{id}", "PaymentIntentRetrieveParams")
def get_payment_intent(call: Call) -> Json:
    return call.account.find("payment_intent", call.id)

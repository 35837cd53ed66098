"""The pages a browser sees: Checkout, the portal, a hosted invoice."""

from __future__ import annotations

from html import escape
from typing import Any
from urllib.parse import parse_qsl

from support.stripe_double import checkout, invoices, portal
from support.stripe_double.account import Account
from support.stripe_double.refusals import Refused, missing

Json = dict[str, Any]
Answer = tuple[int, dict[str, str], str]
"""Status, headers, body."""

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>body{{font:16px/1.5 system-ui;max-width:36rem;margin:2rem auto;padding:0 1rem}}
table{{width:100%}}td:last-child{{text-align:right}}label{{display:block}}[role=alert]{{color:#b00}}</style></head>
<body><main><h1>{title}</h1>{told}{body}</main></body></html>"""
CARD_FIELDS = """<label>Card number <input name="number" inputmode="numeric" autocomplete="cc-number" required></label>
<label>Name on card <input name="name" autocomplete="cc-name"></label>"""


def shown(account: Account, method: str, path: str, body: bytes) -> Answer:
    """Answer a request of a browser. Raises `Refused` for what is not there."""
    _, kind, object_id, *rest = path.split("/")
    form = dict(parse_qsl(body.decode())) if method == "POST" else {}
    match kind:
        case "pay":
            return _checkout(account, account.find("checkout.session", object_id), form, posted=method == "POST")
        case "portal":
            return _portal(account, account.find("billing_portal.session", object_id), form, posted=method == "POST")
        case "i":
            return _invoice(account, account.find("invoice", object_id), pdf=rest == ["pdf"], posted=method == "POST")
        case _:
            raise missing("page", path)


def money(amount: int, currency: str) -> str:
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 100}.{abs(amount) % 100:02d} {currency.upper()}"


def _html(title: str, body: str, *, told: str = "", status: int = 200, wrong: bool = False) -> Answer:
    said = f'<p role="{"alert" if wrong else "status"}">{escape(told)}</p>' if told else ""
    return status, {"Content-Type": "text/html; charset=utf-8"}, PAGE.format(title=escape(title), told=said, body=body)


def _to(url: str) -> Answer:
    return 303, {"Location": url}, ""


def _checkout(account: Account, session: Json, form: dict[str, str], *, posted: bool) -> Answer:
    if session["status"] == "complete":
        return _to(_success(session))
    if session["status"] == "expired":
        return _html("This page has expired", "<p>Go back to the shop and begin again.</p>", status=410)
    told = ""
    if posted:
        try:
            checkout.complete(
                account,
                session,
                card_number=form.get("number", ""),
                country=form.get("country", ""),
                code=form.get("code", ""),
            )
            return _to(_success(session))
        except Refused as error:
            told = error.body["error"]["message"]
    customer = account.objects.get(session["customer"] or "")
    currency = session["currency"] or "usd"
    rows = "".join(
        f"<tr><td>{escape(line['description'])}</td><td>{money(line['amount_total'], currency)}</td></tr>"
        for line in session["line_items"]["data"]
    )
    tax = checkout.tax_of(account, session, customer)
    rows += f"<tr><td>Tax</td><td>{money(tax, currency)}</td></tr>" if tax else ""
    data = session["_data"]
    trial = data.get("trial_end") or data.get("trial_period_days")
    due = 0 if trial else (session["amount_subtotal"] or 0) + tax
    fields = CARD_FIELDS if checkout.needs_card(session) else "<p>No card is needed for the trial.</p>"
    if session["automatic_tax"]["enabled"]:
        fields += '<label>Country <input name="country" maxlength="2"></label>'
    if session["allow_promotion_codes"]:
        fields += '<label>Promotion code <input name="code"></label>'
    button = "Start trial" if trial else "Subscribe"
    back = f'<a href="{escape(session["cancel_url"])}">Back</a>' if session["cancel_url"] else ""
    body = (f"<table>{rows}<tr><td>Due today</td><td>{money(due, currency)}</td></tr></table>"
            f'<form method="post">{fields}<button>{button}</button></form>{back}')  # fmt: skip
    return _html("Checkout", body, told=told, wrong=True, status=402 if told else 200)


def _success(session: Json) -> str:
    return str(session["success_url"]).replace("{CHECKOUT_SESSION_ID}", session["id"])


def _portal(account: Account, session: Json, form: dict[str, str], *, posted: bool) -> Answer:
    told, wrong = "", False
    if posted:
        try:
            told = portal.press(account, session, form)
        except Refused as error:
            told, wrong = error.body["error"]["message"], True
    customer = account.objects[session["customer"]]
    parts = [
        f'<h2>Payment method</h2><form method="post">{CARD_FIELDS}<button name="action" value="card">Change card</button></form>'
    ]
    for row in account.rows("subscription"):
        if row["customer"] == customer["id"] and row["ended_at"] is None:
            parts.append(_subscription(account, session, row))
    parts.append("<h2>Invoices</h2><ul>")
    for row in account.rows("invoice"):
        if row["customer"] == customer["id"] and row["status"] != "draft":
            parts.append(
                f"<li>{escape(row['number'] or '')} {money(row['total'], row['currency'])} {row['status']}{_pay_button(row)}</li>"
            )
    parts.append("</ul>")
    if session["return_url"]:
        parts.append(f'<a href="{escape(session["return_url"])}">Return</a>')
    return _html("Billing", "".join(parts), told=told, wrong=wrong, status=402 if wrong else 200)


def _subscription(account: Account, session: Json, row: Json) -> str:
    name = ", ".join(escape(account.objects[item["price"]["product"]]["name"]) for item in row["items"]["data"])
    hidden = f'<input type="hidden" name="subscription" value="{row["id"]}">'
    verb, words = ("resume", "Don't cancel") if row["cancel_at_period_end"] else ("cancel", "Cancel subscription")
    offers = "".join(
        f'<form method="post">{hidden}<input type="hidden" name="price" value="{price["id"]}">'
        f'<button name="action" value="switch">Switch to {escape(account.objects[price["product"]]["name"])}</button></form>'
        for price in portal.plans_offered(account, session)
    )
    return f'<h2>{name}: {row["status"]}</h2><form method="post">{hidden}<button name="action" value="{verb}">{words}</button></form>{offers}'


def _pay_button(row: Json) -> str:
    if row["status"] != "open":
        return ""
    return (f' <form method="post"><input type="hidden" name="invoice" value="{row["id"]}">'
            '<button name="action" value="pay">Pay</button></form>')  # fmt: skip


def _invoice(account: Account, invoice: Json, *, pdf: bool, posted: bool) -> Answer:
    if pdf:
        return 200, {"Content-Type": "application/pdf"}, f"%PDF-1.4\n% invoice {invoice['number']}\n%%EOF\n"
    told, wrong = "", False
    if posted:
        try:
            invoices.pay(account, invoice)
        except Refused as error:
            told, wrong = error.body["error"]["message"], True
    rows = "".join(
        f"<tr><td>{escape(line['description'])}</td><td>{money(line['amount'], invoice['currency'])}</td></tr>"
        for line in invoice["lines"]["data"]
    )
    button = '<form method="post"><button>Pay</button></form>' if invoice["status"] == "open" else ""
    body = f"<p>{invoice['status']}</p><table>{rows}<tr><td>Total</td><td>{money(invoice['total'], invoice['currency'])}</td></tr></table>{button}"
    return _html(f"Invoice {invoice['number']}", body, told=told, wrong=wrong)

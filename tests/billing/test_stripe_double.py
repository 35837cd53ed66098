"""Stripe's double, asked by Stripe's own client over the loopback."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest
import stripe

from support.stripe_double import Delivery, StripeDouble
from support.stripe_double.shapes import known_fields, required_fields

SECRET = "whsec_double_0123456789abcdef"
START = 1_800_000_000
DAY = 86_400


class Shop:
    """A client, a double behind it, and a customer with a test clock."""

    def __init__(self, double: StripeDouble, url: str) -> None:
        self.double, self.url = double, url
        addresses: Any = dict.fromkeys(("api", "connect", "files", "meter_events"), url)
        self.client = stripe.StripeClient("sk_test_123", base_addresses=addresses, max_network_retries=0)
        self.v1: Any = self.client.v1
        self.clock = self.v1.test_helpers.test_clocks.create({"frozen_time": START}).id
        self.customer = self.v1.customers.create({"email": "a@shop.example", "test_clock": self.clock}).id
        self.meter = self.v1.billing.meters.create(
            {"display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"}}
        ).id
        self.product = self.v1.products.create({"name": "Pro"}).id
        self.base = self.price(2_900)
        self.other = self.price(9_900)
        tiers = [{"up_to": 1_000, "unit_amount": 0}, {"up_to": "inf", "unit_amount_decimal": "0.2"}]
        metered = {"interval": "month", "usage_type": "metered", "meter": self.meter}
        self.over = self.v1.prices.create(
            {"product": self.product, "currency": "usd", "billing_scheme": "tiered", "tiers_mode": "graduated",
             "tiers": tiers, "recurring": metered}
        ).id  # fmt: skip

    def price(self, amount: int) -> str:
        params = {"product": self.product, "currency": "usd", "unit_amount": amount, "recurring": {"interval": "month"}}
        return str(self.v1.prices.create(params).id)

    def card(self, token: str = "pm_card_visa") -> None:
        method = self.v1.payment_methods.attach(token, {"customer": self.customer}).id
        self.v1.customers.update(self.customer, {"invoice_settings": {"default_payment_method": method}})

    def subscribe(self, **more: Any) -> Any:
        items = [{"price": self.base, "quantity": 1}, {"price": self.over}]
        return self.v1.subscriptions.create({"customer": self.customer, "items": items, **more})

    def use(self, tokens: int, identifier: str, at: int | None = None) -> None:
        payload = {"stripe_customer_id": self.customer, "value": str(tokens)}
        event = {"event_name": "tokens", "identifier": identifier, "payload": payload}
        self.v1.billing.meter_events.create(event | ({"timestamp": at} if at else {}))

    def invoices(self) -> list[Any]:
        return list(self.v1.invoices.list({"customer": self.customer}).data)[::-1]


@pytest.fixture
def shop() -> Iterator[Shop]:
    double = StripeDouble(webhook_secret=SECRET, payloads=("snapshot", "thin"))
    with double.served() as url:
        yield Shop(double, url)


def test_every_object_has_the_fields_that_the_client_knows(shop: Shop) -> None:
    shop.card()
    subscription = shop.subscribe()
    shop.v1.subscription_schedules.create({"from_subscription": subscription.id})
    shop.v1.billing_portal.sessions.create({"customer": shop.customer})
    shop.v1.coupons.create({"percent_off": 10})
    for kind, rows in shop.double.account.tables.items():
        for row in rows.values():
            sent = {name for name in row if not name.startswith("_")}
            assert sent <= known_fields(kind) | {"object", "created"}, kind
            assert required_fields(kind) <= sent, kind


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"nmae": "Acme"}, "parameter_unknown"),
        ({"metadata": {"a": "b"}, "address": {"town": "Berlin"}}, "parameter_unknown"),
        ({"test_clock": "clock_none"}, "resource_missing"),
        ({"balance": "much"}, None),
    ],
)
def test_what_stripe_would_refuse_is_refused(shop: Shop, params: Any, code: str | None) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.customers.create(params)
    assert (refused.value.http_status, refused.value.code) == (400, code)


def test_other_keys_and_versions_are_refused(shop: Shop) -> None:
    with pytest.raises(stripe.AuthenticationError):
        shop.v1.customers.retrieve(shop.customer, options={"api_key": "sk_live_1"})
    with pytest.raises(stripe.InvalidRequestError, match="version"):
        shop.v1.customers.retrieve(shop.customer, options={"stripe_version": "2019-01-01"})


def test_an_idempotency_key_has_one_answer(shop: Shop) -> None:
    options = {"idempotency_key": "once"}
    first = shop.v1.customers.create({"name": "A"}, options)
    assert shop.v1.customers.create({"name": "A"}, options).id == first.id
    with pytest.raises(stripe.IdempotencyError):
        shop.v1.customers.create({"name": "B"}, options)


def test_lists_come_in_pages_newest_first(shop: Shop) -> None:
    made = [shop.v1.products.create({"name": str(number)}).id for number in range(25)]
    found = [row.id for row in shop.v1.products.list({"limit": 10}).auto_paging_iter()]
    assert found[:25] == made[::-1]
    thin = [event.id for event in shop.client.v2.core.events.list({"limit": 7}).auto_paging_iter()]
    assert thin == list(shop.double.account.thin_events)[::-1]


def test_a_trial_converts_and_use_is_invoiced_to_the_token(shop: Shop) -> None:
    url = shop.v1.checkout.sessions.create(
        {"mode": "subscription", "customer": shop.customer, "success_url": "http://shop.example/ok",
         "line_items": [{"price": shop.base, "quantity": 1}, {"price": shop.over}],
         "payment_method_collection": "if_required", "subscription_data": {"trial_period_days": 14}}
    ).url  # fmt: skip
    shop.double.pay(url)
    shop.card()
    subscription = shop.v1.subscriptions.list({"customer": shop.customer}).data[0]
    assert subscription.status == "trialing"
    end = START + 14 * DAY
    shop.double.advance(shop.clock, end + 7_200)
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "active"
    shop.use(3_500, "a")
    shop.double.advance(shop.clock, end + 27 * DAY)
    period = shop.v1.subscriptions.retrieve(subscription.id)["items"].data[0].current_period_end
    shop.double.advance(shop.clock, period + 60)
    shop.use(7, "late", at=period - 1)  # within the hour that the invoice is a draft
    shop.use(11, "next", at=period)
    shop.double.advance(shop.clock, period + 7_200)
    last = shop.invoices()[-1]
    assert [line.quantity for line in last.lines.data] == [1_000, 2_507, 1]
    assert (last.status, last.total) == ("paid", 501 + 2_900)
    assert shop.double.tokens_invoiced(shop.customer, "tokens") == 3_507
    assert shop.double.meter_total(shop.customer, "tokens", START, period + DAY) == 3_518


def test_a_meter_event_counts_once_and_must_make_sense(shop: Shop) -> None:
    shop.use(5, "x")
    with pytest.raises(stripe.InvalidRequestError, match="already exists with identifier x") as again:
        shop.use(5, "x")
    assert again.value.code is None
    for at, code in ((START - 36 * DAY, "timestamp_too_far_in_past"), (START + 600, "timestamp_in_future")):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            shop.use(1, str(at), at=at)
        assert refused.value.code == code
    event = {"event_name": "tokens", "payload": {"stripe_customer_id": shop.customer, "value": "3"}}
    shop.client.v2.billing.meter_events.create({**event, "identifier": "v2"})
    token = shop.client.v2.billing.meter_event_session.create().authentication_token
    stream = stripe.StripeClient(token, base_addresses={"meter_events": shop.url}).v2.billing.meter_event_stream
    stream.create({"events": [{**event, "identifier": "s1"}, {**event, "identifier": "v2"}]})
    assert shop.double.meter_total(shop.customer, "tokens", START, START + 60) == 11
    params = {"customer": shop.customer, "start_time": START - START % 60, "end_time": START - START % 60 + 60}
    assert shop.v1.billing.meters.event_summaries.list(shop.meter, params).data[0].aggregated_value == 11.0


def test_a_preview_says_what_the_change_then_costs(shop: Shop) -> None:
    shop.card()
    subscription = shop.subscribe()
    shop.double.advance(shop.clock, START + 10 * DAY)
    items = [{"id": subscription["items"].data[0].id, "price": shop.other}]
    details = {"items": items, "proration_behavior": "always_invoice"}
    events = len(shop.double.account.events)
    preview = shop.v1.invoices.create_preview({"subscription": subscription.id, "subscription_details": details})
    assert len(shop.double.account.events) == events
    assert shop.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.id == shop.base
    changed = shop.v1.subscriptions.update(subscription.id, details | {"payment_behavior": "error_if_incomplete"})
    invoice = shop.v1.invoices.retrieve(changed.latest_invoice)
    assert (invoice.status, invoice.total) == ("paid", preview.total)
    assert 0 < invoice.total < 7_000


@pytest.mark.parametrize("then", ["canceled", "unpaid", "past_due"])
def test_a_failed_renewal_is_tried_again_and_then_given_up(shop: Shop, then: Any) -> None:
    shop.card()
    shop.double.dunning(retry_days=(3, 5), then=then)
    subscription = shop.subscribe()
    end = subscription["items"].data[0].current_period_end
    shop.double.decline(shop.customer)
    shop.double.advance(shop.clock, end + DAY)
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "past_due"
    shop.double.advance(shop.clock, end + 10 * DAY)
    assert shop.v1.subscriptions.retrieve(subscription.id).status == then
    last = shop.invoices()[-1]
    assert (last.status, last.attempt_count) == ("open", 3)
    shop.double.decline(shop.customer, None)
    shop.v1.invoices.pay(last.id)
    status = shop.v1.subscriptions.retrieve(subscription.id).status
    assert status == ("canceled" if then == "canceled" else "active")


def test_credit_for_a_downgrade_is_kept_for_later(shop: Shop) -> None:
    shop.card()
    subscription = shop.subscribe(items=[{"price": shop.other}])
    shop.double.advance(shop.clock, START + 15 * DAY)
    items = [{"id": subscription["items"].data[0].id, "price": shop.base}]
    shop.v1.subscriptions.update(subscription.id, {"items": items, "proration_behavior": "always_invoice"})
    credit = -shop.v1.customers.retrieve(shop.customer).balance
    assert 0 < credit < 7_000
    shop.double.advance(shop.clock, subscription["items"].data[0].current_period_end + 7_200)
    last = shop.invoices()[-1]
    assert (last.total, last.amount_due) == (2_900, max(0, 2_900 - credit))


def test_coupons_and_taxes_are_worked_out(shop: Shop) -> None:
    shop.card()
    shop.v1.customers.update(shop.customer, {"address": {"country": "DE"}})
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "once"}).id
    code = shop.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon}, "code": "HALF"}).id
    subscription = shop.subscribe(discounts=[{"promotion_code": code}], automatic_tax={"enabled": True})
    first = shop.v1.invoices.retrieve(subscription.latest_invoice)
    assert (first.subtotal, first.total_discount_amounts[0].amount, first.total_taxes[0].amount) == (2_900, 1_450, 276)
    assert first.total == 1_726
    shop.double.advance(shop.clock, subscription["items"].data[0].current_period_end + 7_200)
    assert shop.invoices()[-1].total == 3_451


async def test_webhooks_are_signed_and_can_be_spoilt(shop: Shop) -> None:
    shop.card()
    subscription = await asyncio.to_thread(shop.subscribe)
    queued = list(shop.double.account.outgoing)
    heard: list[str] = []

    async def send(delivery: Delivery) -> int:
        signed = delivery.headers()["Stripe-Signature"]
        if delivery.destination.payload == "thin":
            heard.append(shop.client.parse_event_notification(delivery.body, signed, SECRET).id)
        else:
            heard.append(shop.client.construct_event(delivery.body, signed, SECRET).id)
        return 500 if len(heard) == 1 else 200

    first = await shop.double.deliver(send, duplicate=0.3, reorder=True, delay=0.3, drop=0.1, seed=1)
    assert first.dropped > 0
    assert first.sent > len(set(heard))
    assert heard != [one.event_id for one in queued if one.event_id in heard]
    await shop.double.deliver(send)
    assert len(set(heard)) == len(queued) - first.dropped
    for secret, at in (("whsec_other", None), (SECRET, datetime(2020, 1, 1, tzinfo=UTC).timestamp())):
        signed = queued[0].headers(secret=secret, at=at)["Stripe-Signature"]
        with pytest.raises(stripe.SignatureVerificationError):
            shop.client.construct_event(queued[0].body, signed, SECRET)
    thin = next(one for one in queued if one.type == "v1.customer.subscription.created")
    notice: Any = shop.client.parse_event_notification(thin.body, thin.headers()["Stripe-Signature"], SECRET)
    assert (await asyncio.to_thread(notice.fetch_related_object)).id == subscription.id


def test_outages_look_like_outages(shop: Shop) -> None:
    for mode, error in (
        ("unreachable", stripe.APIConnectionError),
        ("429", stripe.RateLimitError),
        ("500", stripe.APIError),
    ):
        shop.double.outage(mode, retry_after=7, times=1)  # type: ignore[arg-type]
        with pytest.raises(error) as failed:
            shop.v1.customers.retrieve(shop.customer)
        if mode == "429":
            assert failed.value.headers["retry-after"] == "7"
        shop.double.outage(None)
    shop.double.outage("lost", times=1)
    with pytest.raises(stripe.APIConnectionError):
        shop.v1.customers.create({"name": "Ghost"}, {"idempotency_key": "ghost"})
    made = shop.v1.customers.create({"name": "Ghost"}, {"idempotency_key": "ghost"})
    assert [row["id"] for row in shop.double.account.rows("customer") if row["name"] == "Ghost"] == [made.id]


def _browse(url: str, **form: str) -> tuple[int, str, str]:
    """Ask for a page, or send its form; status, where it leads, and the page."""
    host, _, path = url.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=5)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST" if form else "GET", f"/{path}", urlencode(form) or None, headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers.get("Location", ""), answer.read().decode()
    connection.close()
    return found


def test_checkout_and_the_portal_are_pages(shop: Shop) -> None:
    session = shop.v1.checkout.sessions.create(
        {"mode": "subscription", "customer": shop.customer, "line_items": [{"price": shop.base, "quantity": 1}],
         "success_url": "http://shop.example/ok?s={CHECKOUT_SESSION_ID}", "cancel_url": "http://shop.example/back"}
    )  # fmt: skip
    status, _, page = _browse(session.url)
    assert (status, "29.00 USD" in page, "http://shop.example/back" in page) == (200, True, True)
    status, _, page = _browse(session.url, number="4000 0000 0000 0002")
    assert (status, "Your card was declined." in page) == (402, True)
    status, leads, _ = _browse(session.url, number="4242 4242 4242 4242")
    assert (status, leads) == (303, f"http://shop.example/ok?s={session.id}")
    (subscription,) = shop.v1.subscriptions.list({"customer": shop.customer}).data
    portal = shop.v1.billing_portal.sessions.create({"customer": shop.customer, "return_url": "http://shop.example/"})
    assert "Cancel subscription" in _browse(portal.url)[2]
    _browse(portal.url, action="cancel", subscription=subscription.id)
    assert shop.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end
    assert "Your card was changed." in _browse(portal.url, action="card", number="5555555555554444")[2]
    assert "Invoice" in _browse(shop.invoices()[0].hosted_invoice_url)[2]


def test_a_downgrade_waits_for_the_period_by_a_schedule(shop: Shop) -> None:
    shop.card()
    subscription = shop.subscribe(items=[{"price": shop.other}])
    end = subscription["items"].data[0].current_period_end
    schedule = shop.v1.subscription_schedules.create({"from_subscription": subscription.id})
    start = schedule.phases[0].start_date
    phases = [
        {"items": [{"price": shop.other, "quantity": 1}], "start_date": start, "end_date": end},
        {"items": [{"price": shop.base, "quantity": 1}], "start_date": end, "metadata": {"plan": "starter"}},
    ]
    shop.v1.subscription_schedules.update(schedule.id, {"phases": phases, "end_behavior": "release"})
    shop.double.advance(shop.clock, end - 60)
    assert shop.v1.subscriptions.retrieve(subscription.id)["items"].data[0].price.id == shop.other
    shop.double.advance(shop.clock, end + 7_200)
    later = shop.v1.subscriptions.retrieve(subscription.id)
    assert (later["items"].data[0].price.id, later.metadata["plan"]) == (shop.base, "starter")
    assert [invoice.total for invoice in shop.invoices()] == [9_900, 2_900]

"""The one door to Stripe: calls go out bounded, and come back as plain JSON or as errors of ours.

Every call waits `TIMEOUT_SECONDS` at most and is tried `RETRIES` times more under one idempotency key (the library's own).
Stripe remembers what it answered to a key for a day, its own failures included: a key of ours is given only where the same
thing must never be made twice, and carries the hour, so that a failure does not stick.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import httpx
import stripe

from stonechat import clock
from stonechat.errors import InvalidInput, PaymentDeclined, UpstreamFailed, UpstreamTimedOut, WebhookRefused

METER_EVENT = "stonechat_tokens_beyond"
"""Of tokens beyond a plan, which are all that Stripe is told."""
TIMEOUT_SECONDS = 15.0
RETRIES = 2
MAX_INVOICES = 100
MAX_SUBSCRIPTIONS = 20
MAX_PAGES = 20
MAX_AGE_SECONDS = 300
"""Of a webhook, by its signature's own time, either way."""
REFUSED = "Stripe refused this."
DUPLICATE_CODES = frozenset({"resource_already_exists", "duplicate_meter_event"})

# What the machine is called, and how long calls took, is nobody's business but ours.
stripe.enable_telemetry = False
_log = logging.getLogger(__name__)

Json = dict[str, Any]


class _Client(stripe.HTTPXClient):
    """Hands httpx the bodies as it wants them: the library's own way is deprecated there, and warns with every request."""

    def _get_request_args_kwargs(self, method: str, url: str, headers: Any, post_data: Any) -> Any:
        return [(method, url), {"headers": headers, "content": post_data or b"", "timeout": self._timeout}]


class StripeGateway:
    """Stripe's API as far as we use it, at the version that the library pins. `base_url` stands for all its addresses."""

    def __init__(
        self, secret_key: str, *, base_url: str | None = None, timeout: float = TIMEOUT_SECONDS, retries: int = RETRIES
    ) -> None:
        self._http: Any = _Client(timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)))
        addresses: Any = {}
        if base_url is not None:
            addresses = dict.fromkeys(("api", "connect", "files", "meter_events"), base_url.rstrip("/"))
        self._client = stripe.StripeClient(
            secret_key, base_addresses=addresses, max_network_retries=retries, http_client=self._http
        )
        self._v1: Any = self._client.v1  # parameters are made as plain dictionaries, which its types do not take

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close_async()

    # Customers

    async def create_customer(self, tenant_id: UUID, *, name: str, email: str | None) -> str:
        """Its id. Within the hour the same tenant gets the same customer, whatever happened in between."""
        params: Json = {"name": name, "metadata": {"tenant_id": str(tenant_id)}}
        params |= {"email": email} if email else {}
        key = f"stonechat-customer-{tenant_id}-{clock.now():%Y%m%d%H}"
        return str((await _call(self._v1.customers.create_async(params, {"idempotency_key": key})))["id"])

    async def get_customer(self, customer_id: str) -> Json:
        """The customer; a deleted one says `"deleted": true`."""
        return await _call(self._v1.customers.retrieve_async(customer_id))

    async def rename_customer(self, customer_id: str, *, name: str, email: str | None) -> None:
        """What invoices are made out to until the customer says otherwise."""
        await _call(self._v1.customers.update_async(customer_id, {"name": name} | ({"email": email} if email else {})))

    # Catalogue

    async def find_prices(self, lookup_keys: Sequence[str]) -> dict[str, Json]:
        """Active prices by lookup key, those that exist."""
        found = await _call(self._v1.prices.list_async({"lookup_keys": list(lookup_keys), "active": True, "limit": 10}))
        return {price["lookup_key"]: price for price in found["data"]}

    async def ensure_product(self, product_id: str, *, name: str) -> None:
        """A product by an id of ours, made if it is not there."""
        try:
            await _call(self._v1.products.create_async({"id": product_id, "name": name}))
        except UpstreamFailed as error:
            if error.members.get("stripe_code") != "resource_already_exists":
                raise

    async def create_price(self, params: Json, *, lookup_key: str) -> Json:
        """A price, made once for its lookup key."""
        key = f"stonechat-price-{lookup_key}-{clock.now():%Y%m%d%H}"
        return await _call(self._v1.prices.create_async(params | {"lookup_key": lookup_key}, {"idempotency_key": key}))

    async def ensure_meter(self, event_name: str = METER_EVENT) -> str:
        """The id of the meter of these events, made if it is not there."""
        meters = await _call(self._v1.billing.meters.list_async({"status": "active", "limit": 100}))
        for meter in meters["data"]:
            if meter["event_name"] == event_name:
                return str(meter["id"])
        params = {
            "display_name": "Tokens beyond plans",
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        }
        key = f"stonechat-meter-{event_name}-{clock.now():%Y%m%d%H}"
        return str((await _call(self._v1.billing.meters.create_async(params, {"idempotency_key": key})))["id"])

    # Checkout and portal

    async def create_checkout(self, params: Json) -> Json:
        """A Checkout session: `url` is where the customer goes."""
        return await _call(self._v1.checkout.sessions.create_async(params))

    async def expire_checkouts(self, customer_id: str) -> None:
        """Close pages that are still open, so that no second subscription comes of a forgotten tab."""
        listed = await _call(
            self._v1.checkout.sessions.list_async({"customer": customer_id, "status": "open", "limit": 20})
        )
        for session in listed["data"]:
            await _call(self._v1.checkout.sessions.expire_async(session["id"]))

    async def create_portal(self, customer_id: str, *, return_url: str) -> str:
        """The portal's URL."""
        params = {"customer": customer_id, "return_url": return_url}
        return str((await _call(self._v1.billing_portal.sessions.create_async(params)))["url"])

    # Subscriptions

    async def list_subscriptions(self, customer_id: str) -> list[Json]:
        """All of the customer's, ended ones too, newest first, with their schedules."""
        params = {"customer": customer_id, "status": "all", "limit": MAX_SUBSCRIPTIONS, "expand": ["data.schedule"]}
        found: list[Json] = (await _call(self._v1.subscriptions.list_async(params)))["data"]
        return sorted(found, key=lambda one: (one["created"], one["id"]), reverse=True)

    async def update_subscription(self, subscription_id: str, params: Json) -> Json:
        """Change it. Raises `PaymentDeclined` where the change had to be paid at once and was not; nothing changed then."""
        return await _call(self._v1.subscriptions.update_async(subscription_id, params))

    async def cancel_subscription(self, subscription_id: str, *, prorate: bool) -> None:
        """End it now, invoicing what was used; `prorate` gives credit for the days that were paid and not had."""
        try:
            await _call(self._v1.subscriptions.cancel_async(subscription_id, {"invoice_now": True, "prorate": prorate}))
        except UpstreamFailed as error:
            if error.members.get("stripe_code") != "resource_missing":  # ended already
                raise

    async def preview(self, params: Json) -> Json:
        """The invoice that a change would make."""
        return await _call(self._v1.invoices.create_preview_async(params))

    async def schedule_change(
        self, subscription: Json, *, items: Sequence[Json], at: int, metadata: Mapping[str, str]
    ) -> None:
        """Let other items take the place of the subscription's at `at` (Unix time); `metadata` is noted on that phase."""
        schedule = await _call(self._v1.subscription_schedules.create_async({"from_subscription": subscription["id"]}))
        now_items = [
            {"price": item["price"]["id"]} | ({"quantity": item["quantity"]} if item.get("quantity") else {})
            for item in subscription["items"]["data"]
        ]
        started = schedule["phases"][0]["start_date"]
        phases: list[Json] = [
            {"items": now_items, "start_date": started, "end_date": at, "proration_behavior": "none"},
            {"items": list(items), "start_date": at, "proration_behavior": "none", "metadata": dict(metadata)},
        ]
        await _call(
            self._v1.subscription_schedules.update_async(
                schedule["id"], {"phases": phases, "end_behavior": "release", "proration_behavior": "none"}
            )
        )

    async def change_scheduled(self, schedule: Json, *, items: Sequence[Sequence[Json]], proration: str) -> None:
        """Let these be the items of the schedule's phases from the present one on; the first holds at once."""
        current = schedule["current_phase"]["start_date"]
        coming = [phase for phase in schedule["phases"] if phase["start_date"] >= current]
        phases: list[Json] = [
            {
                "items": list(chosen),
                "start_date": phase["start_date"],
                "end_date": phase["end_date"],
                "proration_behavior": "none",
                "metadata": dict(phase.get("metadata") or {}),
            }
            for phase, chosen in zip(coming, items, strict=True)
        ]
        params: Json = {"phases": phases, "end_behavior": "release", "proration_behavior": proration}
        await _call(self._v1.subscription_schedules.update_async(schedule["id"], params))

    async def release_schedule(self, schedule_id: str) -> None:
        """Take back what was to happen later; the subscription goes on as it is."""
        await _call(self._v1.subscription_schedules.release_async(schedule_id))

    # Invoices, and whatever an event speaks of

    async def list_invoices(self, customer_id: str) -> tuple[list[Json], bool]:
        """The newest `MAX_INVOICES`, and whether these are all."""
        listed = await _call(self._v1.invoices.list_async({"customer": customer_id, "limit": MAX_INVOICES}))
        return listed["data"], not listed["has_more"]

    async def add_item(self, customer_id: str, params: Json, *, settlement_id: str) -> Json:
        """An item that the customer's next invoice takes. Once for a settlement: Stripe remembers its key for a day, and who
        asks later looks with `find_item` first."""
        body = params | {"customer": customer_id, "metadata": {"settlement": settlement_id}}
        key = f"stonechat-settlement-{settlement_id}"
        return await _call(self._v1.invoice_items.create_async(body, {"idempotency_key": key}))

    async def find_item(self, customer_id: str, *, settlement_id: str, since: datetime) -> Json | None:
        """The settlement's item among those made since then, if there is one."""
        params: Json = {"customer": customer_id, "created": {"gte": int(since.timestamp())}, "limit": 100}
        for _ in range(MAX_PAGES):
            listed = await _call(self._v1.invoice_items.list_async(params))
            for item in listed["data"]:
                if (item.get("metadata") or {}).get("settlement") == settlement_id:
                    return dict(item)
            if not listed["has_more"]:
                return None
            params = params | {"starting_after": listed["data"][-1]["id"]}
        raise UpstreamFailed("The customer has too many items at Stripe to look through.")

    async def get_item(self, item_id: str) -> Json | None:
        """An item; None for one that somebody deleted at Stripe."""
        try:
            item = await _call(self._v1.invoice_items.retrieve_async(item_id))
        except UpstreamFailed as error:
            if error.members.get("stripe_code") == "resource_missing":
                return None
            raise
        return None if item.get("deleted") else item

    async def invoice_pending(self, customer_id: str, *, currency: str, tax: bool, settlement_id: str) -> Json:
        """An invoice of the items that wait, for a customer who has no subscription to invoice any more."""
        params: Json = {"customer": customer_id, "currency": currency, "auto_advance": True}
        params |= {"pending_invoice_items_behavior": "include", "collection_method": "charge_automatically"}
        params |= {"automatic_tax": {"enabled": True}} if tax else {}
        key = f"stonechat-settlement-{settlement_id}-invoice"
        return await _call(self._v1.invoices.create_async(params, {"idempotency_key": key}))

    async def customer_of(self, object_type: str, object_id: str) -> str | None:
        """Whose a subscription, an invoice or a Checkout session is; None for what is nobody's, or gone."""
        rooms = {
            "subscription": self._v1.subscriptions,
            "invoice": self._v1.invoices,
            "checkout.session": self._v1.checkout.sessions,
            "subscription_schedule": self._v1.subscription_schedules,
        }
        if object_type == "customer":
            return object_id
        if object_type not in rooms:
            return None
        try:
            customer = (await _call(rooms[object_type].retrieve_async(object_id))).get("customer")
        except UpstreamFailed as error:
            if error.members.get("stripe_code") == "resource_missing":
                return None
            raise
        return str(customer["id"]) if isinstance(customer, dict) else customer

    # Use

    async def send_use(
        self, customer_id: str, *, tokens: int, identifier: str, at: datetime, meter: str = METER_EVENT
    ) -> None:
        """Tell of use, once for an identifier: what was told before is well. Not tried again here; the outbox does."""
        event = {
            "event_name": meter,
            "identifier": identifier,
            "timestamp": int(at.timestamp()),
            "payload": {"stripe_customer_id": customer_id, "value": str(tokens)},
        }
        try:
            await _call(self._v1.billing.meter_events.create_async(event, {"max_network_retries": 0}))
        except UpstreamFailed as error:
            if error.members.get("stripe_code") not in DUPLICATE_CODES:
                raise

    async def use_told(self, meter_id: str, customer_id: str, *, start: datetime, end: datetime) -> int:
        """Tokens that Stripe counts for the customer in [start, end), both on the minute."""
        params = {
            "customer": customer_id,
            "start_time": int(start.timestamp()),
            "end_time": int(end.timestamp()),
            "limit": 100,
        }
        listed = await _call(self._v1.billing.meters.event_summaries.list_async(meter_id, params))
        return sum(int(float(summary["aggregated_value"])) for summary in listed["data"])

    async def check(self) -> str:
        """Whether the key works: the account's name or id."""
        account = await _call(self._v1.accounts.retrieve_current_async())
        return str((account.get("settings") or {}).get("dashboard", {}).get("display_name") or account["id"])


def verify_signature(payload: bytes, header: str | None, *, secrets: Sequence[str]) -> None:
    """Raise `WebhookRefused` unless one of the secrets signed these bytes within the last five minutes."""
    usable = [secret for secret in secrets if secret.strip()]
    if not usable:
        raise WebhookRefused(
            "Set STRIPE_WEBHOOK_SECRET: without it nobody can tell who sends this.", reason="no_secret"
        )
    if not header or len(header) > 2000:
        raise WebhookRefused("There is no Stripe-Signature.", reason="unsigned")
    for number, secret in enumerate(usable, start=1):
        try:
            stripe.WebhookSignature.verify_header(payload, header, secret)
        except (stripe.SignatureVerificationError, UnicodeDecodeError):
            if number == len(usable):
                raise WebhookRefused("The signature is not right.", reason="wrong_signature") from None
        else:
            break
    signed = next((part[2:] for part in header.split(",") if part.startswith("t=")), "")
    if not signed.isdigit() or abs(clock.now().timestamp() - int(signed[:12])) > MAX_AGE_SECONDS:
        raise WebhookRefused("The signature is too old, or our clock is wrong.", reason="too_old")


async def _call(answer: Awaitable[stripe.StripeObject]) -> Json:
    """What Stripe answered, as plain JSON. Raises our own errors."""
    try:
        return (await answer).to_dict()
    except stripe.StripeError as error:
        _raise(error)


def _raise(error: stripe.StripeError) -> NoReturn:
    if isinstance(error, stripe.CardError):
        raise PaymentDeclined(error.user_message, stripe_code=error.code) from error
    if isinstance(error, stripe.APIConnectionError):
        if isinstance(error.__cause__, httpx.TimeoutException):
            raise UpstreamTimedOut("Stripe did not answer in time. Try again in a minute.") from error
        raise UpstreamFailed("Stripe cannot be reached. Try again in a minute.") from error
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        raise UpstreamFailed("Stripe does not accept our key.", stripe_code=error.code) from error
    headers: Mapping[str, str] = error.headers or {}
    wait = headers.get("retry-after") or headers.get("Retry-After")
    if isinstance(error, stripe.InvalidRequestError):
        if error.code in ("coupon_expired", "promotion_code_invalid") or error.param in ("promotion_code", "coupon"):
            raise InvalidInput("This code is not valid, or not any more.") from error
        code = error.code or ("resource_already_exists" if _is_duplicate(error) else None)
        level = logging.INFO if code in (*DUPLICATE_CODES, "resource_missing") else logging.WARNING
        _log.log(level, "Stripe refused a request: %s (%s, %s)", error.user_message, code, error.param)
        raise UpstreamFailed(REFUSED, stripe_code=code, stripe_status=error.http_status) from error
    raise UpstreamFailed("Stripe cannot do this right now. Try again in a minute.", retry_after=wait) from error


def _is_duplicate(error: stripe.InvalidRequestError) -> bool:
    """v1 has no code for a meter event that was told before, only a sentence."""
    return error.http_status == 400 and "already exists with identifier" in str(error.user_message or "")

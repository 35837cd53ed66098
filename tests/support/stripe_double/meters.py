"""Meters and the events that feed them, by v1, by v2, and by the v2 stream, with the rules that reject an event."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from support.stripe_double.account import Account, timestamp
from support.stripe_double.catalog import changed
from support.stripe_double.refusals import Refused, missing
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]
OLDEST_SECONDS = 35 * 86_400
FUTURE_SECONDS = 5 * 60
UNIQUE_SECONDS = 24 * 3600
SESSION_SECONDS = 15 * 60
MAX_IDENTIFIER = 100
MAX_STREAM_EVENTS = 100


@route("POST", "/v1/billing/meters", "billing.MeterCreateParams")
def create_meter(call: Call) -> Json:
    account, params = call.account, call.params
    if any(
        row["event_name"] == params["event_name"] and row["status"] == "active" for row in account.rows("billing.meter")
    ):
        raise Refused("A meter with that event name exists already.", param="event_name")
    now = account.now()
    meter = account.put(
        {
            "id": account.new_id("mtr_test", 32),
            "object": "billing.meter",
            "created": now,
            "updated": now,
            "customer_mapping": params.get(
                "customer_mapping", {"event_payload_key": "stripe_customer_id", "type": "by_id"}
            ),
            "default_aggregation": params["default_aggregation"],
            "display_name": params["display_name"],
            "event_name": params["event_name"],
            "event_time_window": params.get("event_time_window"),
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "value_settings": params.get("value_settings", {"event_payload_key": "value"}),
            "_events": [],
        }
    )
    account.emit("billing.meter.created", meter)
    return meter


@route("GET", "/v1/billing/meters/{id}", "billing.MeterRetrieveParams")
def get_meter(call: Call) -> Json:
    return call.account.find("billing.meter", call.id)


@route("POST", "/v1/billing/meters/{id}", "billing.MeterUpdateParams")
def update_meter(call: Call) -> Json:
    return changed(call, "billing.meter", "billing.meter.updated")


@route("GET", "/v1/billing/meters", "billing.MeterListParams")
def list_meters(call: Call) -> Json:
    return listed(call, call.account.rows("billing.meter"), equal=("status",))


@route("POST", "/v1/billing/meters/{id}/deactivate", "billing.MeterDeactivateParams")
def deactivate_meter(call: Call) -> Json:
    meter = call.account.find("billing.meter", call.id)
    meter["status"], meter["status_transitions"] = "inactive", {"deactivated_at": call.account.now()}
    call.account.emit("billing.meter.deactivated", meter)
    return meter


@route("POST", "/v1/billing/meters/{id}/reactivate", "billing.MeterReactivateParams")
def reactivate_meter(call: Call) -> Json:
    meter = call.account.find("billing.meter", call.id)
    meter["status"], meter["status_transitions"] = "active", {"deactivated_at": None}
    call.account.emit("billing.meter.reactivated", meter)
    return meter


def accept(account: Account, given: Json, moment: int | None) -> tuple[str, int]:
    """Take one meter event; returns its identifier and time. Raises for everything that Stripe rejects."""
    name, payload = given["event_name"], given["payload"]
    meter = next((row for row in account.rows("billing.meter") if row["event_name"] == name), None)
    if meter is None:
        raise missing("billing meter", name, param="event_name", status=400)
    if meter["status"] != "active":
        raise Refused(f"The meter for the event name {name} is inactive.", code="archived_meter", param="event_name")
    customer_key, value_key = (
        meter["customer_mapping"]["event_payload_key"],
        meter["value_settings"]["event_payload_key"],
    )
    customer_id = payload.get(customer_key)
    if not customer_id:
        raise Refused(f"Customer mapping key {customer_key} not found in payload.", param="payload")
    if customer_id not in account.tables.get("customer", {}):
        raise missing("customer", customer_id, param=f"payload[{customer_key}]", status=400)
    value = _value(payload.get(value_key), value_key, counts=meter["default_aggregation"]["formula"] == "count")
    now = account.now_of(customer_id)
    moment = now if moment is None else moment
    if moment < now - OLDEST_SECONDS:
        raise Refused(
            "The timestamp must be within the past 35 calendar days.",
            code="timestamp_too_far_in_past",
            param="timestamp",
        )
    if moment > now + FUTURE_SECONDS:
        raise Refused(
            "The timestamp must not be more than 5 minutes in the future.",
            code="timestamp_in_future",
            param="timestamp",
        )
    identifier = given.get("identifier") or account.new_id("mev", 32)
    if len(identifier) > MAX_IDENTIFIER:
        raise Refused("Invalid string: identifier must be at most 100 characters", param="identifier")
    received = account.wall()
    seen = account.seen_meter_events.get(identifier)
    if seen is not None and received - seen < UNIQUE_SECONDS:
        raise Refused(f"An event already exists with identifier {identifier}.")  # it carries no code
    account.seen_meter_events[identifier] = received
    meter["_events"].append(
        {"customer": customer_id, "timestamp": moment, "value": value, "identifier": identifier, "received": received}
    )
    return identifier, moment


def _value(given: Any, key: str, *, counts: bool) -> Decimal:
    if counts:
        return Decimal(1)
    if given is None:
        raise Refused(f"Value key {key} not found in payload.", code="meter_event_value_not_found", param="payload")
    try:
        value = Decimal(str(given))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise Refused(f"Invalid value: {given}", code="meter_event_invalid_value", param=f"payload[{key}]")
    return value


def total(account: Account, meter_id: str, customer_id: str, start: int, end: int) -> int:
    """What a meter says of a customer for events at or after `start` and before `end`."""
    meter = account.objects[meter_id]
    values = [
        event["value"]
        for event in meter["_events"]
        if event["customer"] == customer_id and start <= event["timestamp"] < end
    ]
    if meter["default_aggregation"]["formula"] == "last":
        return int(values[-1]) if values else 0
    return int(sum(values, Decimal(0)))


@route("POST", "/v1/billing/meter_events", "billing.MeterEventCreateParams")
def create_meter_event(call: Call) -> Json:
    account, params = call.account, call.params
    identifier, moment = accept(account, params, call.get("timestamp"))
    return {
        "object": "billing.meter_event", "created": account.wall(), "event_name": params["event_name"],
        "identifier": identifier, "livemode": False, "payload": params["payload"], "timestamp": moment,
    }  # fmt: skip


@route("POST", "/v2/billing/meter_events", "v2.billing.MeterEventCreateParams")
def create_meter_event_v2(call: Call) -> Json:
    account, params = call.account, call.params
    identifier, moment = accept(account, params, _seconds(call.get("timestamp")))
    return {
        "object": "v2.billing.meter_event", "created": timestamp(account.wall()), "event_name": params["event_name"],
        "identifier": identifier, "livemode": False, "payload": params["payload"], "timestamp": timestamp(moment),
    }  # fmt: skip


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refused(f"Invalid timestamp: {text}", param="timestamp") from None
    if moment.tzinfo is None:
        raise Refused(f"Invalid timestamp: {text}", param="timestamp")
    return int(moment.timestamp())


@route("POST", "/v2/billing/meter_event_session", "v2.billing.MeterEventSessionCreateParams")
def create_session(call: Call) -> Json:
    account, now = call.account, call.account.wall()
    token = account.new_id("token", 48)
    account.meter_sessions[token] = now + SESSION_SECONDS
    return {
        "id": account.new_id("mes"), "object": "v2.billing.meter_event_session", "authentication_token": token,
        "created": timestamp(now), "expires_at": timestamp(now + SESSION_SECONDS), "livemode": False,
    }  # fmt: skip


@route("POST", "/v2/billing/meter_event_stream", "v2.billing.MeterEventStreamCreateParams")
def stream_meter_events(call: Call) -> Json:
    """Accepts up to 100 events; what is wrong with one of them is not answered but reported by an event."""
    events = call.params["events"]
    if not 1 <= len(events) <= MAX_STREAM_EVENTS:
        raise Refused("events: between 1 and 100 are taken at once", param="events")
    for event in events:
        try:
            accept(call.account, event, _seconds(event.get("timestamp")))
        except Refused as error:
            meter = next(
                (row for row in call.account.rows("billing.meter") if row["event_name"] == event["event_name"]), None
            )
            call.account.stream_errors.append({"event": event, "error": error.body["error"]})
            if meter is not None:
                call.account.emit("billing.meter.error_report_triggered", meter)
    return {}


@route("POST", "/v1/billing/meter_event_adjustments", "billing.MeterEventAdjustmentCreateParams")
def adjust(call: Call) -> Json:
    account, params = call.account, call.params
    identifier = (call.get("cancel") or {}).get("identifier")
    meter = next((row for row in account.rows("billing.meter") if row["event_name"] == params["event_name"]), None)
    found = next((event for event in (meter or {}).get("_events", []) if event["identifier"] == identifier), None)
    if meter is None or found is None or account.wall() - found["received"] >= UNIQUE_SECONDS:
        raise missing("meter event", str(identifier), param="cancel[identifier]", status=400)
    meter["_events"].remove(found)
    return {
        "object": "billing.meter_event_adjustment", "cancel": {"identifier": identifier}, "livemode": False,
        "event_name": params["event_name"], "status": "complete", "type": "cancel",
    }  # fmt: skip


@route("GET", "/v1/billing/meters/{id}/event_summaries", "billing.MeterEventSummaryListParams")
def summaries(call: Call) -> Json:
    account, params = call.account, call.params
    meter = account.find("billing.meter", call.id)
    account.named("customer", params["customer"], "customer")
    start, end = params["start_time"], params["end_time"]
    window = {"hour": 3600, "day": 86_400}.get(call.get("value_grouping_window"), 0)
    if start % (window or 60) or end % (window or 60) or end <= start:
        raise Refused(
            "start_time and end_time must be aligned with the window's boundaries, and in order.", param="start_time"
        )
    steps = range(start, end, window) if window else [start]
    rows = [
        {
            "id": f"mtrusg_{meter['id'][9:20]}{begin}", "object": "billing.meter_event_summary", "livemode": False,
            "aggregated_value": float(value), "start_time": begin, "end_time": begin + (window or end - start),
            "meter": meter["id"], "created": begin,
        }
        for begin in steps
        if (value := total(account, meter["id"], params["customer"], begin, begin + (window or end - start))) or not window
    ]  # fmt: skip
    page = listed(call, rows)
    page["data"] = [{key: value for key, value in row.items() if key != "created"} for row in page["data"]]
    return page

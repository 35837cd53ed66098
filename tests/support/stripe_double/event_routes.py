"""The API of events, by v1 and by v2, and of where they are sent."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import Any

from support.stripe_double.account import API_VERSION, timestamp
from support.stripe_double.delivery import Delivery, Destination, body_of
from support.stripe_double.refusals import Refused, missing
from support.stripe_double.routing import Call, listed, route

Json = dict[str, Any]


@route("GET", "/v1/events/{id}", "EventRetrieveParams")
def get_event(call: Call) -> Json:
    if call.id not in call.account.events:
        raise missing("event", call.id)
    return call.account.events[call.id]


@route("GET", "/v1/events", "EventListParams")
def list_events(call: Call) -> Json:
    wanted = call.get("types") or ([call.params["type"]] if call.get("type") else ["*"])
    rows = [
        event
        for event in call.account.events.values()
        if any(fnmatch.fnmatchcase(event["type"], name) for name in wanted)
    ]
    return listed(call, rows)


@route("GET", "/v2/core/events/{id}", "v2.core.EventRetrieveParams")
def get_thin_event(call: Call) -> Json:
    if call.id not in call.account.thin_events:
        raise missing("event", call.id)
    return call.account.thin_events[call.id]


@route("GET", "/v2/core/events", "v2.core.EventListParams")
def list_thin_events(call: Call) -> Json:
    """Newest first; `next_page_url` carries the place to go on from."""
    limit, wanted = call.get("limit", 20), call.get("types")
    created = {name: datetime.fromisoformat(text) for name, text in call.get("created", {}).items()}
    tests = {"gt": datetime.__gt__, "gte": datetime.__ge__, "lt": datetime.__lt__, "lte": datetime.__le__}
    rows = [
        event
        for event in reversed(call.account.thin_events.values())
        if (wanted is None or event["type"] in wanted)
        and call.get("object_id") in (None, event["related_object"]["id"])
        and all(tests[name](datetime.fromisoformat(event["created"]), bound) for name, bound in created.items())
    ]
    return _page(call, rows, limit)


def _page(call: Call, rows: list[Json], limit: int) -> Json:
    start = int(call.page or 0)
    following = start + limit if start + limit < len(rows) else None
    url = f"{call.path}?page={following}&limit={limit}" if following is not None else None
    back = f"{call.path}?page={max(0, start - limit)}&limit={limit}" if start else None
    return {"data": rows[start : start + limit], "next_page_url": url, "previous_page_url": back}


def _endpoint(destination: Destination, row: Json, *, secret: bool = False) -> Json:
    shown = {key: value for key, value in row.items() if key != "secret" or secret}
    return {**shown, "status": "enabled" if destination.enabled else "disabled"}


def _destination(call: Call, destination_id: str) -> Destination:
    found = next((row for row in call.account.destinations if row.id == destination_id), None)
    if found is None or destination_id not in call.account.objects:
        raise missing("webhook endpoint", destination_id)
    return found


@route("POST", "/v1/webhook_endpoints", "WebhookEndpointCreateParams")
def create_endpoint(call: Call) -> Json:
    account, params = call.account, call.params
    destination = Destination(
        account.new_id("we"), "snapshot", account.new_id("whsec", 32), params["url"], tuple(params["enabled_events"])
    )
    account.destinations.append(destination)
    row = account.put(
        {
            "id": destination.id,
            "object": "webhook_endpoint",
            "api_version": params.get("api_version", API_VERSION),
            "created": account.now(),
            "description": params.get("description"),
            "enabled_events": params["enabled_events"],
            "metadata": params.get("metadata", {}),
            "secret": destination.secret,
            "status": "enabled",
            "url": params["url"],
        }
    )
    return _endpoint(destination, row, secret=True)


@route("GET", "/v1/webhook_endpoints/{id}", "WebhookEndpointRetrieveParams")
def get_endpoint(call: Call) -> Json:
    return _endpoint(_destination(call, call.id), call.account.find("webhook_endpoint", call.id))


@route("GET", "/v1/webhook_endpoints", "WebhookEndpointListParams")
def list_endpoints(call: Call) -> Json:
    page = listed(call, call.account.rows("webhook_endpoint"))
    page["data"] = [_endpoint(_destination(call, row["id"]), row) for row in page["data"]]
    return page


@route("POST", "/v1/webhook_endpoints/{id}", "WebhookEndpointUpdateParams")
def update_endpoint(call: Call) -> Json:
    destination, row = _destination(call, call.id), call.account.find("webhook_endpoint", call.id)
    destination.url = row["url"] = call.get("url", row["url"])
    row["enabled_events"] = call.get("enabled_events", row["enabled_events"])
    destination.types = tuple(row["enabled_events"])
    destination.enabled = not call.get("disabled", not destination.enabled)
    return _endpoint(destination, row)


@route("DELETE", "/v1/webhook_endpoints/{id}", "WebhookEndpointDeleteParams")
def delete_endpoint(call: Call) -> Json:
    call.account.destinations.remove(_destination(call, call.id))
    return call.account.drop("webhook_endpoint", call.id)


@route("POST", "/v2/core/event_destinations", "v2.core.EventDestinationCreateParams")
def create_destination(call: Call) -> Json:
    account, params = call.account, call.params
    if params["type"] != "webhook_endpoint" or "webhook_endpoint" not in params:
        raise Refused("The double sends to webhook endpoints only.", param="type")
    url = params["webhook_endpoint"]["url"]
    destination = Destination(account.new_id("ed_test", 32), params["event_payload"], account.new_id("whsec", 32), url,
                              tuple(params["enabled_events"]))  # fmt: skip
    account.destinations.append(destination)
    now = timestamp(account.now())
    row = account.put(
        {
            "id": destination.id,
            "object": "v2.core.event_destination",
            "created": now,
            "updated": now,
            "description": params.get("description", ""),
            "enabled_events": params["enabled_events"],
            "event_payload": params["event_payload"],
            "events_from": params.get("events_from", ["@self"]),
            "metadata": params.get("metadata", {}),
            "name": params["name"],
            "status": "enabled",
            "type": "webhook_endpoint",
            "snapshot_api_version": API_VERSION if params["event_payload"] == "snapshot" else None,
        }
    )
    include = params.get("include", [])
    shown = {"signing_secret": destination.secret if "webhook_endpoint.signing_secret" in include else None,
             "url": url if "webhook_endpoint.url" in include else None}  # fmt: skip
    return {**row, "webhook_endpoint": shown}


@route("GET", "/v2/core/event_destinations/{id}", "v2.core.EventDestinationRetrieveParams")
def get_destination(call: Call) -> Json:
    return call.account.find("v2.core.event_destination", call.id)


@route("GET", "/v2/core/event_destinations", "v2.core.EventDestinationListParams")
def list_destinations(call: Call) -> Json:
    return _page(call, list(call.account.rows("v2.core.event_destination")), call.get("limit", 20))


@route("POST", "/v2/core/event_destinations/{id}/{verb}")
def turn_destination(call: Call) -> Json:
    """Enable, disable, or ping."""
    row, verb = call.account.find("v2.core.event_destination", call.id), call.ids[1]
    destination = _destination(call, call.id)
    if verb in ("enable", "disable"):
        destination.enabled = verb == "enable"
        row["status"] = f"{verb}d"
    elif verb == "ping":
        ping = {"id": call.account.new_id("evt_test", 32), "object": "v2.core.event", "type": "v2.core.event_destination.ping",
                "created": timestamp(call.account.now()), "livemode": False, "context": None, "reason": None,
                "related_object": {"id": row["id"], "type": row["object"], "url": f"/v2/core/event_destinations/{row['id']}"}}  # fmt: skip
        call.account.thin_events[ping["id"]] = ping
        call.account.outgoing.append(Delivery(ping["id"], ping["type"], body_of(ping), destination))
        return ping
    else:
        raise Refused(f"Unrecognized request URL (POST: {call.path}).", status=404)
    return row


@route("DELETE", "/v2/core/event_destinations/{id}", "v2.core.EventDestinationDeleteParams")
def delete_destination(call: Call) -> Json:
    call.account.destinations.remove(_destination(call, call.id))
    return call.account.drop("v2.core.event_destination", call.id)


@route("GET", "/v1/account")
def get_account(call: Call) -> Json:
    return {"id": "acct_double", "object": "account", "business_type": None, "charges_enabled": True, "country": "US",
            "default_currency": "usd", "details_submitted": True, "email": "double@stripe.example", "payouts_enabled": True,
            "settings": {"dashboard": {"display_name": "Double", "timezone": "Etc/UTC"}}, "type": "standard"}  # fmt: skip

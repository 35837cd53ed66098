"""`/console/webhooks`: addresses of the tenant's own that are told of its events, and what became of each telling."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Response

from stonechat import clock
from stonechat.errors import Conflict, InvalidInput, StonechatError
from stonechat.webhooks import deliveries, endpoints
from stonechat.webhooks.catalogue import CATALOGUE
from stonechat.webhooks.deliveries import STATUSES, DeliveryStatus
from stonechat.webhooks.endpoints import EndpointChanges, EndpointFields, EndpointView
from stonechat.webhooks.fan_out import MAX_WAITING, room_at
from stonechat_admin.auth import Admin, Console
from stonechat_admin.forms import Filled, refused

router = APIRouter(prefix="/console/webhooks")

EMPTY = Filled({"url": "", "description": "", "events": [], "all": "on"})
LANGUAGES = [("python", "Python"), ("node", "Node")]
SHOWN = 20
REPLAYED_DAYS = 7
MAX_CHOSEN = 2 * len(CATALOGUE)
Word = Annotated[str, Form(max_length=10_000)]
Words = Annotated[list[str] | None, Form()]
Asked = Annotated[str, Query(max_length=1024)]


@router.get("")
async def show_webhooks(console: Admin) -> Response:
    return console.page("webhooks/page.html", **await _values(console))


@router.post("")
async def create_webhook(
    console: Admin,
    url: Word = "",
    description: Word = "",
    events: Words = None,
    every: Annotated[str, Form(alias="all", max_length=10)] = "",
) -> Response:
    try:
        async with console.session.begin_nested():
            made = await endpoints.create_endpoint(
                console.session,
                console.actor,
                keyring=console.services.keyring,
                settings=console.services.settings,
                fields=EndpointFields(url=url, description=description, events=_chosen(events, every=every)),
            )
    except (InvalidInput, Conflict) as error:
        form = _refused(error, url=url, description=description, events=events, every=every)
        return console.fragment("webhooks/_form.html", status=422, form=form, kinds=CATALOGUE, endpoint=None)
    return console.fragment(
        "webhooks/_created.html", made=made, close=True, show="webhook-secret", **await _values(console)
    )


@router.get("/{endpoint_id}")
async def show_webhook(endpoint_id: str, console: Admin, status: Asked = "", cursor: Asked = "") -> Response:
    values = await _endpoint_values(console, endpoint_id, status=status, cursor=cursor)
    if console.is_partial and cursor:
        return console.fragment("webhooks/_rows.html", **values)
    return console.page("webhooks/endpoint.html", **values)


@router.post("/{endpoint_id}")
async def change_webhook(
    endpoint_id: str,
    console: Admin,
    url: Word = "",
    description: Word = "",
    events: Words = None,
    every: Annotated[str, Form(alias="all", max_length=10)] = "",
) -> Response:
    endpoint = await endpoints.get_endpoint(console.session, console.actor, endpoint_id=endpoint_id)
    try:
        async with console.session.begin_nested():
            changes = EndpointChanges(url=url, description=description, events=_chosen(events, every=every))
            await _change(console, endpoint_id, changes)
    except InvalidInput as error:
        form = _refused(error, url=url, description=description, events=events, every=every)
        return console.fragment("webhooks/_form.html", status=422, form=form, kinds=CATALOGUE, endpoint=endpoint)
    return console.go(f"/console/webhooks/{endpoint_id}", toast="Saved. It holds from the next event on.")


@router.post("/{endpoint_id}/switch")
async def switch_webhook(endpoint_id: str, console: Admin, on: Word = "") -> Response:
    await _change(console, endpoint_id, EndpointChanges(enabled=bool(on)))
    told = "Events are sent there again." if on else "Nothing is sent there any more."
    return console.go(f"/console/webhooks/{endpoint_id}", toast=told)


@router.post("/{endpoint_id}/rotate")
async def rotate_webhook(endpoint_id: str, console: Admin) -> Response:
    made = await endpoints.rotate_secret(
        console.session, console.actor, endpoint_id=endpoint_id, keyring=console.services.keyring
    )
    return console.fragment("webhooks/_rotated.html", made=made, show="webhook-secret")


@router.post("/{endpoint_id}/test")
async def test_webhook(endpoint_id: str, console: Admin) -> Response:
    made = await deliveries.send_test_event(console.session, console.actor, endpoint_id=endpoint_id)
    return console.go(f"/console/webhooks/{endpoint_id}/deliveries/{made.id}", toast="The test is on its way.")


@router.post("/{endpoint_id}/replay")
async def replay_failed(endpoint_id: str, console: Admin, status: Word = "") -> Response:
    since = clock.now() - timedelta(days=REPLAYED_DAYS)
    done = await deliveries.replay_failed(console.session, console.actor, endpoint_id=endpoint_id, since=since)
    told = f"{done.replayed:,} are sent again." + (" There are more: press it once more." if done.more else "")
    chosen = _status(status)
    here = f"/console/webhooks/{endpoint_id}"
    return console.go(f"{here}?status={chosen}" if chosen else here, toast=told)


@router.post("/{endpoint_id}/delete")
async def delete_webhook(endpoint_id: str, console: Admin) -> Response:
    await endpoints.delete_endpoint(console.session, console.actor, endpoint_id=endpoint_id)
    return console.go("/console/webhooks", toast="The endpoint and its log are deleted.")


@router.get("/{endpoint_id}/deliveries/{delivery_id}")
async def show_delivery(endpoint_id: str, delivery_id: str, console: Admin) -> Response:
    endpoint = await endpoints.get_endpoint(console.session, console.actor, endpoint_id=endpoint_id)
    delivery = await deliveries.get_delivery(
        console.session, console.actor, endpoint_id=endpoint_id, delivery_id=delivery_id
    )
    values: dict[str, Any] = {"endpoint": endpoint, "delivery": delivery}
    if console.is_partial:
        return console.fragment("webhooks/_delivery.html", **values)
    return console.page("webhooks/delivery.html", **values)


@router.post("/{endpoint_id}/deliveries/{delivery_id}/replay")
async def replay_delivery(endpoint_id: str, delivery_id: str, console: Admin) -> Response:
    await deliveries.replay_delivery(console.session, console.actor, endpoint_id=endpoint_id, delivery_id=delivery_id)
    return console.go(f"/console/webhooks/{endpoint_id}/deliveries/{delivery_id}", toast="It is sent again.")


async def _change(console: Console, endpoint_id: str, changes: EndpointChanges) -> EndpointView:
    return await endpoints.change_endpoint(
        console.session,
        console.actor,
        endpoint_id=endpoint_id,
        settings=console.services.settings,
        changes=changes,
    )


async def _values(console: Console) -> dict[str, Any]:
    page = await endpoints.list_endpoints(console.session, console.actor)
    return {"endpoints": page.data, "form": EMPTY, "kinds": CATALOGUE, "endpoint": None}


async def _endpoint_values(console: Console, endpoint_id: str, *, status: str, cursor: str) -> dict[str, Any]:
    endpoint = await endpoints.get_endpoint(console.session, console.actor, endpoint_id=endpoint_id)
    chosen = _status(status)
    page = await deliveries.list_deliveries(
        console.session, console.actor, endpoint_id=endpoint_id, status=chosen, limit=SHOWN, cursor=cursor or None
    )
    typed = {
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events or [],
        "all": "on" if endpoint.events is None else "",
    }
    more = f"/console/webhooks/{endpoint_id}?status={chosen or ''}&cursor={page.next_cursor}"
    return {
        "endpoint": endpoint,
        "form": Filled(typed),
        "kinds": CATALOGUE,
        "deliveries": page.data,
        "chosen_status": chosen,
        "statuses": STATUSES,
        "more": more if page.next_cursor else None,
        "most_waiting": None
        if await room_at(console.session, console.tenant_id, endpoint_id=endpoint_id)
        else MAX_WAITING,
        "languages": LANGUAGES,
        "days": REPLAYED_DAYS,
    }


def _status(asked: str) -> DeliveryStatus | None:
    """Which deliveries are looked at; None: all."""
    return next((each for each in STATUSES if each == asked), None)


def _chosen(events: list[str] | None, *, every: str) -> list[str] | None:
    """The kinds that were ticked; None for all. Raises `InvalidInput` for both: one of them was not meant."""
    if every and events:
        message = "Untick “Everything”, or untick the kinds below it."
        raise InvalidInput(message, errors=[{"field": "events", "message": message}])
    return None if every else (events or [])[:MAX_CHOSEN]


def _refused(error: StonechatError, *, url: str, description: str, events: list[str] | None, every: str) -> Filled:
    typed = {"url": url, "description": description, "events": events or [], "all": every}
    return refused(error, typed, about="" if isinstance(error, Conflict) else "url")

"""The metered item of a subscription: there whenever the plan has a price for what goes beyond, at that price.

It is there whether or not the tenant chose to go beyond: nothing is told where nothing was agreed, and so nothing is charged;
and nobody who chooses has to wait for Stripe. A change of plans leaves it as it is, for on the invoice of a period that ends
an item counts for an hour more. It is fitted afterwards, by the job of every sync, when that costs nobody anything.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select

from stonechat import clock
from stonechat.billing.counting import counting_json, counting_of
from stonechat.billing.customers import ensure_customer, get_customer
from stonechat.billing.gateway import METER_EVENT, Json, StripeGateway
from stonechat.billing.meters import meter_tenant
from stonechat.billing.models import ALL_USE, MeterRow
from stonechat.billing.pricing import PriceList
from stonechat.billing.reading import moment, overage_item, tiered_item
from stonechat.billing.sending import is_all_counted, is_all_told, send_waiting
from stonechat.billing.standing import Standing, standing_of
from stonechat.db.session import Database
from stonechat.errors import UpstreamFailed
from stonechat.plans.entitlements import entitlements

INVOICED_AFTER = timedelta(hours=2)
"""Of a period's end: by then its invoice is made, and what was on an item is on it."""
COUNTED_WITHIN = (0.0, 1.0, 2.0, 4.0)
"""Seconds between looks at Stripe's count, which comes a little after it took what it was told."""


async def fit_overage(database: Database, gateway: StripeGateway, prices: PriceList, tenant_id: UUID) -> bool:
    """Let the subscription have the metered item that its plan and the exceptions from it ask for.

    Twice changes nothing. Returns whether it changed anything: the caller then looks at the customer again.
    """
    standing = await standing_of(database, gateway, tenant_id)
    if standing is None or standing.terms is None:
        return False
    async with database.tenant(tenant_id) as session:
        held = await entitlements(session, tenant_id)
    if held.lapsed or held.chosen.key != standing.terms.key:
        return False  # the sync to come says what holds
    micros = held.terms.overage_micros_per_1k_tokens
    wanted = await prices.overage(standing.terms.currency, micros) if micros else None
    item, tiered = overage_item(standing.seen.subscription), tiered_item(standing.seen.subscription)
    changes: list[Json] = []
    proration = "none"
    if item is None and wanted is not None:
        changes.append({"price": wanted})
    elif item is not None and item["price"]["id"] != wanted and _is_invoiced(item):
        if wanted is not None:
            await tell_all(database, gateway, tenant_id, since=moment(item["current_period_start"]))
            await about_to_change(database, tenant_id)
            changes.append({"id": item["id"], "price": wanted})
        is_used = await _is_used(database, tenant_id, item, meter=METER_EVENT)
        if wanted is not None and is_used:
            proration = "create_prorations"  # what was told at the old price is invoiced at it
        elif wanted is None and not is_used:
            changes.append({"id": item["id"], "deleted": True})
    if tiered is not None and _is_invoiced(tiered) and not await _is_used(database, tenant_id, tiered, meter=ALL_USE):
        changes.append({"id": tiered["id"], "deleted": True})
    if not changes:
        return False
    await _change(gateway, standing, changes, proration=proration)
    return True


async def _change(gateway: StripeGateway, standing: Standing, changes: list[Json], *, proration: str) -> None:
    subscription = standing.seen.subscription
    schedule = subscription.get("schedule")
    if not isinstance(schedule, dict) or schedule.get("status") != "active":
        params: Json = {"items": changes, "proration_behavior": proration}
        await gateway.update_subscription(standing.seen.id, params)
        return
    # A schedule would put its own items back in place: it is changed instead, at once and for the phases to come.
    by_id = {change["id"]: change for change in changes if "id" in change}
    before = {item["price"]["id"] for item in subscription["items"]["data"] if item["id"] in by_id}
    after = [{"price": change["price"]} for change in changes if "price" in change]
    coming = [one for one in schedule["phases"] if one["start_date"] >= schedule["current_phase"]["start_date"]]
    items = [
        [
            *({"price": _id(one["price"])} | ({"quantity": one["quantity"]} if one.get("quantity") else {})
              for one in phase["items"] if _id(one["price"]) not in before),
            *after,
        ]
        for phase in coming
    ]  # fmt: skip
    await gateway.change_scheduled(schedule, items=items, proration=proration)


def _id(price: Json | str) -> str:
    return price if isinstance(price, str) else str(price["id"])


async def tell_all(
    database: Database, gateway: StripeGateway, tenant_id: UUID, *, since: datetime | None = None
) -> None:
    """Tell Stripe of what is beyond up to this moment, so that the invoice to come holds it.

    With `since`, the beginning of the item's period, also see that Stripe counted it. Raises `UpstreamFailed`.
    """
    async with database.tenant(tenant_id) as session:
        await meter_tenant(session, tenant_id, everything=True, closing=True)
        row = await get_customer(session, tenant_id)
    await send_waiting(database, gateway, tenant_id)
    told = await is_all_told(database, tenant_id)
    if told and since is not None and row is not None and row.customer_id is not None:
        for pause in COUNTED_WITHIN:
            await asyncio.sleep(pause)
            if await is_all_counted(database, gateway, tenant_id, customer_id=row.customer_id, since=since):
                return
        told = False
    if not told:
        raise UpstreamFailed("Stripe does not take the last use yet. Try again in some minutes.")


async def about_to_change(database: Database, tenant_id: UUID) -> None:
    """Tell nothing until a sync has looked again: what is told so far is about to be invoiced."""
    async with database.tenant(tenant_id) as session:
        row = await ensure_customer(session, tenant_id, provider="stripe")
        counting = counting_of(row.overage_item)
        if counting is not None:
            row.overage_item = counting_json(replace(counting, changing=True))


async def note_instant(database: Database, tenant_id: UUID) -> None:
    """Write down when Stripe was asked to change the plan: what the sync then sees has held since."""
    async with database.tenant(tenant_id) as session:
        (await ensure_customer(session, tenant_id, provider="stripe")).changed_at = clock.now()


def _is_invoiced(item: Json) -> bool:
    """Whether the period before the item's present one, if it had one, is surely on its invoice."""
    start = moment(item["current_period_start"])
    return moment(item["created"]) >= start or clock.now() >= start + INVOICED_AFTER


async def _is_used(database: Database, tenant_id: UUID, item: Json, *, meter: str) -> bool:
    """Whether anything was, or is to be, told to this meter in the item's present period."""
    row = MeterRow
    as_of = func.coalesce(row.told_as_of, row.slice_end)
    late = (row.state == "sent") & (as_of >= moment(item["current_period_start"]))
    mine = (row.tenant_id == tenant_id) & (row.meter == meter) & ((row.state == "waiting") | late)
    async with database.tenant(tenant_id) as session:
        return await session.scalar(select(row.tenant_id).where(mine).limit(1)) is not None

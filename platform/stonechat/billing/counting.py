"""From when on Stripe counts what it is told of a tenant's overage, and so as of which moment a row of the outbox is told.

A metered item counts what happened since it was added, with its price since that was put in place, and within the periods of
its subscription; what is told as of any other moment is on no invoice, and Stripe does not say so. So each sync notes what it
saw of the item, and use is told as of its own time or, where the item has counted only since later in that same period, as of
then. What belongs to a period whose invoice is closed is not told at all: it is kept, for the operator to see.

A row is told while the item has the row's own price. One that was agreed to at the price to come waits until the item has it; one
of a price that is gone becomes an item of an invoice by itself: see `billing.settling`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from stonechat.billing.gateway import Json
from stonechat.billing.models import MeterRow
from stonechat.billing.pricing import micros_of
from stonechat.billing.reading import Seen, moment, overage_item

TAKES_LATE = timedelta(minutes=55)
"""After its period's end. Stripe keeps the invoice open for an hour, or longer where its settings say so."""
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Counting:
    """The metered item, as the last sync saw it."""

    subscription: str
    item: str
    price: str
    since: datetime
    """When the item came: before, nothing counted."""
    floor: datetime
    """What is told as of then or later counts at the item's present price, if it is of a period that has not ended."""
    period_start: datetime
    period_end: datetime
    until: datetime | None = None
    """When it went, with its subscription."""
    micros_per_1k_tokens: int | None = None
    """What the present price asks; None in notes of the time before it was noted."""
    changing: bool = False
    """Somebody is about to have what was told so far invoiced: nothing is told until a sync has looked again."""


def observe(before: Counting | None, seen: Seen | None, *, now: datetime) -> Counting | None:
    """What a sync notes, `now` being after it asked Stripe."""
    item = overage_item(seen.subscription) if seen is not None and seen.is_live else None
    if seen is None or item is None:
        if before is None or before.until is not None:
            return before
        ended = seen.cancel_at if seen is not None and not seen.is_live and seen.cancel_at is not None else now
        return replace(before, until=min(ended, now))
    start, end = moment(item["current_period_start"]), moment(item["current_period_end"])
    price, since = str(item["price"]["id"]), moment(item["created"])
    found = Counting(
        seen.id, str(item["id"]), price, since, since, start, end, micros_per_1k_tokens=micros_of(item["price"])
    )
    if before is None or before.until is not None or before.subscription != seen.id:
        return found
    floor = before.floor
    if before.changing:
        floor = now
    elif before.period_start < start < before.period_end:
        floor = start  # the period was begun anew: what was told until then is invoiced
    elif (before.item, before.price) != (found.item, price) and start < before.period_end:
        floor = now  # another price within the period: what was told until then is invoiced at the old one
    return replace(found, since=before.since, floor=floor)


def told_as_of(
    counting: Counting | None, row: MeterRow, *, now: datetime
) -> datetime | Literal["wait", "wait_for_price", "price_gone", "missed"]:
    """The moment to tell a row as of; `wait` while there is no item yet, `missed` when no invoice takes it any more.

    Where the item has another price than the row, `wait_for_price` that is still to come, or `price_gone`.
    """
    own = max(row.slice_start, row.slice_end - SECOND)
    closes = row.closes_at or row.slice_end
    if now >= closes + TAKES_LATE:
        return "missed"
    if counting is None or counting.changing:
        return "wait"
    if counting.until is not None and counting.until < closes:
        return "missed"  # its last invoice was made when it ended
    if closes <= counting.since:
        return "missed"  # there was no item then
    if None not in (row.micros_per_1k_tokens, counting.micros_per_1k_tokens) and (
        row.micros_per_1k_tokens != counting.micros_per_1k_tokens
    ):
        return "price_gone" if own < counting.floor else "wait_for_price"
    return own if closes <= counting.floor else max(own, counting.since, counting.floor)


def counting_json(counting: Counting | None) -> Json | None:
    """As it is stored."""
    if counting is None:
        return None
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in asdict(counting).items()}


def counting_of(stored: dict[str, Any] | None) -> Counting | None:
    """From what is stored."""
    if stored is None:
        return None
    times = ("since", "floor", "period_start", "period_end", "until")
    values = {key: datetime.fromisoformat(stored[key]) if stored[key] else None for key in times}
    return Counting(**{**stored, **values})

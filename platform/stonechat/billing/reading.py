"""What Stripe's JSON means for us: which subscription counts, which plan it is, since when money is owed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from stonechat.billing.gateway import Json
from stonechat.billing.pricing import PlanOfPrice, is_beyond, plan_of_price

State = Literal["trialing", "active", "owing", "ended"]
_STATES: dict[str, State] = {
    "trialing": "trialing",
    "active": "active",
    "past_due": "owing",
    "unpaid": "owing",
    "paused": "owing",
    "canceled": "ended",
}
"""A subscription that was never paid (`incomplete`, `incomplete_expired`) is none yet."""
MAX_LINES = 100


@dataclass(frozen=True, slots=True)
class Seen:
    """The subscription that counts, as Stripe has it."""

    subscription: Json
    state: State
    plan: PlanOfPrice | None
    """None for a price that is none of our plans'."""
    period_start: datetime
    period_end: datetime
    trial_ends_at: datetime | None
    cancel_at: datetime | None
    next_plan: PlanOfPrice | None
    """What a schedule puts in its place."""
    next_at: datetime | None

    @property
    def id(self) -> str:
        return str(self.subscription["id"])

    @property
    def is_live(self) -> bool:
        return self.state != "ended"


def read_subscriptions(subscriptions: Sequence[Json]) -> Seen | None:
    """Of all that a customer has, newest first, the one that counts: the newest that lives, else the newest that did."""
    known = [one for one in subscriptions if one["status"] in _STATES]
    living = [one for one in known if _STATES[one["status"]] != "ended"]
    return _read(next(iter(living or known))) if known else None


def living(subscriptions: Sequence[Json]) -> int:
    """How many subscriptions are paid for."""
    return sum(_STATES.get(one["status"], "ended") != "ended" for one in subscriptions)


def base_item(subscription: Json) -> Json:
    """The item that is the plan; where none says so, the first that is not metered, or the first."""
    items: list[Json] = subscription["items"]["data"]
    for item in items:
        plan = plan_of_price(item["price"])
        if plan is not None and not plan.is_overage:
            return item
    plain = [item for item in items if (item["price"].get("recurring") or {}).get("usage_type") != "metered"]
    return (plain or items)[0]


def overage_item(subscription: Json) -> Json | None:
    """The metered item for what is beyond the plan, if there is one."""
    return next((dict(item) for item in subscription["items"]["data"] if is_beyond(item["price"])), None)


def tiered_item(subscription: Json) -> Json | None:
    """The metered item of the scheme before, which counts all use."""
    for item in subscription["items"]["data"]:
        plan = plan_of_price(item["price"])
        if plan is not None and plan.is_overage:
            return dict(item)
    return None


def _read(subscription: Json) -> Seen:
    item = base_item(subscription)
    state = _STATES[subscription["status"]]
    end = moment(item["current_period_end"])
    cancel_at = optional(subscription.get("cancel_at"))
    if cancel_at is None and subscription.get("cancel_at_period_end"):
        cancel_at = end
    if state == "ended":
        cancel_at = optional(subscription.get("ended_at") or subscription.get("canceled_at")) or cancel_at
    next_plan, next_at = _scheduled(subscription)
    return Seen(
        subscription=subscription,
        state=state,
        plan=plan_of_price(item["price"]),
        period_start=moment(item["current_period_start"]),
        period_end=end,
        trial_ends_at=optional(subscription.get("trial_end")),
        cancel_at=cancel_at,
        next_plan=next_plan,
        next_at=next_at,
    )


def _scheduled(subscription: Json) -> tuple[PlanOfPrice | None, datetime | None]:
    """The plan of the schedule's next phase, which knows its prices by id: ours wrote the plan beside them."""
    schedule = subscription.get("schedule")
    if not isinstance(schedule, dict) or schedule.get("status") not in ("active", "not_started"):
        return None, None
    current = schedule.get("current_phase") or {}
    for phase in schedule.get("phases") or []:
        noted: dict[str, Any] = phase.get("metadata") or {}
        if noted.get("plan_key") and phase["start_date"] != current.get("start_date"):
            plan = PlanOfPrice(str(noted["plan_key"]), int(noted.get("plan_version", 1)), False)
            return plan, moment(phase["start_date"])
    return None, None


def owing_since(invoices: Sequence[Json], *, subscription_id: str) -> datetime | None:
    """When the oldest invoice of the subscription that is still owed was first not paid."""
    owed = [
        optional((invoice.get("status_transitions") or {}).get("finalized_at")) or moment(invoice["created"])
        for invoice in invoices
        if invoice["status"] in ("open", "uncollectible")
        and invoice.get("amount_remaining", 0) > 0
        and subscription_of(invoice) == subscription_id
    ]
    return min(owed, default=None)


def subscription_of(invoice: Json) -> str | None:
    """The subscription that an invoice is for."""
    details = ((invoice.get("parent") or {}).get("subscription_details")) or {}
    subscription = details.get("subscription")
    return str(subscription["id"]) if isinstance(subscription, dict) else subscription


def invoice_values(invoice: Json) -> dict[str, Any]:
    """The row of an invoice of Stripe's, without its tenant."""
    transitions = invoice.get("status_transitions") or {}
    total = int(invoice["total"])
    taxes = invoice.get("total_taxes") or []
    start, end = _period(invoice)
    return {
        "invoice_id": invoice["id"],
        "provider": "stripe",
        "number": invoice.get("number"),
        "status": invoice["status"],
        "currency": invoice["currency"],
        "total_cents": total,
        "tax_cents": sum(int(tax["amount"]) for tax in taxes),
        "due_cents": int(invoice.get("amount_remaining") or 0),
        "paid_cents": int(invoice.get("amount_paid") or 0),
        "lines": [
            _line(line) for line in invoice["lines"]["data"][:MAX_LINES] if line["amount"] or line.get("quantity")
        ],
        "period_start": start,
        "period_end": end,
        "created_at": moment(invoice["created"]),
        "due_at": optional(invoice.get("due_date")),
        "paid_at": optional(transitions.get("paid_at")),
        "hosted_url": invoice.get("hosted_invoice_url"),
        "pdf_url": invoice.get("invoice_pdf"),
    }


def _line(line: Json) -> dict[str, Any]:
    return {
        "description": str(line.get("description") or "")[:500],
        "amount_cents": int(line["amount"]),
        "quantity": line.get("quantity"),
    }


def _period(invoice: Json) -> tuple[datetime | None, datetime | None]:
    """What the lines cover, all together: an invoice's own period is the one before its plan's."""
    periods = [line["period"] for line in invoice["lines"]["data"] if line.get("period")]
    if not periods:
        return optional(invoice.get("period_start")), optional(invoice.get("period_end"))
    return moment(min(one["start"] for one in periods)), moment(max(one["end"] for one in periods))


def moment(seconds: int) -> datetime:
    """Unix time, aware."""
    return datetime.fromtimestamp(seconds, UTC)


def optional(seconds: int | None) -> datetime | None:
    """Unix time, or None."""
    return None if seconds is None else moment(seconds)

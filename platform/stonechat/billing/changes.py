"""What is said of a change of plans before it is made."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from stonechat.billing.gateway import Json
from stonechat.billing.provider import ChangeKind, ChangeLine
from stonechat.billing.reading import overage_item
from stonechat.billing.standing import Standing
from stonechat.plans.terms import PlanTerms
from stonechat.plans.words import cents_of, money
from stonechat.usage.allowance import AllowanceState, Overage


def begins_anew(standing: Standing, terms: PlanTerms) -> bool:
    """Whether the change ends the period that is now and begins another: where it is paid for other stretches of time."""
    return standing.terms is None or standing.terms.interval != terms.interval


def ends_trial(standing: Standing, terms: PlanTerms) -> bool:
    """Whether a trial ends with an upgrade: a plan that has none is paid for from its first day."""
    return standing.seen.state == "trialing" and terms.trial_days == 0


def amounts(invoice: Json) -> tuple[int, int, tuple[ChangeLine, ...]]:
    """What is due, the tax in it, and the lines."""
    lines = [
        ChangeLine(str(line.get("description") or ""), int(line["amount"]))
        for line in invoice["lines"]["data"]
        if line["amount"] or line.get("quantity")
    ]
    tax = sum(int(one["amount"]) for one in invoice.get("total_taxes") or [])
    return int(invoice["total"]), tax, tuple(lines)


def untold(invoice: Json, standing: Standing, overage: Overage) -> int:
    """What of the period's overage is not on Stripe's preview yet, because the hour is not over; in cents, before tax."""
    item = overage_item(standing.seen.subscription)
    if item is None:
        return 0
    told = sum(int(line["amount"]) for line in invoice["lines"]["data"] if _price_of(line) == item["price"]["id"])
    owed = (Decimal(overage.cost_micros) / 10_000).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return max(0, int(owed) - told)


def _price_of(line: Json) -> str | None:
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
    return str(price["id"]) if isinstance(price, dict) else price


def notes_on(kind: ChangeKind, standing: Standing, terms: PlanTerms, state: AllowanceState) -> tuple[str, ...]:
    """What the change means for the tokens of this period, and for a trial; in sentences."""
    match kind:
        case "upgrade":
            return (*_trial_notes(standing, terms), *_upgrade_notes(standing, terms, state))
        case "downgrade":
            return _downgrade_notes(standing, terms, state)
        case "same" | "subscribe":
            return ()


def _trial_notes(standing: Standing, terms: PlanTerms) -> tuple[str, ...]:
    ends = standing.seen.trial_ends_at
    if standing.seen.state != "trialing" or ends is None:
        return ()
    if ends_trial(standing, terms):
        return (f"{terms.name} has no trial: yours ends with the change, and the first period is charged now.",)
    return (f"Your trial goes on until {ends:%-d %B %Y}; {terms.name} is charged from then on.",)


def _upgrade_notes(standing: Standing, terms: PlanTerms, state: AllowanceState) -> tuple[str, ...]:
    notes = []
    anew = begins_anew(standing, terms) or ends_trial(standing, terms)
    if anew:
        notes.append("A new period begins with the change, and all that is included is included anew.")
    elif terms.included_tokens is not None:
        used = f"{state.used.tokens:,}" if state.used.tokens else "none"
        notes.append(
            f"{terms.name} includes {terms.included_tokens:,} tokens for the whole of this period; "
            f"{used} of them are used already."
        )
    if state.overage.tokens:
        owed = f"{state.overage.tokens:,} tokens beyond your plan, {money(cents_of(state.overage.cost_micros), terms.currency)}"
        notes.append(
            f"{owed}, are part of what is due now."
            if anew
            else f"{owed}, stay charged, and come with the invoice of this period's end."
        )
    return tuple(notes)


def _downgrade_notes(standing: Standing, terms: PlanTerms, state: AllowanceState) -> tuple[str, ...]:
    notes = []
    if terms.included_tokens is not None:
        notes.append(
            f"Until {standing.seen.period_end:%-d %B %Y} what your plan includes stays as it is; from then on "
            f"{terms.included_tokens:,} tokens a month are included."
        )
    if state.overage.opt_in and overage_item(standing.seen.subscription) is not None:
        notes.append(
            "What goes beyond until then is charged as you chose."
            if terms.overage_micros_per_1k_tokens is not None
            else f"What goes beyond until then is charged as you chose; with {terms.name} nothing goes beyond what is included."
        )
    return tuple(notes)

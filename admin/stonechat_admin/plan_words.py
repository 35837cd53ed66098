"""A plan, a period of use and a change of plan, in words and in the units of their drawings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import ceil

from stonechat.plans.entitlements import Entitlements
from stonechat.plans.subscription import Subscription
from stonechat.plans.terms import MAX_WEBHOOK_ENDPOINTS, NUMBER_FIELDS, Feature, PlanTerms
from stonechat.plans.words import FEATURE_NAMES, FIELD_NAMES, amount, money, value_in_words
from stonechat.usage.allowance import AllowanceState
from stonechat.usage.report import Days, UsageRow

WIDE, TALL = 720, 150
SHADES = 5
"""Agents that are told apart, those with the most answers first; the last shade is for all others."""


@dataclass(frozen=True, slots=True)
class Meter:
    """How far something that is included is used."""

    label: str
    used: str
    included: str
    percent: int
    projected: str
    """What it comes to if it goes on so; empty while it is too early to say."""
    over: bool
    """Whether that is more than is included."""


@dataclass(frozen=True, slots=True)
class Segment:
    """An agent's part of a day, in units of the drawing."""

    day: date
    name: str
    amount: int
    x: float
    y: float
    width: float
    height: float
    shade: int
    """Counted from 0; the template knows their colours."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Answers by agent and day of a period, and what the rest of it may bring."""

    segments: list[Segment]
    ahead: list[Segment]
    """Days to come, at the pace so far."""
    legend: list[tuple[str, int, int]]
    """Agent, shade, answers."""
    by_day: list[tuple[date, list[int]]]
    """The same as numbers, the agents in the order of the legend."""


def day_of(moment: datetime | None) -> str:
    """`3 March 2026`, in UTC."""
    return f"{moment.astimezone(UTC):%-d %B %Y}" if moment else ""


def price_of(terms: PlanTerms) -> str:
    """`$29 a month`, or `Free`."""
    return "Free" if terms.is_free else f"{money(terms.price_cents, terms.currency)} a {terms.interval}"


def standing_words(held: Entitlements) -> tuple[str, str, str]:
    """The badge's text and kind, and a sentence on what comes next."""
    now = held.subscription
    if held.lapsed and now.status not in ("unpaid", "past_due"):
        return "Ended", "neutral", f"{held.chosen.name} has ended; what {held.plan.name} allows holds now."
    match now.status:
        case "trialing":
            return "Trial", "info", f"Your trial ends on {day_of(now.trial_ends_at)}. {_then(now)}"
        case "past_due":
            until = f" Everything goes on until {day_of(now.grace_until)}." if now.grace_until else ""
            return "Payment open", "warning", f"The last payment did not go through.{until}"
        case "unpaid":
            return (
                "Suspended",
                "error",
                f"A payment is open, so that what {held.plan.name} allows holds. All data is kept.",
            )
        case "active" | "canceled" if now.cancel_at is not None:
            return "Ending", "warning", _then(now)
        case "active" | "canceled":
            return "Active", "success", _then(now)


def _then(now: Subscription) -> str:
    if now.cancel_at is not None:
        return f"It ends on {day_of(now.cancel_at)}, and nothing is charged after that."
    if now.pending_plan_key is not None:
        return f"It changes to {now.pending_plan_key.replace('_', ' ').capitalize()} on {day_of(now.pending_plan_at)}."
    return f"The next period begins on {day_of(now.period_end)}." if now.period_end and now.status == "active" else ""


def meters_of(state: AllowanceState) -> list[Meter]:
    """Answers and tokens of the period, where they are bounded."""
    ahead = state.projected_at_period_end
    found = []
    for label, used, included, coming in (
        ("Answers", state.used.messages, state.included.messages, ahead.messages if ahead else None),
        ("Tokens", state.used.tokens, state.included.tokens, ahead.tokens if ahead else None),
    ):
        if included is None or used is None:
            continue
        percent = 100 * used // included if included else 100
        projected = (
            f"about {_rounded(coming):,} by {day_of(state.period.end)}" if coming and state.over != "hard" else ""
        )
        over = coming is not None and coming > included
        found.append(Meter(label, f"{used:,}", f"{included:,}", percent, projected, over))
    return found


def _rounded(number: int) -> int:
    """To two digits: a projection is no promise."""
    size: int = 10 ** max(0, len(str(number)) - 2)
    return round(number / size) * size


def chart_of(rows: Sequence[UsageRow], period: Days, *, today: date, names: dict[str, str]) -> Chart:
    """`rows` are a report by everything; today's bar is as it stands, and each day after it as the average so far."""
    by_agent: Counter[str] = Counter()
    by_both: Counter[tuple[date, str]] = Counter()
    for row in rows:
        if row.day is not None and row.answers:
            by_agent[row.agent_id or ""] += row.answers
            by_both[row.day, row.agent_id or ""] += row.answers
    ranked = [agent for agent, _ in by_agent.most_common()]
    shown = ranked if len(ranked) <= SHADES else ranked[: SHADES - 1]
    others = [agent for agent in ranked if agent not in shown]
    groups = [(names.get(agent, "A deleted agent") if agent else "No agent", [agent]) for agent in shown]
    if others:
        groups.append((f"{len(others)} others", others))
    days = [period.first + timedelta(days=n) for n in range(len(period))]
    amounts = {day: [sum(by_both[day, agent] for agent in agents) for _, agents in groups] for day in days}
    gone = [day for day in days if day <= today]
    pace = sum(by_agent.values()) / max(1, len(gone))
    most = max([sum(parts) for parts in amounts.values()] + [ceil(pace)]) or 1
    step = WIDE / len(days)
    segments, ahead = [], []
    for number, day in enumerate(days):
        x, width, top = round(number * step + step * 0.12, 1), round(step * 0.76, 1), float(TALL)
        for shade, ((name, _), answers) in enumerate(zip(groups, amounts[day], strict=True)):
            if answers:
                height = max(2.0, round(TALL * answers / most, 1))
                top -= height
                segments.append(Segment(day, name, answers, x, round(top, 1), width, height, shade))
        if day > today and pace:
            height = max(2.0, round(TALL * pace / most, 1))
            ahead.append(Segment(day, "", round(pace), x, round(TALL - height, 1), width, height, 0))
    legend = [(name, shade, sum(by_agent[agent] for agent in agents)) for shade, (name, agents) in enumerate(groups)]
    return Chart(segments, ahead, legend, [(day, amounts[day]) for day in gone if any(amounts[day])])


def numbers_of(terms: PlanTerms) -> list[str]:
    """What a plan's numbers are, a line each: `3 agents`, `Conversations kept for 180 days`."""

    def many(number: int | None, one: str, more: str) -> str:
        return f"Any number of {more}" if number is None else f"{amount(number)} {one if number == 1 else more}"

    lines = [
        many(terms.included_messages, "answer a month", "answers a month"),
        many(terms.included_tokens, "token a month", "tokens a month"),
        many(terms.agents, "agent", "agents"),
        many(terms.seats, "seat", "seats"),
        many(terms.sources, "source", "sources"),
        many(
            MAX_WEBHOOK_ENDPOINTS if terms.webhook_endpoints is None else terms.webhook_endpoints,
            "webhook endpoint",
            "webhook endpoints",
        ),
        "Conversations kept for ever"
        if terms.retention_days is None
        else f"Conversations kept for {terms.retention_days:,} days",
    ]
    price = terms.overage_micros_per_1k_tokens
    if price is not None:
        lines.append(f"More tokens: {value_in_words('overage_micros_per_1k_tokens', price, terms.currency)}")
    return lines


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a change of plan changes."""

    label: str
    before: str
    after: str
    better: bool


def with_exceptions(held: Entitlements, wanted: PlanTerms) -> PlanTerms:
    """The plan as it would hold for this tenant: the exceptions that were made for it stay."""
    made = {line.field: line.override_value for line in held.explain if line.override_id is not None}
    features = (wanted.features | {f for f in Feature if made.get(f)}) - {f for f in Feature if made.get(f) is False}
    numbers: dict[str, object] = {field: made[field] for field in NUMBER_FIELDS if field in made}
    return wanted.model_copy(update={**numbers, "features": features})


def differences(now: PlanTerms, then: PlanTerms) -> list[Difference]:
    """What a change from one plan to another changes, the losses first."""
    found = []
    for field in NUMBER_FIELDS:
        old, new = getattr(now, field), getattr(then, field)
        before, after = (value_in_words(field, value, then.currency) for value in (old, new))
        if before != after:
            better = _more(field, old, new)
            found.append(Difference(FIELD_NAMES[field], before, after, better))
    for feature in Feature:
        had, has = feature in now.features, feature in then.features
        if had != has:
            label = FEATURE_NAMES[feature]
            found.append(Difference(label, _has(had), _has(has), has))
    return sorted(found, key=lambda difference: difference.better)


def _has(included: bool) -> str:
    return "included" if included else "not included"


def _more(field: str, old: int | None, new: int | None) -> bool:
    if field == "overage_micros_per_1k_tokens":  # a price: none at all is worst, and less is better
        return new is not None and (old is None or new < old)
    return new is None or (old is not None and new > old)

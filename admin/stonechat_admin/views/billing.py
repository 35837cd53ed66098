"""`/console/billing`: the plan, what of it is used, what else there is, invoices, and the way out."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Query, Response
from sqlalchemy import select

from stonechat import clock
from stonechat.accounts.memberships import seats_taken
from stonechat.assistant.agents import agents_at_work, list_agents
from stonechat.billing.invoices import get_invoice, list_invoices
from stonechat.errors import NotFound
from stonechat.knowledge.quota import sources_held
from stonechat.plans.catalog import list_plans
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.subscription import usage_period
from stonechat.plans.terms import SELF_HOSTED, Bound, Feature, PlanTerms
from stonechat.plans.words import FEATURE_NAMES, FIELD_NAMES, cents_of, money, money_in_column, value_in_words
from stonechat.privacy.retention import get_retention
from stonechat.usage.allowance import AllowanceState, allowance_state
from stonechat.usage.prices import MICROS
from stonechat.usage.report import Days, today, usage_report
from stonechat.webhooks.endpoints import endpoints_held
from stonechat_admin.auth import Admin, Console, Viewer
from stonechat_admin.forms import Filled
from stonechat_admin.plan_words import (
    TALL,
    WIDE,
    chart_of,
    day_of,
    differences,
    meters_of,
    numbers_of,
    price_of,
    standing_words,
    with_exceptions,
)

router = APIRouter()

PATH = "/console/billing"
INVOICES = 12
"""On one page."""
STATUS_WORDS = {
    "open": ("Open", "warning"),
    "paid": ("Paid", "success"),
    "void": ("Void", "neutral"),
    "uncollectible": ("Not collected", "error"),
}
Cursor = Annotated[str | None, Query(max_length=500)]
PlanKey = Annotated[str, Query(max_length=40)]


def has_live_subscription(held: Entitlements) -> bool:
    """Whether there is something to change or to end, rather than to begin."""
    now = held.subscription
    return now.stored and now.provider != "none" and now.status != "canceled" and not _is_over(held)


def _is_over(held: Entitlements) -> bool:
    return held.lapsed and held.subscription.status in ("active", "trialing")


def changes_here(console: Console, held: Entitlements) -> bool:
    """Whether a tenant changes plans itself, rather than writing to whoever runs the platform."""
    by_hand = held.subscription.provider == "manual" and has_live_subscription(held)
    return console.services.billing.gateway is not None and not by_hand


@router.get(PATH)
async def show_billing(console: Viewer) -> Response:
    held = await entitlements(console.session, console.tenant_id)
    if held.chosen.key == SELF_HOSTED.key and console.services.billing.gateway is None:
        return console.page("billing/everything_on.html", names=FEATURE_NAMES)
    state = await allowance_state(console.session, console.tenant_id, rights=held)
    badge, kind, sentence = standing_words(held)
    return console.page(
        "billing/page.html",
        held=held,
        price=price_of(held.chosen),
        badge_text=badge,
        badge_kind=kind,
        sentence=sentence,
        numbers=numbers_of(held.terms),
        live=has_live_subscription(held),
        here=changes_here(console, held),
        **usage_values(held, state=state),
    )


def usage_values(held: Entitlements, *, state: AllowanceState, form: Filled | None = None) -> dict[str, Any]:
    """What the meters and the form about going on beyond the plan are drawn from."""
    cap = state.overage.spend_cap_micros
    typed = {"opt_in": state.overage.opt_in, "cap": "" if cap is None else f"{Decimal(cap) / MICROS:f}"}
    price = state.overage.micros_per_1k_tokens
    currency = held.terms.currency
    return {
        "state": state,
        "meters": meters_of(state),
        "form": form or Filled(typed),
        "overage_price": None if price is None else value_in_words("overage_micros_per_1k_tokens", price, currency),
        "cap": "" if cap is None else money(cap // 10_000, currency),
        "overage_cost": money(cents_of(state.overage.cost_micros), currency),
        "currency": currency.upper(),
        "day_of": day_of,
    }


@router.get(f"{PATH}/usage")
async def show_period(console: Viewer) -> Response:
    """By agent and day: a part of the page that comes after it."""
    held = await entitlements(console.session, console.tenant_id)
    start, end = usage_period(held.subscription, clock.now())
    last = (end - timedelta(microseconds=1)).astimezone(UTC).date()
    period = Days(start.astimezone(UTC).date(), last)
    rows = await usage_report(console.session, console.actor, days=period, by="all")
    names = {agent.id: agent.name for agent in (await list_agents(console.session, console.actor, limit=100)).data}
    chart = chart_of(rows, period, today=today(), names=names)
    values: dict[str, Any] = {"chart": chart, "period": period, "wide": WIDE, "tall": TALL}
    if console.is_partial:
        return console.fragment("billing/_period.html", **values)
    return console.page("billing/period.html", **values)


@router.get(f"{PATH}/plans")
async def compare_plans(console: Viewer) -> Response:
    held = await entitlements(console.session, console.tenant_id)
    plans = [plan for plan in await list_plans(console.session) if plan.public]
    larger = (plan.key for plan in plans if plan.price_cents > held.plan.price_cents)
    return console.page(
        "billing/plans.html",
        plans=plans,
        suggested=next(larger, None),
        held=held,
        live=has_live_subscription(held),
        here=changes_here(console, held),
        features=[(feature, FEATURE_NAMES[feature]) for feature in Feature],
        numbers_of=numbers_of,
        money=money,
    )


@router.get(f"{PATH}/change")
async def show_change(console: Admin, plan: PlanKey = "") -> Response:
    """What changes, said first. What it costs comes after, from whoever is paid."""
    held = await entitlements(console.session, console.tenant_id)
    wanted = next((each for each in await list_plans(console.session) if each.key == plan and each.public), None)
    if wanted is None:
        raise NotFound("There is no such plan.")
    return console.page(
        "billing/change.html",
        held=held,
        wanted=wanted,
        price=price_of(wanted),
        changes=differences(held.terms, then := with_exceptions(held, wanted)),
        crowded=await _beyond(console, then),
        live=has_live_subscription(held),
        here=changes_here(console, held),
    )


async def _beyond(console: Console, wanted: PlanTerms) -> list[tuple[str, int, int]]:
    """Of what is bounded, that of which the tenant has more than the plan includes: noun, has, includes."""
    counting = {
        "agents": agents_at_work(console.tenant_id),
        "seats": seats_taken(console.tenant_id),
        "sources": sources_held(console.tenant_id),
        "webhook_endpoints": endpoints_held(console.tenant_id),
    }
    counted = select(*(query.scalar_subquery() for query in counting.values()))
    have = dict(zip(counting, (await console.session.execute(counted)).one(), strict=True))
    found = [(bound, int(number), getattr(wanted, bound)) for bound, number in have.items()]
    names = {bound: FIELD_NAMES[bound].lower() for bound in get_args(Bound)}
    return [(names[bound], number, most) for bound, number, most in found if most is not None and number > most]


@router.get(f"{PATH}/invoices")
async def show_invoices(console: Admin, cursor: Cursor = None) -> Response:
    page = await list_invoices(console.session, console.actor, limit=INVOICES, cursor=cursor)
    values: dict[str, Any] = {
        "invoices": page.data,
        "next_cursor": page.next_cursor,
        "money": money_in_column,
        "words": STATUS_WORDS,
    }
    if console.is_partial:
        template = "billing/_invoice_rows.html" if cursor else "billing/_invoices.html"
        return console.fragment(template, day_of=day_of, **values)
    return console.page("billing/invoices.html", day_of=day_of, **values)


@router.get(f"{PATH}/invoices/{{invoice_id}}")
async def show_invoice(invoice_id: str, console: Admin) -> Response:
    invoice = await get_invoice(console.session, console.actor, invoice_id=invoice_id)
    return console.page(
        "billing/invoice.html", invoice=invoice, money=money_in_column, words=STATUS_WORDS, day_of=day_of
    )


@router.get("/console/plan")
async def explain_plan(console: Viewer) -> Response:
    """What the tenant may do, and why: plan, exception, what holds."""
    held = await entitlements(console.session, console.tenant_id)
    retention = await get_retention(console.session, console.tenant_id)
    return console.page(
        "billing/explain.html",
        held=held,
        retention=retention,
        value_in_words=lambda line, value: value_in_words(line.field, value, held.plan.currency),
        day_of=day_of,
    )

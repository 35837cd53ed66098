"""`/console/usage`: what was used, what it cost, and the monthly budget."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat.api.usage import usage_csv
from stonechat.assistant.agents import list_agents
from stonechat.errors import InvalidInput
from stonechat.usage.prices import MICROS, OwnPrice, get_prices, list_price, put_prices
from stonechat.usage.quota import REFUSAL, Budget, BudgetState, get_budget, put_budget
from stonechat.usage.report import Days, UsageRow, grouped_by, last_days, total, usage_report
from stonechat_admin.auth import Admin, Viewer
from stonechat_admin.forms import Filled

router = APIRouter()

PATH = "/console/usage"
PERIODS = (7, 30, 90)
WIDE, TALL = 720, 140
SHOWN = 50
"""Models, and agents."""
Field = Annotated[str, Form(max_length=600)]
Number = Annotated[str, Form(max_length=24)]
Period = Annotated[int, Query(ge=1, le=366)]


@dataclass(frozen=True, slots=True)
class Bar:
    """A day of the chart, in units of its drawing."""

    day: UsageRow
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Meter:
    """How far a bound of the budget is used."""

    label: str
    used: str
    most: str
    reserved: str
    percent: int


@router.get(PATH)
async def show_usage(console: Viewer, days: Period = 30) -> Response:
    period = last_days(days)
    session, actor = console.session, console.actor
    rows = await usage_report(session, actor, days=period, by="all")
    by_day, by_model, by_agent = (grouped_by(rows, key) for key in ("day", "model", "agent"))
    own = {(price.provider, price.model): price for price in (await get_prices(session, actor)).prices}
    return console.page(
        "usage/page.html",
        period=period,
        days=days,
        periods=PERIODS,
        total=total(by_day),
        bars=_bars(period, by_day),
        wide=WIDE,
        tall=TALL,
        by_model=[(row, _price(row, own)) for row in by_model[:SHOWN]],
        by_agent=by_agent[:SHOWN],
        agent_names={agent.id: agent.name for agent in (await list_agents(session, actor)).data},
        dollars=dollars,
        price_form=Filled(),
        **_budget_values(await get_budget(session, actor)),
    )


@router.get(f"{PATH}/export")
async def export_usage(console: Viewer, days: Period = 30) -> Response:
    period = last_days(days)
    rows = await usage_report(console.session, console.actor, days=period, by="all")
    disposition = f'attachment; filename="usage-{period.first}-{period.last}.csv"'
    return Response(usage_csv(rows), media_type="text/csv", headers={"Content-Disposition": disposition})


@router.post(f"{PATH}/budget")
async def save_budget(
    console: Admin, max_tokens: Number = "", max_dollars: Number = "", message: Field = ""
) -> Response:
    typed = {"max_tokens": max_tokens, "max_dollars": max_dollars, "message": message}
    errors: dict[str, str] = {}
    budget = Budget()
    try:
        tokens = int(max_tokens.replace(",", "").replace(" ", "")) if max_tokens.strip() else None
        budget = Budget(max_tokens=tokens)
    except ValueError:
        errors["max_tokens"] = "Write a whole number, or nothing."
    try:
        micros = micros_of(max_dollars) if max_dollars.strip() else None
        budget = Budget(max_tokens=budget.max_tokens, max_cost_micros=micros)
    except ValueError:
        errors["max_dollars"] = "Write an amount such as 25 or 7.50, or nothing."
    try:
        budget = budget.model_validate(budget.model_dump() | {"message": message.strip() or None})
    except ValidationError:
        errors["message"] = "Write at most 500 characters."
    if errors:
        state = await get_budget(console.session, console.actor)
        return console.fragment(
            "usage/_budget.html", status=422, **_budget_values(state) | {"form": Filled(typed, errors)}
        )
    state = await put_budget(console.session, console.actor, budget=budget)
    bounded = state.max_tokens is not None or state.max_cost_micros is not None
    toast = "The budget is saved. It holds from the next question on." if bounded else "There is no budget any more."
    if not console.is_partial:
        return console.go(PATH, toast=toast)
    return console.fragment("usage/_budget.html", toast=toast, **_budget_values(state))


@router.post(f"{PATH}/prices")
async def save_price(
    console: Admin,
    name: Annotated[str, Form(max_length=241)] = "",
    input_price: Number = "",
    output_price: Number = "",
    cached_price: Number = "",
) -> Response:
    provider, _, model = name.partition("/")
    known = (await get_prices(console.session, console.actor)).prices
    others = [price for price in known if (price.provider, price.model) != (provider, model)]
    if not input_price.strip() and not output_price.strip():
        await put_prices(console.session, console.actor, prices=others)
        return console.go(PATH, toast="The public price holds again, where there is one.")
    try:
        price = OwnPrice(
            provider=provider,
            model=model,
            input=_decimal(input_price),
            output=_decimal(output_price),
            cached=_decimal(cached_price) if cached_price.strip() else None,
        )
    except ValueError:
        raise InvalidInput("Prices are dollars for a million tokens, such as 0.40, from 0 to 1,000.") from None
    await put_prices(console.session, console.actor, prices=[*others, price])
    return console.go(PATH, toast="The price is saved. It holds for what is used from now on.")


def dollars(micros: int) -> str:
    """`$1,234.50`; four places below a dollar, so that little is not nothing."""
    amount = Decimal(micros) / MICROS
    return f"${amount:,.2f}" if amount >= 1 or not micros else f"${amount:.4f}"


_AMOUNT = re.compile(r"(?:\d{1,12}|[1-9]\d{0,2}(?:,\d{3}){1,3})(?:\.\d{0,9})?|\.\d{1,9}", re.ASCII)
"""A comma parts thousands; who means 7.50 by `7,50` is asked, not charged a hundred times as much."""


def _decimal(typed: str) -> Decimal:
    text = typed.strip().removeprefix("$").strip()
    if not _AMOUNT.fullmatch(text):
        raise ValueError("not an amount")
    return Decimal(text.replace(",", ""))


def micros_of(typed: str) -> int:
    """Millionths. Raises `ValueError` for what is no amount."""
    return int(_decimal(typed) * MICROS)


def _price(row: UsageRow, own: dict[tuple[str, str], OwnPrice]) -> str:
    """In words, for the table."""
    provider, model = row.provider or "", row.model or ""
    if (price := own.get((provider, model))) is not None:
        return f"your own: {_price_of(price.input)} in, {_price_of(price.output)} out"
    if (public := list_price(provider, model)) is not None:
        if not public.input_micros and not public.output_micros:
            return "free"
        taken, given = (Decimal(micros) / MICROS for micros in (public.input_micros, public.output_micros))
        return f"{_price_of(taken)} in, {_price_of(given)} out"
    return ""


def _price_of(amount: Decimal) -> str:
    """`$0.40`; more than two places only where they say something."""
    return f"${amount:.2f}" if amount == round(amount, 2) else f"${amount.normalize():f}"


def _budget_values(state: BudgetState) -> dict[str, Any]:
    meters = []
    if state.max_tokens is not None:
        meters.append(
            Meter(
                "Tokens",
                f"{state.used_tokens:,}",
                f"{state.max_tokens:,}",
                f"{state.reserved_tokens:,}" if state.reserved_tokens else "",
                min(100, 100 * state.used_tokens // state.max_tokens),
            )
        )
    if state.max_cost_micros is not None:
        meters.append(
            Meter(
                "Cost",
                dollars(state.used_cost_micros),
                dollars(state.max_cost_micros),
                dollars(state.reserved_cost_micros) if state.reserved_cost_micros else "",
                min(100, 100 * state.used_cost_micros // state.max_cost_micros),
            )
        )
    values = {
        "max_tokens": "" if state.max_tokens is None else f"{state.max_tokens:,}",
        "max_dollars": "" if state.max_cost_micros is None else f"{Decimal(state.max_cost_micros) / MICROS:f}",
        "message": state.message or "",
    }
    return {"budget": state, "meters": meters, "form": Filled(values), "refusal": REFUSAL}


def _bars(period: Days, rows: Sequence[UsageRow]) -> list[Bar]:
    """A bar for each day with use, as high as its tokens; as its answers where none of them took a token."""
    step = WIDE / len(period)
    tokens = [row.input_tokens + row.output_tokens for row in rows]
    heights = tokens if any(tokens) else [row.answers for row in rows]
    most = max(heights, default=0) or 1
    bars = []
    for row, high in zip(rows, heights, strict=True):
        if row.day is not None:
            height = max(2.0, round(TALL * high / most, 1))
            x = (row.day - period.first).days * step
            bars.append(Bar(row, round(x + step * 0.1, 1), TALL - height, round(step * 0.8, 1), height))
    return bars

"""`/operator/revenue`, `replay`, `plans`: what comes in, what goes out, and on which terms."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from pydantic import ValidationError

from stonechat.errors import InvalidInput
from stonechat.operator import plans as operator_plans
from stonechat.operator import revenue
from stonechat.plans.catalog import list_plans, plan_terms
from stonechat.plans.terms import NUMBER_FIELDS, Feature, PlanTerms
from stonechat.plans.words import FEATURE_NAMES, FIELD_NAMES, money, value_in_words
from stonechat_admin.forms import Filled
from stonechat_admin.operator_auth import AtDesk
from stonechat_admin.operator_pages import chart, csv_file, dollars

router = APIRouter()

PERIODS = (30, 90, 365)
Word = Annotated[str, Query(max_length=100)]
Text = Annotated[str, Form(max_length=400)]
Features = Annotated[list[str], Form(max_length=50)]
NUMBERS = ("trial_days", *NUMBER_FIELDS)


@router.get("/operator/revenue")
async def show_revenue(desk: AtDesk, days: Annotated[int, Query(ge=7, le=366)] = 30) -> Response:
    listed = await revenue.revenue_days(desk.session, days=days)
    drawn = chart([(day.day, (day.revenue_micros, day.cost_micros)) for day in listed], names=("Revenue", "Model cost"))
    return desk.page(
        "operator/money/revenue.html",
        days=listed,
        months=await revenue.revenue_months(desk.session),
        money=money,
        number=days,
        periods=PERIODS,
        chart=drawn,
        revenue=sum(day.revenue_micros for day in listed),
        cost=sum(day.cost_micros for day in listed),
        answers=sum(day.answers for day in listed),
        unusual=[day for day in reversed(listed) if day.unusual],
        export=f"/operator/revenue/export?days={days}",
        dollars=dollars,
    )


@router.get("/operator/revenue/export")
async def export_revenue(desk: AtDesk, days: Annotated[int, Query(ge=7, le=366)] = 30) -> Response:
    headings = (
        "day",
        "tenants",
        "active_tenants",
        "answers",
        "tokens",
        "list_price_micros",
        "cost_micros",
        "margin_micros",
        "unusual",
    )
    rows = await revenue.revenue_days(desk.session, days=days)
    return csv_file(
        "revenue",
        headings,
        (
            (
                row.day,
                row.tenants,
                row.active_tenants,
                row.answers,
                row.tokens,
                row.revenue_micros,
                row.cost_micros,
                row.margin_micros,
                "; ".join(row.unusual),
            )
            for row in rows
        ),
    )


@router.get("/operator/revenue/months/export")
async def export_months(desk: AtDesk) -> Response:
    names = ("month", "currency", "invoices", "invoiced_cents", "paid_cents", "list_micros", "days")
    rows = await revenue.revenue_months(desk.session)
    return csv_file("revenue-months", names, ([getattr(row, name) for name in names] for row in rows))


@router.get("/operator/replay")
async def show_replay(desk: AtDesk, on: Word = "", of: Word = "") -> Response:
    plans = await list_plans(desk.session)
    replayed = None
    if on:
        terms = await plan_terms(desk.session, on.replace("\x00", ""))
        replayed = await revenue.replay_on_plan(desk.session, terms, of_plan=of)
    return desk.page(
        "operator/money/replay.html",
        plans=plans,
        on=on,
        of=of,
        replay=replayed,
        month=revenue.last_month(),
        export=f"/operator/replay/export?{urlencode({'on': on, 'of': of})}",
        dollars=dollars,
    )


@router.get("/operator/replay/export")
async def export_replay(desk: AtDesk, on: Word, of: Word = "") -> Response:
    terms = await plan_terms(desk.session, on.replace("\x00", ""))
    replayed = await revenue.replay_on_plan(desk.session, terms, of_plan=of, rows=revenue.MAX_TENANTS)
    headings = (
        "tenant_id",
        "name",
        "plan",
        "answers",
        "tokens",
        "cost_micros",
        "charged_micros",
        "would_be_micros",
        "difference_micros",
        "beyond",
    )
    return csv_file(
        f"replay-on-{terms.key}",
        headings,
        (
            (
                row.tenant_id,
                row.name,
                row.plan_key,
                row.answers,
                row.tokens,
                row.cost_micros,
                row.now_micros,
                row.then_micros,
                row.difference_micros,
                row.beyond,
            )
            for row in replayed.rows
        ),
    )


@router.get("/operator/plans")
async def show_plans(desk: AtDesk) -> Response:
    plans = await list_plans(desk.session)
    return desk.page(
        "operator/money/plans.html",
        plans=plans,
        held=await operator_plans.count_on_plans(desk.session),
        money=money,
        value_in_words=value_in_words,
        fields=[name for name in NUMBER_FIELDS if name != "overage_micros_per_1k_tokens"],
        names=FIELD_NAMES,
        features=FEATURE_NAMES,
    )


@router.get("/operator/plans/export")
async def export_plans(desk: AtDesk) -> Response:
    names = [name for name in PlanTerms.model_fields if name != "features"]
    plans = await list_plans(desk.session)
    return csv_file(
        "plans",
        [*names, "features"],
        ([*(getattr(plan, name) for name in names), sorted(plan.features)] for plan in plans),
    )


@router.get("/operator/plans/new")
async def show_new_plan(desk: AtDesk, like: Word = "") -> Response:
    terms = await plan_terms(desk.session, like.replace("\x00", "")) if like else None
    return desk.page("operator/money/plan.html", like=terms, **_form_values(_filled(terms)))


@router.post("/operator/plans")
async def publish_plan(request: Request, desk: AtDesk, features: Features = []) -> Response:  # noqa: B006
    sent = await request.form()
    typed: dict[str, Any] = {
        name: str(sent.get(name, ""))[:400]
        for name in ("key", "name", "description", "price", "currency", "interval", "public", *NUMBERS)
    }
    typed["features"] = features
    try:
        terms = _terms(typed)
        published = await operator_plans.publish(desk.session, desk.operator, terms)
    except InvalidInput as error:
        errors = {str(item["field"]): str(item["message"]) for item in error.members.get("errors", ())}
        form = Filled(typed, errors, "" if errors else str(error))
        if not desk.is_partial:
            return desk.page("operator/money/plan.html", status=422, like=None, **_form_values(form))
        return desk.fragment("operator/money/_plan_form.html", status=422, **_form_values(form))
    return desk.go("/operator/plans", toast=f"Published {published.name}, version {published.version}.")


@router.post("/operator/plans/{key}/retire")
async def retire_plan(key: str, desk: AtDesk) -> Response:
    await operator_plans.retire(desk.session, desk.operator, key=key.replace("\x00", ""))
    return desk.go("/operator/plans", toast="Nobody can choose it any more. Who is on it stays on it.")


def _form_values(form: Filled) -> dict[str, Any]:
    choices = [(feature.value, name, "") for feature, name in FEATURE_NAMES.items()]
    return {"form": form, "numbers": NUMBER_FIELDS, "names": FIELD_NAMES, "feature_choices": choices}


def _filled(terms: PlanTerms | None) -> Filled:
    if terms is None:
        fresh: dict[str, Any] = dict.fromkeys(("key", "name", "description", "price", *NUMBERS), "")
        return Filled(fresh | {"currency": "usd", "interval": "month", "public": "on", "features": []})
    values: dict[str, Any] = {name: getattr(terms, name) for name in ("key", "name", "description", "interval")}
    values |= {name: "" if getattr(terms, name) is None else getattr(terms, name) for name in NUMBERS}
    values |= {"price": f"{Decimal(terms.price_cents) / 100:.2f}", "currency": terms.currency}
    return Filled(
        values | {"public": "on" if terms.public else "", "features": [each.value for each in terms.features]}
    )


def _terms(typed: dict[str, Any]) -> PlanTerms:
    """What was typed as terms. Raises `InvalidInput` with what is wrong of each field."""
    errors: dict[str, str] = {}
    numbers: dict[str, int | None] = {}
    for name in NUMBERS:
        text = str(typed[name]).replace(",", "").replace(" ", "")
        if text and (not text.isdecimal() or len(text) > 15):
            errors[name] = "Write a whole number, or nothing."
        else:
            numbers[name] = int(text) if text else (0 if name == "trial_days" else None)
    price = str(typed["price"]).replace(",", "").strip() or "0"
    cents = 0
    try:
        cents = int((Decimal(price) * 100).to_integral_exact())
    except (ArithmeticError, ValueError):
        errors["price"] = "Write an amount, such as 29 or 7.50."
    if not errors:
        try:
            return PlanTerms(
                key=typed["key"].strip(),
                name=typed["name"].strip(),
                description=typed["description"].strip(),
                public=bool(typed["public"]),
                price_cents=cents,
                currency=typed["currency"].strip().lower(),
                interval=typed["interval"],
                features=frozenset(each for each in Feature if each.value in typed["features"]),
                **numbers,
            )
        except ValidationError as error:
            for fault in error.errors(include_url=False, include_input=False):
                field = str(fault["loc"][0]) if fault["loc"] else "included_tokens"
                errors["price" if field == "price_cents" else field] = _sentence(field, fault["msg"])
    raise InvalidInput(
        "Some of this cannot be published.",
        errors=[{"field": field, "message": message} for field, message in errors.items()],
    )


def _sentence(field: str, message: str) -> str:
    if field == "key":
        return "Small letters, digits and underscores, a letter first."
    if field == "name":
        return "A name has 1 to 80 characters."
    if field == "currency":
        return "Three letters, such as usd."
    message = message.removeprefix("Value error, ")
    return f"{message[:1].upper()}{message[1:]}."

"""`/api/v1/usage`: what was used and what it cost, what the plan includes, the monthly budget, what happens at their end, and
prices of the tenant's own."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.assistant import contacts
from stonechat.assistant.contacts import Contact
from stonechat.assistant.over_limit import choose_steps
from stonechat.billing.webhooks import request_sync
from stonechat.limits.addresses import limit_address
from stonechat.usage import allowance, prices, quota, report
from stonechat.usage.allowance import AllowanceState, Steps
from stonechat.usage.prices import CURRENCY, OwnPrice, OwnPrices
from stonechat.usage.quota import Budget, BudgetState
from stonechat.usage.report import Days, GroupBy, UsageRow
from stonechat.usage.report_pages import usage_page
from stonechat.web.csv_files import csv_text
from stonechat.web.paging import MAX_PAGE, Cursor, Limit, Page

router = APIRouter(prefix="/usage", tags=["Usage"], dependencies=[Depends(limit_address)])

DEFAULT_DAYS = 30
PageLimit = Annotated[
    int | None,
    Query(ge=1, le=MAX_PAGE, description=f"How many to return at most. Without it: {report.MAX_ROWS:,}."),
]


class Usage(BaseModel):
    """What was used from `start` to `end` (UTC days, both included). Money is in millionths of the currency.

    `total` is of all of it, whichever page this is.
    """

    start: date
    end: date
    currency: str
    group_by: GroupBy
    total: UsageRow
    data: list[UsageRow]
    next_cursor: str | None = None
    """Null on the last page."""


class Prices(BaseModel):
    """US dollars for a million tokens."""

    list_version: str
    """Which list of public prices holds for models without a price of one's own."""
    currency: str
    prices: list[OwnPrice]


_Day = Annotated[date | None, Query(ge=date(2000, 1, 1), le=date(2999, 12, 31), description="In UTC.")]


def asked_days(start: _Day = None, end: _Day = None) -> Days:
    """From `start` to `end`; to today where there is no end, and 30 days where there is no start."""
    last = end or report.today()
    return Days(start or last - timedelta(days=DEFAULT_DAYS - 1), last)


AskedDays = Annotated[Days, Depends(asked_days)]


@router.get("", summary="Get usage by day, agent or model")
async def get_usage(
    actor: ApiActor,
    session: TenantSession,
    days: AskedDays,
    group_by: GroupBy = "day",
    limit: PageLimit = None,
    cursor: Cursor = None,
) -> Usage:
    page, total = await usage_page(session, actor, days=days, by=group_by, limit=limit, cursor=cursor)
    return Usage(
        start=days.first,
        end=days.last,
        currency=CURRENCY,
        group_by=group_by,
        total=total,
        data=page.data,
        next_cursor=page.next_cursor,
    )


@router.get("/export", summary="Export usage by day, agent and model as CSV", response_class=Response)
async def export_usage(actor: ApiActor, session: TenantSession, days: AskedDays) -> Response:
    rows = await report.usage_report(session, actor, days=days, by="all")
    name = f"usage-{days.first}-{days.last}.csv"
    return Response(
        usage_csv(rows), media_type="text/csv", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


@router.get("/budget", summary="Get the monthly budget")
async def get_budget(actor: ApiActor, session: TenantSession) -> BudgetState:
    return await quota.get_budget(session, actor)


@router.put("/budget", summary="Replace the monthly budget")
async def put_budget(body: Budget, actor: ApiActor, session: TenantSession) -> BudgetState:
    return await quota.put_budget(session, actor, budget=body)


@router.get("/allowance", summary="Get what the plan includes, and how far it is used")
async def get_allowance(actor: ApiActor, session: TenantSession) -> AllowanceState:
    actor.require("read")
    return await allowance.allowance_state(session, actor.tenant_id)


class OverageIn(BaseModel):
    """Going on beyond what the plan includes, for money."""

    model_config = ConfigDict(extra="forbid")

    opt_in: bool
    spend_cap_micros: Annotated[int, Field(ge=0, le=allowance.MAX_CAP_MICROS)] | None = None
    """What overage may cost in a period at most, in millionths of the plan's currency; null for no cap."""


@router.put("/overage", summary="Opt in to overage, with a cap, or out of it")
async def put_overage(
    body: OverageIn, actor: ApiActor, session: TenantSession, services: AppServices
) -> AllowanceState:
    state = await allowance.put_overage(session, actor, opt_in=body.opt_in, spend_cap_micros=body.spend_cap_micros)
    if services.billing.gateway is not None:
        await request_sync(session, actor.tenant_id)  # only what the subscription has an item for is charged
    return state


@router.get("/steps", summary="Get what is done when nothing more may be used")
async def get_steps(actor: ApiActor, session: TenantSession) -> Steps:
    return await allowance.get_steps(session, actor)


@router.put("/steps", summary="Replace what is done when nothing more may be used")
async def put_steps(body: Steps, actor: ApiActor, session: TenantSession, services: AppServices) -> Steps:
    return await choose_steps(session, actor, steps=body, settings=services.settings)


@router.get("/contacts", summary="List e-mail addresses that visitors left")
async def list_contacts(
    actor: ApiActor, session: TenantSession, limit: Limit = 20, cursor: Cursor = None
) -> Page[Contact]:
    return await contacts.list_contacts(session, actor, limit=limit, cursor=cursor)


@router.get("/prices", summary="Get the tenant's own prices")
async def get_prices(actor: ApiActor, session: TenantSession) -> Prices:
    return _prices(await prices.get_prices(session, actor))


@router.put("/prices", summary="Replace the tenant's own prices")
async def put_prices(body: OwnPrices, actor: ApiActor, session: TenantSession) -> Prices:
    return _prices(await prices.put_prices(session, actor, prices=body.prices))


def _prices(own: OwnPrices) -> Prices:
    return Prices(list_version=prices.list_version(), currency=CURRENCY, prices=own.prices)


def usage_csv(rows: Iterable[UsageRow]) -> str:
    """The rows with a line of names above them."""
    names = tuple(UsageRow.__dataclass_fields__)
    return csv_text(([getattr(row, name) for name in names] for row in rows), headings=names)

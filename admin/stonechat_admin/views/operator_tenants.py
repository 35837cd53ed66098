"""`/operator/tenants`: all of them, and one of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Response

from stonechat.operator import audit, deliveries, events, jobs, support, tenants
from stonechat.operator.levers import DELETION_DAYS
from stonechat.operator.tenant import get_tenant_page
from stonechat.operator.tenants import FLAGS, HEALTHS, ROWS, SORTS, Chosen
from stonechat.plans.catalog import list_plans
from stonechat.plans.terms import NUMBER_FIELDS
from stonechat_admin.forms import Filled
from stonechat_admin.operator_auth import AtDesk, Desk
from stonechat_admin.operator_pages import FIELDS, csv_file, dollars, tenant_of

router = APIRouter()

PATH = "/operator/tenants"
SORT_NAMES = {
    "name": "Name",
    "newest": "Newest first",
    "revenue": "List price",
    "cost": "Model cost",
    "margin": "Margin, worst first",
    "answers": "Answers",
    "seen": "Last seen",
}
HEALTH_KINDS = {
    "good": "success",
    "new": "info",
    "quiet": "neutral",
    "failing": "error",
    "unpaid": "warning",
    "suspended": "error",
}
SHORT_FLAGS = {
    "cost_spike": "cost spike",
    "loss": "loss",
    "unpaid_cost": "costs, pays nothing",
    "failing": "failing",
    "gone_quiet": "gone quiet",
}
RECENT = 10

Word = Annotated[str, Query(max_length=100)]
Number = Annotated[int, Query(ge=1, le=tenants.MAX_PAGES)]


@router.get("/operator")
async def show_home(desk: AtDesk) -> Response:
    return desk.go(PATH)


@router.get(PATH)
async def show_tenants(
    desk: AtDesk,
    q: Word = "",
    plan: Word = "",
    health: Word = "",
    flagged: Word = "",
    sort: Word = "name",
    page: Number = 1,
) -> Response:
    chosen = _chosen(q, plan, health, flagged, sort, page)
    rows, totals = await tenants.list_tenants(desk.session, chosen)
    asked = {"q": q, "plan": plan, "health": health, "flagged": flagged, "sort": chosen.sort}
    pages = -(-totals.tenants // ROWS) or 1
    filtered = bool(q or plan or health or flagged)
    return desk.page(
        "operator/tenants/list.html",
        rows=rows,
        totals=totals,
        chosen=chosen,
        filtered=filtered,
        trouble=None if filtered or page > 1 else await _trouble(desk),
        plans=await list_plans(desk.session),
        healths=HEALTHS,
        sorts=SORT_NAMES,
        export=f"{PATH}/export?{urlencode(asked)}",
        pages=pages,
        before=f"{PATH}?{urlencode(asked | {'page': page - 1})}" if page > 1 else None,
        after=f"{PATH}?{urlencode(asked | {'page': page + 1})}" if page < pages else None,
        **_words(),
    )


async def _trouble(desk: Desk) -> list[tuple[int, str, str]]:
    """What waits for an operator in the machinery: how many, of what, and where."""
    given_up = sum(numbers.get("failed", 0) for numbers in (await jobs.count_jobs(desk.session)).values())
    unmet = (await events.count_events(desk.session)).get("failed", 0)
    untold = (await deliveries.count_deliveries(desk.session)).get("failed", 0)
    found = [
        (given_up, "job given up" if given_up == 1 else "jobs given up", "/operator/jobs"),
        (unmet, "inbound event failed" if unmet == 1 else "inbound events failed", "/operator/events?state=failed"),
        (
            untold,
            f"outbound {'webhook' if untold == 1 else 'webhooks'} failed in the last day",
            "/operator/deliveries?status=failed",
        ),
    ]
    return [each for each in found if each[0]]


@router.get(f"{PATH}/export")
async def export_tenants(
    desk: AtDesk, q: Word = "", plan: Word = "", health: Word = "", flagged: Word = "", sort: Word = "name"
) -> Response:
    rows = await tenants.all_tenants(desk.session, _chosen(q, plan, health, flagged, sort, 1))
    headings = (
        "tenant_id",
        "name",
        "status",
        "created_at",
        "plan",
        "plan_status",
        "answers_30d",
        "tokens_30d",
        "list_price_micros_30d",
        "cost_micros_30d",
        "margin_micros_30d",
        "last_seen_at",
        "health",
        "flags",
    )
    return csv_file(
        "tenants",
        headings,
        (
            (
                row.tenant_id,
                row.name,
                row.status,
                row.created_at,
                row.plan_key,
                row.plan_status,
                row.answers,
                row.tokens,
                row.revenue_micros,
                row.cost_micros,
                row.margin_micros,
                row.last_seen_at,
                row.health,
                row.flags,
            )
            for row in rows
        ),
    )


@router.get(f"{PATH}/{{tenant_id}}")
async def show_tenant(tenant_id: str, desk: AtDesk, grant: Word = "") -> Response:
    return desk.page(
        "operator/tenants/tenant.html", grant_over=grant == "over", **await values(desk, tenant_of(tenant_id))
    )


async def values(desk: Desk, tenant_id: UUID) -> dict[str, Any]:
    """What the tenant's page is drawn from."""
    page = await get_tenant_page(desk.session, tenant_id)
    return {
        "page": page,
        "tenant": page.tenant,
        "rights": page.rights,
        "grants": (await support.list_grants(desk.session, tenant_id))[:RECENT],
        "held": desk.signed_in.grant_id,
        "done": await audit.of_tenant(desk.session, tenant_id, limit=RECENT),
        "plans": page.plans,
        "fields": FIELDS,
        "numbers": NUMBER_FIELDS,
        "days": DELETION_DAYS,
        "minutes": support.MINUTES,
        "form": Filled({"minutes": "60", "access": "read", "days": "14", "trial_days": "0"}),
        **_words(),
    }


def _words() -> dict[str, Any]:
    return {"dollars": dollars, "kinds": HEALTH_KINDS, "flag_words": FLAGS, "short_flags": SHORT_FLAGS}


def _chosen(q: str, plan: str, health: str, flagged: str, sort: str, page: int) -> Chosen:
    chosen = Chosen(query=q, plan=plan, health=health if health in HEALTHS else "", flagged=bool(flagged), page=page)
    return replace(chosen, sort=sort) if sort in SORTS else chosen

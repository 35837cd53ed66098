"""What a tenant does about its plan: choose, change, end, take back, pay. Whoever is paid may take seconds to answer, and no
transaction waits for that."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.responses import StreamingResponse

from stonechat.accounts.actor import Actor
from stonechat.api.dependencies import AppServices
from stonechat.billing.provider import ChangePreview
from stonechat.chat.bulk_export import export_conversations
from stonechat.errors import BillingOff, InvalidInput, StonechatError, Unavailable
from stonechat.plans.catalog import list_plans
from stonechat.plans.entitlements import Entitlements, entitlements
from stonechat.plans.words import money, money_in_column
from stonechat.usage.allowance import allowance_state, put_overage
from stonechat_admin.auth import AtWork, at_work, require
from stonechat_admin.forms import refused
from stonechat_admin.plan_words import day_of
from stonechat_admin.render import fragment, go, is_partial, page
from stonechat_admin.views.billing import PATH, has_live_subscription, usage_values
from stonechat_admin.views.usage import micros_of

router = APIRouter()
_log = logging.getLogger(__name__)


async def _admin(request: Request, services: AppServices, who: Annotated[AtWork, Depends(at_work)]) -> Actor:
    """Who asks, in a transaction that ends here."""
    async with asynccontextmanager(require("admin"))(request, services, who) as console:
        return console.actor


AdminAtWork = Annotated[Actor, Depends(_admin)]
PlanKey = Annotated[str, Form(max_length=40)]


@router.get(f"{PATH}/change/cost")
async def preview_change(request: Request, services: AppServices, actor: AdminAtWork, plan: str = "") -> Response:
    """What the change costs, and the button that makes it."""
    preview: ChangePreview | None = None
    trouble = ""
    async with services.database.tenant(actor.tenant_id) as session:
        interval = next((each.interval for each in await list_plans(session) if each.key == plan), "month")
    try:
        preview = await services.billing.preview_change(actor, plan[:40])
    except (BillingOff, Unavailable, InvalidInput) as error:
        trouble = error.detail or error.title
    values: dict[str, Any] = {
        "preview": preview,
        "trouble": trouble,
        "plan_key": plan[:40],
        "money": money,
        "column": money_in_column,
        "interval": interval,
        "day_of": day_of,
    }
    if is_partial(request):
        return fragment(request, "billing/_cost.html", **values)
    return page(request, "billing/cost.html", **values)


@router.post(f"{PATH}/change")
async def change_plan(request: Request, services: AppServices, actor: AdminAtWork, plan: PlanKey = "") -> Response:
    async with services.database.tenant(actor.tenant_id) as session:
        live = has_live_subscription(await entitlements(session, actor.tenant_id))
    if not live:
        back = f"{services.settings.public_url}{PATH}/returned"
        return _outward(request, await services.billing.checkout(actor, plan, return_url=back))
    await services.billing.change_plan(actor, plan)
    async with services.database.tenant(actor.tenant_id) as session:
        held = await entitlements(session, actor.tenant_id)
    now = held.subscription
    if now.plan_key == plan:
        return go(request, PATH, toast=f"You are on {held.chosen.name} now.")
    return go(
        request, PATH, toast=f"The change is noted: it happens on {day_of(now.pending_plan_at or now.period_end)}."
    )


@router.post(f"{PATH}/portal")
async def open_portal(request: Request, services: AppServices, actor: AdminAtWork) -> Response:
    url = await services.billing.portal(actor, return_url=f"{services.settings.public_url}{PATH}/returned")
    return _outward(request, url)


@router.get(f"{PATH}/returned")
async def come_back(request: Request, services: AppServices, actor: AdminAtWork, billing: str = "") -> Response:
    """From Checkout or the portal: looked up at once, so that nobody waits for a webhook."""
    try:
        await services.billing.come_back(actor)
    except Unavailable:
        return go(request, PATH, toast="Your payment is on its way to us; the plan follows within a few minutes.")
    if billing == "canceled":
        return go(request, PATH, toast="The plan stays as it was.")
    async with services.database.tenant(actor.tenant_id) as session:
        held = await entitlements(session, actor.tenant_id)
    return go(request, PATH, toast=_news(held))


@router.post(f"{PATH}/cancel")
async def cancel_plan(request: Request, services: AppServices, actor: AdminAtWork) -> Response:
    await services.billing.cancel(actor, at_period_end=True)
    return go(request, PATH, toast="The plan ends with the period that is paid. Nothing is deleted.")


@router.post(f"{PATH}/resume")
async def resume_plan(request: Request, services: AppServices, actor: AdminAtWork) -> Response:
    await services.billing.resume(actor)
    return go(request, PATH, toast="Good. The plan goes on as it was.")


@router.post(f"{PATH}/overage")
async def save_overage(
    request: Request,
    services: AppServices,
    actor: AdminAtWork,
    opt_in: Annotated[str, Form(max_length=10)] = "",
    cap: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    refusal: StonechatError | None = None
    async with services.database.tenant(actor.tenant_id) as session:
        held = await entitlements(session, actor.tenant_id)
        try:
            state = await put_overage(session, actor, opt_in=bool(opt_in), spend_cap_micros=_micros(cap))
        except InvalidInput as error:
            refusal = error
            state = await allowance_state(session, actor.tenant_id, rights=held)
    if refusal is not None:
        form = refused(refusal, {"opt_in": opt_in, "cap": cap}, about="cap")
        values = usage_values(held, state=state, form=form)
        return fragment(request, "billing/_overage.html", status=422, held=held, **values)
    with suppress(Unavailable):  # the hourly look at the customer does it then
        await services.billing.overage_changed(actor.tenant_id)
    toast = "Your agents go on beyond the plan." if state.overage.opt_in else "Nothing beyond the plan is charged."
    if not is_partial(request):
        return go(request, PATH, toast=toast)
    return fragment(request, "billing/_overage.html", toast=toast, held=held, **usage_values(held, state=state))


@router.get(f"{PATH}/conversations.jsonl")
async def download_conversations(services: AppServices, actor: AdminAtWork) -> Response:
    """Every conversation, a line of JSON each, the newest first."""
    return StreamingResponse(
        export_conversations(services.database, actor),
        media_type="application/x-ndjson",
        headers={
            "Content-Disposition": 'attachment; filename="conversations.jsonl"',
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _outward(request: Request, url: str) -> Response:
    """To a page of whoever is paid. A form may not be sent on to another site, by the console's policy; a script may go."""
    if is_partial(request):
        return Response(status_code=200, headers={"HX-Redirect": url, "Cache-Control": "no-store"})
    return page(request, "billing/outward.html", url=url)


def _news(held: Entitlements) -> str:
    """How things stand for somebody who comes back from paying, or from changing their mind."""
    now = held.subscription
    if now.status in ("past_due", "unpaid"):
        return "The payment is still open."
    if now.cancel_at is not None:
        return f"{held.chosen.name} ends on {day_of(now.cancel_at)}. Nothing is deleted."
    return "Thank you. Your plan is up to date."


def _micros(typed: str) -> int | None:
    if not typed.strip():
        return None
    try:
        return micros_of(typed)
    except ValueError:
        raise InvalidInput("Write an amount such as 25 or 7.50, or nothing for no cap.") from None

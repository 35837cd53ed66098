"""What is done to one tenant from its page: suspended, resumed, noted, excepted, synchronised, deleted later."""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from stonechat.api.dependencies import AppServices
from stonechat.errors import InvalidInput, StonechatError
from stonechat.operator import levers, plans
from stonechat.operator.operators import record
from stonechat.operator.tenant import require_tenant
from stonechat.plans.catalog import list_plans
from stonechat.plans.terms import NUMBER_FIELDS
from stonechat_admin.operator_auth import AtDesk, Desk, Proven
from stonechat_admin.operator_pages import FIELDS, moment_of, tenant_of
from stonechat_admin.render import go

router = APIRouter()

PATH = "/operator/tenants/{tenant_id}"
Text = Annotated[str, Form(max_length=5000)]
Word = Annotated[str, Form(max_length=200)]


@router.post(f"{PATH}/suspend")
async def suspend(tenant_id: str, desk: AtDesk, reason: Text = "") -> Response:
    tenant = tenant_of(tenant_id)
    deed = levers.suspend_tenant(desk.session, desk.operator, tenant, database=desk.services.database, reason=reason)
    return await _take(
        desk, deed, "suspend", tenant_id, {"reason": reason}, toast="Suspended. Visitors are told within a second."
    )


@router.post(f"{PATH}/resume")
async def resume(tenant_id: str, desk: AtDesk, reason: Text = "") -> Response:
    tenant = tenant_of(tenant_id)
    deed = levers.resume_tenant(desk.session, desk.operator, tenant, database=desk.services.database, reason=reason)
    return await _take(desk, deed, "resume", tenant_id, {"reason": reason}, toast="Open again.")


@router.post(f"{PATH}/notes")
async def add_note(tenant_id: str, desk: AtDesk, text: Text = "") -> Response:
    tenant = await require_tenant(desk.session, tenant_of(tenant_id))
    deed = levers.add_note(desk.session, desk.operator, tenant.tenant_id, text=text)
    return await _take(desk, deed, "note", tenant_id, {"text": text}, toast="Noted.", about="text")


@router.post(f"{PATH}/notes/{{note_id}}/remove")
async def remove_note(tenant_id: str, note_id: str, desk: AtDesk) -> Response:
    await levers.remove_note(desk.session, desk.operator, tenant_of(tenant_id), note_id=note_id)
    return desk.go(_back(tenant_id), toast="The note is gone.")


@router.post(f"{PATH}/overrides")
async def add_override(
    tenant_id: str,
    desk: AtDesk,
    field: Word = "",
    value: Word = "",
    reason: Text = "",
    expires_at: Word = "",
) -> Response:
    async def make() -> None:
        await levers.add_override(
            desk.session,
            desk.operator,
            tenant_of(tenant_id),
            database=desk.services.database,
            field=field,
            value=_value(field, value),
            reason=reason,
            expires_at=_moment(expires_at),
        )

    typed = {"field": field, "value": value, "reason": reason, "expires_at": expires_at}
    toast = "The exception holds from the next question on."
    return await _take(desk, make(), "override", tenant_id, typed, toast=toast)


@router.post(f"{PATH}/overrides/{{override_id}}/revoke")
async def revoke_override(tenant_id: str, override_id: str, desk: AtDesk) -> Response:
    await levers.revoke_override(
        desk.session,
        desk.operator,
        tenant_of(tenant_id),
        database=desk.services.database,
        override_id=override_id,
    )
    return desk.go(_back(tenant_id), toast="The exception has ended.")


@router.post(f"{PATH}/plan")
async def put_on_plan(
    tenant_id: str, desk: AtDesk, plan_key: Word = "", trial_days: Word = "0", reason: Text = ""
) -> Response:
    offered = await list_plans(desk.session)
    deed = plans.put_on_plan(
        desk.session,
        desk.operator,
        tenant_of(tenant_id),
        database=desk.services.database,
        plan_key=plan_key.replace("\x00", ""),
        trial_days=int(trial_days) if trial_days.isdecimal() and len(trial_days) < 5 else 0,
        reason=reason,
    )
    typed = {"plan_key": plan_key, "trial_days": trial_days, "reason": reason}
    return await _take(desk, deed, "plan", tenant_id, typed, toast="The plan holds from now on.", plans=offered)


@router.post(f"{PATH}/invoices/{{invoice_id}}/paid")
async def pay_invoice(tenant_id: str, invoice_id: str, desk: AtDesk) -> Response:
    await plans.pay_invoice(
        desk.session,
        desk.operator,
        tenant_of(tenant_id),
        database=desk.services.database,
        invoice_id=invoice_id.replace("\x00", ""),
        public_url=desk.services.settings.public_url,
    )
    return desk.go(_back(tenant_id), toast="Marked as paid.")


@router.post(f"{PATH}/deletion")
async def plan_deletion(tenant_id: str, desk: AtDesk, reason: Text = "", days: Word = "") -> Response:
    deed = levers.plan_deletion(
        desk.session,
        desk.operator,
        tenant_of(tenant_id),
        database=desk.services.database,
        reason=reason,
        days=int(days) if days.isdecimal() and len(days) < 4 else 0,
    )
    desk.services.bulletin.forget()
    toast = "The deletion is planned. You can call it off until it is due."
    return await _take(desk, deed, "deletion", tenant_id, {"reason": reason, "days": days}, toast=toast)


@router.post(f"{PATH}/deletion/cancel")
async def call_off_deletion(tenant_id: str, desk: AtDesk) -> Response:
    await levers.call_off_deletion(desk.session, desk.operator, tenant_of(tenant_id), database=desk.services.database)
    desk.services.bulletin.forget()
    return desk.go(_back(tenant_id), toast="The tenant stays.")


@router.post(f"{PATH}/sync")
async def sync(tenant_id: str, request: Request, services: AppServices, held: Proven) -> Response:
    """Holds no transaction: whoever is behind billing may take long."""
    async with services.database.platform() as session:
        tenant = await require_tenant(session, tenant_of(tenant_id))
        await record(session, held.operator, "billing.sync", tenant_id=tenant.tenant_id)
    try:
        await services.billing.sync(tenant.tenant_id)
    except StonechatError as error:
        return go(request, _back(tenant_id), toast=f"That did not succeed: {error}")
    return go(request, _back(tenant_id), toast="The subscription was looked at anew.")


async def _take(
    desk: Desk, deed: Awaitable[object], name: str, tenant_id: str, typed: dict[str, Any], *, toast: str, **more: Any
) -> Response:
    """Of the forms on a tenant's page: see `Desk.take`."""
    values = {"tenant_id": tenant_id, "fields": FIELDS, "days": levers.DELETION_DAYS} | more
    form = f"operator/tenants/_{name}_form.html"
    return await desk.take(deed, form=form, typed=typed, back=_back(tenant_id), toast=toast, **values)


def _back(tenant_id: str) -> str:
    return f"/operator/tenants/{tenant_of(tenant_id)}"


def _value(field: str, text: str) -> int | bool | None:
    """A number, nothing for no bound, or on and off for features. Raises `InvalidInput`."""
    text = text.strip().lower().replace(",", "").replace(" ", "")
    if field not in NUMBER_FIELDS:
        if text in ("on", "yes", "true"):
            return True
        if text in ("off", "no", "false"):
            return False
        raise _wrong("value", "Write on or off for a feature.")
    if text in ("", "none", "nobound"):
        return None
    if not text.isdecimal() or len(text) > 15:
        raise _wrong("value", "Write a whole number, or nothing for no bound.")
    return int(text)


def _moment(text: str) -> datetime | None:
    try:
        return moment_of(text)
    except ValueError:
        raise _wrong("expires_at", "Write a day, such as 2027-01-31.") from None


def _wrong(field: str, sentence: str) -> InvalidInput:
    return InvalidInput(sentence, errors=[{"field": field, "message": sentence}])

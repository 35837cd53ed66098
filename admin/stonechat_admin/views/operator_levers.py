"""What is done to one tenant from its page: suspended, resumed, noted, excepted, synchronised, deleted later."""

from __future__ import annotations

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
from stonechat_admin.forms import refused
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
    try:
        await levers.suspend_tenant(desk.session, desk.operator, tenant, database=desk.services.database, reason=reason)
    except InvalidInput as error:
        return _again(desk, "suspend", tenant_id, error, {"reason": reason})
    return desk.go(_back(tenant_id), toast="Suspended. Visitors are told within a second.")


@router.post(f"{PATH}/resume")
async def resume(tenant_id: str, desk: AtDesk, reason: Text = "") -> Response:
    tenant = tenant_of(tenant_id)
    try:
        await levers.resume_tenant(desk.session, desk.operator, tenant, database=desk.services.database, reason=reason)
    except InvalidInput as error:
        return _again(desk, "resume", tenant_id, error, {"reason": reason})
    return desk.go(_back(tenant_id), toast="Open again.")


@router.post(f"{PATH}/notes")
async def add_note(tenant_id: str, desk: AtDesk, text: Text = "") -> Response:
    tenant = await require_tenant(desk.session, tenant_of(tenant_id))
    try:
        await levers.add_note(desk.session, desk.operator, tenant.tenant_id, text=text)
    except InvalidInput as error:
        return _again(desk, "note", tenant_id, error, {"text": text}, about="text")
    return desk.go(_back(tenant_id), toast="Noted.")


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
    typed = {"field": field, "value": value, "reason": reason, "expires_at": expires_at}
    try:
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
    except InvalidInput as error:
        return _again(desk, "override", tenant_id, error, typed)
    return desk.go(_back(tenant_id), toast="The exception holds from the next question on.")


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
    try:
        await plans.put_on_plan(
            desk.session,
            desk.operator,
            tenant_of(tenant_id),
            database=desk.services.database,
            plan_key=plan_key.replace("\x00", ""),
            trial_days=int(trial_days) if trial_days.isdecimal() and len(trial_days) < 5 else 0,
            reason=reason,
        )
    except InvalidInput as error:
        if not desk.is_partial:
            return desk.go(_back(tenant_id), toast=str(error))
        typed = {"plan_key": plan_key, "trial_days": trial_days, "reason": reason}
        values: dict[str, Any] = {"tenant_id": tenant_id, "plans": await list_plans(desk.session)}
        form = refused(error, typed, about="reason")
        return desk.fragment("operator/tenants/_plan_form.html", status=422, form=form, **values)
    return desk.go(_back(tenant_id), toast="The plan holds from now on.")


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
    try:
        await levers.plan_deletion(
            desk.session,
            desk.operator,
            tenant_of(tenant_id),
            database=desk.services.database,
            reason=reason,
            days=int(days) if days.isdecimal() and len(days) < 4 else 0,
        )
    except InvalidInput as error:
        return _again(desk, "deletion", tenant_id, error, {"reason": reason, "days": days})
    desk.services.bulletin.forget()
    return desk.go(_back(tenant_id), toast="The deletion is planned. You can call it off until it is due.")


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


def _again(
    desk: Desk, name: str, tenant_id: str, error: InvalidInput, typed: dict[str, Any], *, about: str = "reason"
) -> Response:
    """The form once more, with what is wrong."""
    form = refused(error, typed, about=about)
    if not desk.is_partial:
        return desk.go(_back(tenant_id), toast=str(error))
    return desk.fragment(f"operator/tenants/_{name}_form.html", status=422, form=form, **_form_values(tenant_id))


def _form_values(tenant_id: str) -> dict[str, Any]:
    return {"tenant_id": tenant_id, "fields": FIELDS, "days": levers.DELETION_DAYS}


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

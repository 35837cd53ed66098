"""`/operator/announcements`, `flags`, `settings`, `operators`, `audit`: what holds for the whole platform."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Form, Query, Response

from stonechat import clock
from stonechat.billing.dunning import DEFAULT_GRACE_DAYS
from stonechat.errors import InvalidInput
from stonechat.operator import audit, bulletin, flags, operators, settings
from stonechat.operator.dismissal import disable_operator
from stonechat.operator.tenant import names_of
from stonechat.plans.catalog import list_plans
from stonechat.plans.platform_settings import list_settings
from stonechat_admin.forms import Filled, refused
from stonechat_admin.operator_auth import AtDesk, Desk
from stonechat_admin.operator_pages import csv_file, moment_of

router = APIRouter()

Text = Annotated[str, Form(max_length=10_000)]
Word = Annotated[str, Query(max_length=254)]
ANNOUNCEMENTS, FLAGS, SETTINGS = "/operator/announcements", "/operator/flags", "/operator/settings"
FRESH = Filled({"kind": "info", "title": "", "body": "", "starts_at": "", "ends_at": ""})


@router.get(ANNOUNCEMENTS)
async def show_announcements(desk: AtDesk, before: Word = "") -> Response:
    rows, more = await bulletin.list_announcements(desk.session, before=before)
    older = f"{ANNOUNCEMENTS}?{urlencode({'before': more})}" if more else None
    return desk.page("operator/platform/announcements.html", rows=rows, form=FRESH, now=clock.now(), more=older)


@router.get(f"{ANNOUNCEMENTS}/export")
async def export_announcements(desk: AtDesk) -> Response:
    headings = ("id", "kind", "title", "body", "starts_at", "ends_at", "created_by", "withdrawn_at")
    rows, _ = await bulletin.list_announcements(desk.session, limit=bulletin.MAX_EXPORTED)
    return csv_file(
        "announcements",
        headings,
        (
            (row.id, row.kind, row.title, row.body, row.starts_at, row.ends_at, row.created_by, row.withdrawn_at)
            for row in rows
        ),
    )


@router.post(ANNOUNCEMENTS)
async def announce(
    desk: AtDesk, kind: Text = "info", title: Text = "", body: Text = "", starts_at: Text = "", ends_at: Text = ""
) -> Response:
    typed = {"kind": kind, "title": title, "body": body, "starts_at": starts_at, "ends_at": ends_at}
    try:
        await bulletin.announce(
            desk.session,
            desk.operator,
            kind="warning" if kind == "warning" else "info",
            title=title,
            body=body,
            starts_at=_moment("starts_at", starts_at),
            ends_at=_moment("ends_at", ends_at),
        )
    except InvalidInput as error:
        form = refused(error, typed, about="title")
        return desk.fragment("operator/platform/_announcement_form.html", status=422, form=form)
    desk.services.bulletin.forget()
    return desk.go(ANNOUNCEMENTS, toast="Announced. Every console shows it within ten seconds of its beginning.")


@router.post(f"{ANNOUNCEMENTS}/{{announcement_id}}/withdraw")
async def withdraw(announcement_id: str, desk: AtDesk) -> Response:
    await bulletin.withdraw(desk.session, desk.operator, announcement_id=announcement_id)
    desk.services.bulletin.forget()
    return desk.go(ANNOUNCEMENTS, toast="Withdrawn.")


@router.get(FLAGS)
async def show_flags(desk: AtDesk) -> Response:
    listed = await flags.list_flags(desk.session)
    names = await names_of(desk.session, {tenant for flag in listed for tenant in flag.except_tenants})
    return desk.page("operator/platform/flags.html", flags=listed, names=names)


@router.get(f"{FLAGS}/export")
async def export_flags(desk: AtDesk) -> Response:
    headings = ("key", "is_on", "except_tenants", "updated_by", "updated_at")
    rows = await flags.list_flags(desk.session)
    return csv_file(
        "flags",
        headings,
        ((row.key, row.is_on, row.except_tenants, row.updated_by, row.updated_at) for row in rows),
    )


@router.post(f"{FLAGS}/{{key}}")
async def switch_flag(key: str, desk: AtDesk, is_on: Text = "", except_tenants: Text = "") -> Response:
    try:
        others = [UUID(part) for part in re.split(r"[\s,]+", except_tenants) if part]
    except ValueError:
        raise InvalidInput("Exceptions are the ids of tenants, one a line.") from None
    await flags.switch(desk.session, desk.operator, key=key, is_on=is_on == "on", except_tenants=others)
    desk.services.flags.forget()
    return desk.go(
        FLAGS, toast=f"{flags.KNOWN[key].label}: {'on' if is_on == 'on' else 'off'}. It holds within seconds."
    )


@router.get(SETTINGS)
async def show_settings(desk: AtDesk) -> Response:
    return desk.page("operator/platform/settings.html", **await _settings(desk, None))


@router.get(f"{SETTINGS}/export")
async def export_settings(desk: AtDesk) -> Response:
    held = await list_settings(desk.session)
    return csv_file("settings", ("key", "value"), sorted(held.items()))


@router.post(SETTINGS)
async def save_settings(
    desk: AtDesk,
    default_plan: Text = "",
    lapsed_plan: Text = "",
    billing: Text = "",
    grace_days: Text = "",
    billing_tax: Text = "",
) -> Response:
    sent = (default_plan, lapsed_plan, billing, grace_days, billing_tax)
    typed = dict(zip(settings.OFFERED, sent, strict=True))
    try:
        changed = await settings.change_settings(desk.session, desk.operator, changes=typed)
    except InvalidInput as error:
        values = await _settings(desk, refused(error, typed))
        return desk.fragment("operator/platform/_settings_form.html", status=422, **values)
    return desk.go(SETTINGS, toast="Saved." if changed else "Nothing changed.")


async def _settings(desk: Desk, form: Filled | None) -> dict[str, Any]:
    held = await list_settings(desk.session)
    return {
        "form": form or Filled(settings.as_typed(held)),
        "grace": DEFAULT_GRACE_DAYS,
        "plans": [(plan.key, plan.name) for plan in await list_plans(desk.session)],
        "stripe": desk.services.settings.stripe_secret_key is not None,
        "sign_up": desk.services.settings.sign_up,
    }


@router.get("/operator/operators")
async def show_operators(desk: AtDesk) -> Response:
    return desk.page("operator/platform/operators.html", rows=await operators.list_operators(desk.session))


@router.get("/operator/operators/export")
async def export_operators(desk: AtDesk) -> Response:
    headings = ("operator_id", "email", "name", "has_second_factor", "codes_left", "created_at", "disabled_at")
    rows = await operators.list_operators(desk.session)
    return csv_file(
        "operators",
        headings,
        (
            (
                row.operator_id,
                row.email,
                row.name,
                row.has_second_factor,
                row.codes_left,
                row.created_at,
                row.disabled_at,
            )
            for row in rows
        ),
    )


@router.post("/operator/operators/{operator_id}/disable")
async def end_rights(operator_id: str, desk: AtDesk) -> Response:
    await disable_operator(
        desk.session, desk.operator, database=desk.services.database, operator_id=operator_id.replace("\x00", "")
    )
    return desk.go("/operator/operators", toast="This operator’s rights have ended, and every look with them.")


@router.get("/operator/audit")
async def show_audit(desk: AtDesk, email: Word = "", action: Word = "", before: Word = "") -> Response:
    rows, more = await audit.list_entries(desk.session, email=email, action=action, before=before)
    asked = {"email": email, "action": action}
    return desk.page(
        "operator/platform/audit.html",
        rows=rows,
        names=await names_of(desk.session, {row.tenant_id for row in rows if row.tenant_id is not None}),
        email=email,
        action=action,
        filtered=bool(email or action),
        export=f"/operator/audit/export?{urlencode(asked)}",
        more=f"/operator/audit?{urlencode(asked | {'before': more})}" if more else None,
    )


@router.get("/operator/audit/export")
async def export_audit(desk: AtDesk, email: Word = "", action: Word = "") -> Response:
    rows, _ = await audit.list_entries(desk.session, email=email, action=action, limit=audit.MAX_EXPORTED)
    headings = ("audit_id", "occurred_at", "operator", "address", "action", "tenant_id", "subject", "reason", "detail")
    return csv_file(
        "operator-audit",
        headings,
        (
            (
                row.audit_id,
                row.occurred_at,
                row.operator_email,
                row.address,
                row.action,
                row.tenant_id,
                row.subject_id,
                row.reason,
                row.detail,
            )
            for row in rows
        ),
    )


def _moment(field: str, text: str) -> Any:
    try:
        moment = moment_of(text)
    except ValueError:
        sentence = "Write a day and a time."
        raise InvalidInput(sentence, errors=[{"field": field, "message": sentence}]) from None
    if moment is not None and moment > clock.now() + timedelta(days=3650):
        sentence = "This is too far away."
        raise InvalidInput(sentence, errors=[{"field": field, "message": sentence}])
    return moment

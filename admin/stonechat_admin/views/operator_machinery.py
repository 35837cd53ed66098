"""`/operator/jobs`, `/operator/events`, `/operator/mail`: what the machinery does, and giving it another chance."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response

from stonechat.api.dependencies import AppServices
from stonechat.errors import NotFound
from stonechat.operator import events, jobs, mails
from stonechat.operator.jobs import Status
from stonechat.operator.tenant import names_of
from stonechat_admin.operator_auth import AtDesk, Proven
from stonechat_admin.operator_pages import csv_file, here
from stonechat_admin.render import go

router = APIRouter()

Word = Annotated[str, Query(max_length=300)]
Typed = Annotated[str, Form(max_length=300)]
MAIL_STATES = ("queued", "sent", "failed")


@router.get("/operator/jobs")
async def show_jobs(desk: AtDesk, status: Word = "failed", kind: Word = "", before: Word = "") -> Response:
    chosen = _status(status)
    granted = await jobs.granted_tenants(desk.session, desk.operator)
    rows, more = await jobs.list_jobs(desk.session, status=chosen, kind=kind, before=_number(before), granted=granted)
    asked = {"status": chosen, "kind": kind}
    return desk.page(
        "operator/machinery/jobs.html",
        rows=rows,
        counts=await jobs.count_jobs(desk.session),
        names=await names_of(desk.session, {row.tenant_id for row in rows if row.tenant_id is not None}),
        chosen=chosen,
        kind=kind,
        before=before,
        words=jobs.STATUS_WORDS,
        export=f"/operator/jobs/export?{urlencode(asked)}",
        more=f"/operator/jobs?{urlencode(asked | {'before': more})}" if more else None,
    )


@router.get("/operator/jobs/export")
async def export_jobs(desk: AtDesk, status: Word = "failed", kind: Word = "") -> Response:
    rows, _ = await jobs.list_jobs(desk.session, status=_status(status), kind=kind, limit=jobs.MAX_EXPORTED)
    headings = ("job_id", "kind", "tenant_id", "status", "attempts", "created_at", "updated_at", "due_at", "problem")
    return csv_file(
        "jobs",
        headings,
        (
            (
                row.id,
                row.kind,
                row.tenant_id,
                row.status,
                row.attempts,
                row.created_at,
                row.updated_at,
                row.due_at,
                row.problem,
            )
            for row in rows
        ),
    )


@router.post("/operator/jobs/{job_id}/replay")
async def replay_job(job_id: str, desk: AtDesk, status: Typed = "", kind: Typed = "", before: Typed = "") -> Response:
    number = _number(job_id)
    if number is None:
        raise NotFound("There is no such job.")
    await jobs.replay_job(desk.session, desk.operator, database=desk.services.database, job_id=number)
    return desk.go(here("/operator/jobs", status=status, kind=kind, before=before), toast="The job is tried again.")


@router.get("/operator/events")
async def show_events(desk: AtDesk, state: Word = "", before: Word = "") -> Response:
    rows, more = await events.list_events(desk.session, state=state, before=before)
    return desk.page(
        "operator/machinery/events.html",
        rows=rows,
        counts=await events.count_events(desk.session),
        refused=await events.refused_today(desk.session),
        names=await names_of(desk.session, {row.tenant_id for row in rows if row.tenant_id is not None}),
        state=state,
        before=before,
        states=events.STATES,
        export=f"/operator/events/export?{urlencode({'state': state})}",
        more=f"/operator/events?{urlencode({'state': state, 'before': more})}" if more else None,
    )


@router.get("/operator/events/export")
async def export_events(desk: AtDesk, state: Word = "") -> Response:
    rows, _ = await events.list_events(desk.session, state=state, limit=events.MAX_EXPORTED)
    headings = ("event_id", "kind", "customer_id", "tenant_id", "state", "happened_at", "received_at", "error")
    return csv_file(
        "events",
        headings,
        (
            (
                row.event_id,
                row.kind,
                row.customer_id,
                row.tenant_id,
                row.state,
                row.happened_at,
                row.received_at,
                row.error,
            )
            for row in rows
        ),
    )


@router.post("/operator/events/{event_id}/replay")
async def replay_event(
    event_id: str, request: Request, services: AppServices, held: Proven, state: Typed = "", before: Typed = ""
) -> Response:
    if "\x00" in event_id:
        raise NotFound("There is no such event.")
    await events.replay(services.database, held.operator, event_id=event_id)
    return go(request, here("/operator/events", state=state, before=before), toast="The event is taken up again.")


@router.get("/operator/mail")
async def show_mails(desk: AtDesk, recipient: Word = "", state: Word = "", before: Word = "") -> Response:
    state = state if state in MAIL_STATES else ""
    rows, more = await mails.list_mails(desk.session, recipient=recipient, state=state, before=before)
    asked = {"recipient": recipient, "state": state}
    return desk.page(
        "operator/machinery/mail.html",
        rows=rows,
        names=await names_of(desk.session, {row.tenant_id for row in rows if row.tenant_id is not None}),
        recipient=recipient,
        state=state,
        states=MAIL_STATES,
        filtered=bool(recipient or state),
        export=f"/operator/mail/export?{urlencode(asked)}",
        more=f"/operator/mail?{urlencode(asked | {'before': more})}" if more else None,
    )


@router.get("/operator/mail/export")
async def export_mails(desk: AtDesk, recipient: Word = "", state: Word = "") -> Response:
    rows, _ = await mails.list_mails(desk.session, recipient=recipient, state=state, limit=mails.MAX_EXPORTED)
    headings = ("mail_id", "recipient", "subject", "tenant_id", "queued_at", "state", "attempts", "state_at", "problem")
    return csv_file(
        "mail",
        headings,
        (
            (
                row.mail_id,
                row.recipient,
                row.subject,
                row.tenant_id,
                row.queued_at,
                row.state,
                row.attempts,
                row.state_at,
                row.problem,
            )
            for row in rows
        ),
    )


def _status(status: str) -> Status:
    return status if status in jobs.STATUSES else "failed"


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 19 else None

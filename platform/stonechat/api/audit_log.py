"""`/api/v1/audit-log`: who did what to the tenant's configuration, and when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from starlette.responses import StreamingResponse

from stonechat.accounts.audit import AuditView, list_audit
from stonechat.accounts.audit_export import MAX_ENTRIES, Format, Wanted, export_audit
from stonechat.api.dependencies import ApiActor, AppServices, TenantSession
from stonechat.limits.addresses import limit_address
from stonechat.web import Cursor, Limit, Moment, Page

router = APIRouter(prefix="/audit-log", tags=["Audit log"], dependencies=[Depends(limit_address)])

_MEDIA: dict[Format, str] = {"csv": "text/csv", "jsonl": "application/x-ndjson"}


def wanted_entries(
    actor_id: Annotated[
        str | None, Query(max_length=128, description="A person's, an API key's or an operator's id.")
    ] = None,
    action: Annotated[
        str | None, Query(max_length=100, description="`<noun>.<verb>`, such as `agent.publish`, or a noun alone.")
    ] = None,
    since: Annotated[Moment | None, Query(description="From this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Up to this time.")] = None,
) -> Wanted:
    """The filters, all of which must fit."""
    return Wanted(actor_id, action, since, until)


Chosen = Annotated[Wanted, Depends(wanted_entries)]


@router.get("", summary="List what was done, newest first")
async def list_audit_log(
    actor: ApiActor, session: TenantSession, chosen: Chosen, limit: Limit = 20, cursor: Cursor = None
) -> Page[AuditView]:
    return await list_audit(
        session,
        actor,
        actor_id=chosen.actor_id,
        action=chosen.action,
        since=chosen.since,
        until=chosen.until,
        limit=limit,
        cursor=cursor,
    )


@router.get(
    "/export",
    summary="Export what was done, as CSV or as lines of JSON",
    description=f"Newest first, at most {MAX_ENTRIES:,} entries; for older ones set `until` to the time of the last.",
    response_class=Response,
    responses={200: {"content": {media: {"schema": {"type": "string"}} for media in _MEDIA.values()}}},
)
async def export_audit_log(
    actor: ApiActor,
    services: AppServices,
    chosen: Chosen,
    form: Annotated[Format, Query(alias="format")] = "csv",
) -> Response:
    pieces = export_audit(services.database, actor, wanted=chosen, form=form)
    headers = {"Content-Disposition": f'attachment; filename="audit-log.{form}"'}
    return StreamingResponse(pieces, media_type=_MEDIA[form], headers=headers)

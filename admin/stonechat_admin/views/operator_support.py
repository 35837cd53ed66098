"""Looking into a tenant: asked for on its page, entered, left, ended."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from stonechat.api.dependencies import AppServices
from stonechat.errors import InvalidInput, NotFound
from stonechat.operator import support
from stonechat.operator.sign_in import look_through
from stonechat.operator.tenant import require_tenant
from stonechat_admin.forms import refused
from stonechat_admin.operator_auth import AtDesk, Proven
from stonechat_admin.operator_pages import tenant_of
from stonechat_admin.render import go

router = APIRouter()

PATH = "/operator/tenants/{tenant_id}/grants"
Text = Annotated[str, Form(max_length=2000)]
Word = Annotated[str, Form(max_length=20)]


@router.post(PATH)
async def ask(tenant_id: str, desk: AtDesk, reason: Text = "", minutes: Word = "60", access: Word = "read") -> Response:
    tenant = await require_tenant(desk.session, tenant_of(tenant_id))
    back = f"/operator/tenants/{tenant.tenant_id}"
    try:
        grant = await support.ask_for_grant(
            desk.session,
            desk.operator,
            tenant.tenant_id,
            database=desk.services.database,
            reason=reason,
            minutes=int(minutes) if minutes.isdecimal() else 0,
            access="write" if access == "write" else "read",
        )
    except InvalidInput as error:
        form = refused(error, {"reason": reason, "minutes": minutes, "access": access}, about="reason")
        values: dict[str, Any] = {"tenant_id": str(tenant.tenant_id), "minutes": support.MINUTES}
        return desk.fragment("operator/tenants/_grant_form.html", status=422, form=form, **values)
    toast = "The look is open." if grant.state == "open" else "Asked. It opens when the tenant agrees."
    return desk.go(back, toast=toast)


@router.post(f"{PATH}/{{grant_id}}/enter")
async def enter(tenant_id: str, grant_id: str, request: Request, services: AppServices, held: Proven) -> Response:
    tenant = tenant_of(tenant_id)
    async with services.database.tenant(tenant) as session:
        found = await support.open_grant(session, tenant, grant_id=grant_id, operator_id=held.operator.operator_id)
    if found is None:
        raise NotFound("This look is not open, or not yours.")
    grant, _ = found
    await look_through(services.database, held, grant_id=grant.id, tenant_id=tenant)
    return go(request, "/console")


@router.post(f"{PATH}/{{grant_id}}/end")
async def end(tenant_id: str, grant_id: str, desk: AtDesk) -> Response:
    tenant = tenant_of(tenant_id)
    await support.end_grant(desk.session, desk.operator, tenant, database=desk.services.database, grant_id=grant_id)
    return desk.go(f"/operator/tenants/{tenant}", toast="The look is over.")


@router.post("/operator/support/leave")
async def leave(request: Request, services: AppServices, held: Proven) -> Response:
    """Back to the operators' room; the grant stays open until its end."""
    await look_through(services.database, held, grant_id=None, tenant_id=None)
    where = f"/operator/tenants/{held.grant_tenant_id}" if held.grant_tenant_id else "/operator/tenants"
    return go(request, where, toast="You are back in the operators’ room.")

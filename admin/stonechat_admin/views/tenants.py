"""`/console/tenants`: people who belong to several choose where to work."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response

from stonechat.accounts.sessions import choose_tenant, tenants_to_choose
from stonechat.api.dependencies import AppServices
from stonechat.errors import NotFound
from stonechat_admin.auth import SignedInPerson, Viewer
from stonechat_admin.render import go, page

router = APIRouter()


@router.get("/console/tenants")
async def show_tenants(request: Request, person: SignedInPerson, services: AppServices) -> Response:
    tenants = await tenants_to_choose(services.database, person.person_id)
    return page(request, "tenants/choose.html", tenants=tenants, person=person, csrf=person.csrf)


@router.get("/console/tenants/menu")
async def show_menu(console: Viewer) -> Response:
    tenants = await tenants_to_choose(console.services.database, console.signed_in.person_id)
    return console.fragment("tenants/_menu.html", tenants=tenants)


@router.post("/console/tenants")
async def choose(
    request: Request, person: SignedInPerson, services: AppServices, tenant: Annotated[str, Form()] = ""
) -> Response:
    try:
        tenant_id = UUID(tenant)
    except ValueError:
        raise NotFound("There is no such tenant.") from None
    await choose_tenant(services.database, person, tenant_id=tenant_id)
    return go(request, "/console")

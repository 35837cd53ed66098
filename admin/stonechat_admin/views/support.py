"""`/console/support`: looks by the platform's operators, and whether they must ask first."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response

from stonechat.operator import support
from stonechat_admin.auth import Admin, Console

router = APIRouter()

PATH = "/console/support"


@router.get(PATH)
async def show_support(console: Admin) -> Response:
    return console.page("support/page.html", **await _values(console))


@router.post(f"{PATH}/consent")
async def demand_consent(console: Admin, needed: Annotated[str, Form(max_length=10)] = "") -> Response:
    await support.demand_consent(console.session, console.actor, needed=needed == "yes")
    told = "Operators must ask you first from now on." if needed == "yes" else "Operators need not ask first."
    return console.go(PATH, toast=told)


@router.post(f"{PATH}/{{grant_id}}/agree")
async def agree(grant_id: str, console: Admin) -> Response:
    grant = await support.agree_to_grant(console.session, console.actor, grant_id=grant_id)
    return console.go(PATH, toast=f"{grant.operator_name} can look in for {grant.minutes} minutes.")


@router.post(f"{PATH}/{{grant_id}}/end")
async def end(grant_id: str, console: Admin) -> Response:
    await support.refuse_grant(console.session, console.actor, grant_id=grant_id)
    return console.go(PATH, toast="That is over.")


async def _values(console: Console) -> dict[str, Any]:
    grants = await support.list_grants(console.session, console.tenant_id)
    return {"grants": grants, "needed": await support.consent_needed(console.session, console.tenant_id)}

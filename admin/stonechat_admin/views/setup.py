"""`/setup`: a new owner follows the link from whoever made the tenant, and sets a password."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Response
from fastapi.responses import FileResponse

from stonechat.accounts.people import redeem_setup_token
from stonechat.api.dependencies import AppServices
from stonechat.errors import StonechatError
from stonechat.limits.addresses import limit_address
from stonechat_admin.render import HERE, page

router = APIRouter(include_in_schema=False, dependencies=[Depends(limit_address)])

MAX_TOKEN = 200
MAX_PASSWORD = 1000


@router.get("/setup")
async def show_setup(token: Annotated[str, Query(max_length=MAX_TOKEN)] = "") -> Response:
    return page("setup.html", token=token, error="" if token else "This link is incomplete. Copy all of it.")


@router.post("/setup")
async def set_up(
    services: AppServices,
    token: Annotated[str, Form(max_length=MAX_TOKEN)] = "",
    password: Annotated[str, Form(max_length=MAX_PASSWORD)] = "",
) -> Response:
    try:
        await redeem_setup_token(services.database, token, password=password)
    except StonechatError as error:
        return page("setup.html", status=error.status, token=token, error=str(error))
    return page("setup_done.html", public_url=services.settings.public_url)


@router.get("/console/setup.css")
async def style() -> Response:
    return FileResponse(HERE / "static" / "setup.css", media_type="text/css")

"""New people: by an invitation, or by signing up where that is open."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from stonechat.accounts.invitations import accept_as_newcomer, accept_invitation, find_invitation
from stonechat.accounts.sessions import SignedIn, choose_tenant, end_session, find_session, open_session
from stonechat.accounts.signing_up import sign_up
from stonechat.api.dependencies import AppServices, Services
from stonechat.errors import AlreadyExists, Forbidden, InvalidInput, SignInNeeded, SwitchedOff, TooManyAttempts
from stonechat_admin.auth import client_key, own_page
from stonechat_admin.cookies import session_token, set_session
from stonechat_admin.csrf import check_token
from stonechat_admin.forms import Filled, refused
from stonechat_admin.render import go, page

router = APIRouter()
OwnPage = [Depends(own_page)]

Text = Annotated[str, Form(max_length=1000)]


@router.get("/console/sign-up")
async def show_sign_up(request: Request, services: AppServices) -> Response:
    return _sign_up(request, services, Filled())


@router.post("/console/sign-up", dependencies=OwnPage)
async def make_account(
    request: Request,
    services: AppServices,
    company: Text = "",
    name: Text = "",
    email: Text = "",
    password: Text = "",
) -> Response:
    if services.settings.sign_up != "open":
        raise Forbidden("New accounts are made by invitation here.")
    typed = {"company": company, "name": name, "email": email, "password": ""}
    try:
        await services.flags.require("sign_up")
        made = await sign_up(
            services.database,
            company=company,
            name=name,
            email=email,
            password=password,
            address=client_key(request),
        )
    except (InvalidInput, AlreadyExists, TooManyAttempts, SwitchedOff) as error:
        return _sign_up(request, services, refused(error, typed), status=error.status)
    return await _signed_in(request, services, made.owner_id)


@router.get("/console/invitation")
async def show_invitation(
    request: Request, services: AppServices, token: Annotated[str, Query(max_length=200)] = ""
) -> Response:
    return await _invitation(request, services, token, Filled())


@router.post("/console/invitation", dependencies=OwnPage)
async def join(
    request: Request, services: AppServices, token: Text = "", name: Text = "", password: Text = ""
) -> Response:
    person = await _person(request, services)
    if person is not None:
        await check_token(request, person.csrf)
        tenant_id = await accept_invitation(services.database, token, person_id=person.person_id)
        await choose_tenant(services.database, person, tenant_id=tenant_id)
        return go(request, "/console", toast="Welcome.")
    try:
        _, person_id = await accept_as_newcomer(
            services.database,
            token,
            name=name,
            password=password,
            may_create=services.settings.sign_up != "closed",
        )
    except InvalidInput as error:
        form = refused(error, {"name": name, "password": ""}, about="password")
        return await _invitation(request, services, token, form, status=error.status)
    return await _signed_in(request, services, person_id)


async def _signed_in(request: Request, services: Services, person_id: str) -> Response:
    await end_session(services.database, session_token(request))
    token = await open_session(
        services.database,
        person_id,
        address=client_key(request),
        user_agent=request.headers.get("user-agent", ""),
    )
    response = go(request, "/console", toast="Welcome to Stonechat.")
    set_session(request, response, token)
    return response


async def _person(request: Request, services: Services) -> SignedIn | None:
    try:
        return await find_session(services.database, session_token(request))
    except SignInNeeded:
        return None


async def _invitation(request: Request, services: Services, token: str, form: Filled, *, status: int = 200) -> Response:
    invitation = await find_invitation(services.database, token)
    person = await _person(request, services)
    return page(
        request,
        "sign_in/invitation.html",
        status=status,
        invitation=invitation,
        person=person,
        token=token,
        form=form,
        csrf=person.csrf if person else "",
    )


def _sign_up(request: Request, services: Services, form: Filled, *, status: int = 200) -> Response:
    mode = services.settings.sign_up
    return page(request, "sign_in/sign_up.html", status=status, form=form, sign_up=mode)

"""Signing in and out, a forgotten password, and the link that sets one."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Query, Request, Response

from stonechat.accounts.people import redeem_setup_token
from stonechat.accounts.resets import request_reset
from stonechat.accounts.sessions import end_session, find_session, sign_in
from stonechat.api.dependencies import AppServices
from stonechat.errors import SignInNeeded, SignInRefused, StonechatError, TooManyAttempts
from stonechat_admin.auth import SignedInPerson, client_key, own_page
from stonechat_admin.cookies import clear_session, session_token, set_session
from stonechat_admin.forms import Filled, refused
from stonechat_admin.problems import safe_next
from stonechat_admin.render import go, page

router = APIRouter()
OwnPage = [Depends(own_page)]

Text = Annotated[str, Form(max_length=1000)]
Token = Annotated[str, Query(max_length=200)]


@router.get("/console/login")
async def show_login(request: Request, services: AppServices, next: str = "/console") -> Response:  # noqa: A002
    try:
        await find_session(services.database, session_token(request))
    except SignInNeeded:
        return _login(request, Filled({"email": ""}), next)
    return go(request, safe_next(next))


@router.post("/console/login", dependencies=OwnPage)
async def login(
    request: Request,
    services: AppServices,
    email: Text = "",
    password: Text = "",
    next: Text = "/console",  # noqa: A002
) -> Response:
    try:
        token = await sign_in(
            services.database,
            email,
            password=password,
            address=client_key(request),
            user_agent=request.headers.get("user-agent", ""),
        )
    except (SignInRefused, TooManyAttempts) as error:
        return _login(request, refused(error, {"email": email}), next, error=error)
    await end_session(services.database, session_token(request))
    response = go(request, safe_next(next))
    set_session(request, response, token)
    return response


@router.post("/console/logout")
async def logout(request: Request, services: AppServices, _person: SignedInPerson) -> Response:
    await end_session(services.database, session_token(request))
    response = go(request, "/console/login", toast="You are signed out.")
    clear_session(request, response)
    return response


@router.get("/console/forgot")
async def show_forgot(request: Request) -> Response:
    return page(request, "sign_in/forgot.html", form=Filled({"email": ""}), sent=False, mail_folder=False)


@router.post("/console/forgot", dependencies=OwnPage)
async def forgot(request: Request, services: AppServices, email: Text = "") -> Response:
    form, status, sent, headers = Filled({"email": email}), 200, True, {}
    try:
        await request_reset(services.database, email, address=client_key(request))
    except TooManyAttempts as error:
        form, status, sent, headers = refused(error, {"email": email}), error.status, False, error.headers
    folder = services.settings.smtp_url is None and not services.settings.is_production
    return page(
        request, "sign_in/forgot.html", status=status, headers=headers, form=form, sent=sent, mail_folder=folder
    )


@router.get("/setup")
async def show_setup(request: Request, token: Token = "") -> Response:
    form = Filled() if token else Filled(message="This link is incomplete. Copy all of it.")
    return page(request, "sign_in/setup.html", token=token, form=form)


@router.post("/setup", dependencies=OwnPage)
async def set_up(request: Request, services: AppServices, token: Text = "", password: Text = "") -> Response:
    try:
        await redeem_setup_token(services.database, token, password=password)
    except StonechatError as error:
        about = "password" if error.status == 422 else ""
        form = refused(error, {"password": ""}, about=about)
        return page(request, "sign_in/setup.html", status=error.status, token=token, form=form)
    return go(request, "/console/login", toast="Your password is set. Sign in with it.")


def _login(request: Request, form: Filled, next_page: str, *, error: StonechatError | None = None) -> Response:
    return page(
        request,
        "sign_in/login.html",
        status=error.status if error else 200,
        headers=error.headers if error else None,
        form=form,
        next=safe_next(next_page),
        sign_up=request.app.state.settings.sign_up,
    )

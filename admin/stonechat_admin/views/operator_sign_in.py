"""`/operator/login`: the password again, then a code; at the first sign-in, the phone is set up."""

from __future__ import annotations

import contextlib
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Form, Request, Response

from stonechat.accounts.sessions import find_session as find_console_session
from stonechat.api.dependencies import AppServices, Services
from stonechat.errors import OperatorSignInNeeded, SignInNeeded, SignInRefused, StonechatError, TooManyAttempts
from stonechat.operator import second_factor
from stonechat.operator.sign_in import (
    OperatorSession,
    end_session,
    enrolment_secret,
    find_session,
    prove_code,
    prove_password,
)
from stonechat_admin.auth import client_key, own_page
from stonechat_admin.cookies import OPERATOR, clear_cookie, read_cookie, session_token, set_cookie
from stonechat_admin.forms import Filled, refused
from stonechat_admin.operator_auth import Proven
from stonechat_admin.problems import safe_next
from stonechat_admin.render import go, page

router = APIRouter()
OwnPage = [Depends(own_page)]
HOME = "/operator"
COOKIE_SECONDS = 8 * 3600

Text = Annotated[str, Form(max_length=1000)]


@router.get("/operator/login")
async def show_login(request: Request, services: AppServices, next: str = HOME) -> Response:  # noqa: A002
    try:
        await find_session(services.database, read_cookie(request, OPERATOR), address=client_key(request))
    except OperatorSignInNeeded:
        email = ""
        with contextlib.suppress(SignInNeeded):  # who is at work in the console need not type the address again
            email = (await find_console_session(services.database, session_token(request))).email
        return _login(request, Filled({"email": email}), next)
    return go(request, safe_next(next, HOME))


@router.post("/operator/login", dependencies=OwnPage)
async def login(
    request: Request,
    services: AppServices,
    email: Text = "",
    password: Text = "",
    next: Text = HOME,  # noqa: A002
) -> Response:
    try:
        token = await prove_password(services.database, email, password=password, address=client_key(request))
    except (SignInRefused, TooManyAttempts) as error:
        return _login(request, refused(error, {"email": email}), next, error=error)
    response = go(request, f"/operator/code?next={quote(safe_next(next, HOME))}")
    set_cookie(request, response, OPERATOR, token, max_age=COOKIE_SECONDS)
    return response


@router.get("/operator/code")
async def show_code(request: Request, services: AppServices, next: str = HOME) -> Response:  # noqa: A002
    held = await _half_way(request, services)
    return await _code(request, services, held, Filled({"code": ""}), next)


@router.post("/operator/code", dependencies=OwnPage)
async def check_code(
    request: Request,
    services: AppServices,
    code: Text = "",
    next: Text = HOME,  # noqa: A002
) -> Response:
    held = await _half_way(request, services)
    try:
        token, codes = await prove_code(services.database, services.keyring, held, code=code)
    except (SignInRefused, TooManyAttempts) as error:
        form = refused(error, {"code": ""}, about="code")
        return await _code(request, services, held, form, next, error=error)
    onward = safe_next(next, HOME)
    response = page(request, "operator/codes.html", codes=codes, next=onward) if codes else go(request, onward)
    set_cookie(request, response, OPERATOR, token, max_age=COOKIE_SECONDS)
    return response


@router.post("/operator/logout")
async def logout(request: Request, services: AppServices, held: Proven) -> Response:
    await end_session(services.database, held)
    response = go(request, "/operator/login", toast="You are signed out.")
    clear_cookie(request, response, OPERATOR)
    return response


async def _half_way(request: Request, services: Services) -> OperatorSession:
    """Whoever has proved the password. Raises `OperatorSignInNeeded`."""
    token = read_cookie(request, OPERATOR)
    return await find_session(services.database, token, address=client_key(request), stage="password")


def _login(request: Request, form: Filled, next_page: str, *, error: StonechatError | None = None) -> Response:
    return page(
        request,
        "operator/login.html",
        status=error.status if error else 200,
        headers=error.headers if error else None,
        form=form,
        next=safe_next(next_page, HOME),
    )


async def _code(
    request: Request,
    services: Services,
    held: OperatorSession,
    form: Filled,
    next_page: str,
    *,
    error: StonechatError | None = None,
) -> Response:
    secret, qr = "", ""
    if not held.is_enrolled:
        secret = await enrolment_secret(services.database, services.keyring, held)
        qr = second_factor.picture(second_factor.enrolment_uri(secret, email=held.operator.email))
    return page(
        request,
        "operator/code.html",
        status=error.status if error else 200,
        headers=error.headers if error else None,
        form=form,
        next=safe_next(next_page, HOME),
        secret=secret,
        qr=qr,
    )

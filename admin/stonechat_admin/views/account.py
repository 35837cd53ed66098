"""`/console/account`: the person's own password and sessions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Response

from stonechat.accounts import sessions
from stonechat.errors import InvalidInput, TooManyAttempts
from stonechat_admin.auth import Console, Viewer, client_key
from stonechat_admin.cookies import set_session
from stonechat_admin.forms import Filled, refused

router = APIRouter()


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)


def browser_name(user_agent: str) -> str:
    """What a person would call it, such as `Firefox on Windows`."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "A browser")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser


async def _page(console: Console, form: Filled, *, status: int = 200) -> Response:
    held = await sessions.list_sessions(console.services.database, console.signed_in)
    return console.page("account/page.html", status=status, form=form, sessions=held, browser_name=browser_name)


@router.get("/console/account")
async def show_account(console: Viewer) -> Response:
    return await _page(console, Filled())


@router.post("/console/account/password")
async def change_password(
    console: Viewer, current: Annotated[str, Form()] = "", password: Annotated[str, Form()] = ""
) -> Response:
    try:
        token = await sessions.change_password(
            console.services.database,
            console.signed_in,
            current=current,
            password=password,
            address=client_key(console.request),
            user_agent=console.request.headers.get("user-agent", ""),
        )
    except (InvalidInput, TooManyAttempts) as error:
        form = refused(error, {"current": "", "password": ""}, about="password")
        return await _page(console, form, status=error.status)
    response = console.go("/console/account", toast="Your password was changed. Your other sessions ended.")
    set_session(console.request, response, token)
    return response


@router.post("/console/account/sessions/end")
async def end_others(console: Viewer) -> Response:
    await sessions.end_sessions(console.services.database, console.signed_in)
    return console.go("/console/account", toast="You are signed out everywhere else.")


@router.post("/console/account/sessions/{session_id}/end")
async def end_one(session_id: str, console: Viewer) -> Response:
    await sessions.end_sessions(console.services.database, console.signed_in, session_id=session_id)
    return console.go("/console/account", toast="That session ended.")

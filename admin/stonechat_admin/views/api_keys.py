"""`/console/api-keys`: keys for scripts that manage this tenant."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response

from stonechat.accounts import api_keys
from stonechat.errors import InvalidInput
from stonechat_admin.auth import Admin, Console
from stonechat_admin.forms import Filled, refused

router = APIRouter()

SCOPES = [
    ("read", "Read", "See agents, knowledge and conversations."),
    ("write", "Write", "And change agents, knowledge and the keys of sites."),
    ("admin", "Admin", "And manage members and API keys. Give this to nothing that does not need it."),
]
EMPTY = Filled({"name": "", "scopes": "read"})


async def _values(console: Console, form: Filled = EMPTY) -> dict[str, Any]:
    """What the page and its parts are drawn from."""
    keys = await api_keys.list_api_keys(console.session, console.actor)
    return {"keys": keys, "form": form, "scope_choices": SCOPES}


@router.get("/console/api-keys")
async def show_api_keys(console: Admin) -> Response:
    return console.page("api_keys/page.html", **await _values(console))


@router.post("/console/api-keys")
async def create_api_key(
    console: Admin, name: Annotated[str, Form()] = "", scopes: Annotated[str, Form()] = ""
) -> Response:
    try:
        async with console.session.begin_nested():  # what a refused form began is undone
            _, secret = await api_keys.create_api_key(
                console.session, console.actor, name=name, scopes=[scopes] if scopes else []
            )
    except InvalidInput as error:
        form = refused(error, {"name": name, "scopes": scopes}, about="name" if scopes else "scopes")
        return console.fragment("api_keys/_form.html", status=422, form=form, scope_choices=SCOPES)
    return console.fragment(
        "api_keys/_created.html", secret=secret, close=True, show="api-key-created", **await _values(console)
    )


@router.delete("/console/api-keys/{api_key_id}")
async def revoke_api_key(api_key_id: str, console: Admin) -> Response:
    await api_keys.revoke_api_key(console.session, console.actor, api_key_id=api_key_id)
    return console.fragment("api_keys/_list.html", toast="The key was revoked.", **await _values(console))

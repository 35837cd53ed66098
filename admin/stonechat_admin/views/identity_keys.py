"""`/console/identity-keys`: with which the customer's own server says who a visitor is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat.errors import AlreadyExists, InvalidInput
from stonechat.identity.identity_keys import (
    MAX_IDENTITY_KEYS,
    NewPemKey,
    NewSecretKey,
    create_identity_key,
    list_identity_keys,
    retire_identity_key,
)
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled, refused

router = APIRouter()

EMPTY = Filled({"public_key": "", "kid": ""})
LANGUAGES = [("node", "Node"), ("python", "Python"), ("php", "PHP"), ("ruby", "Ruby")]
SECRET_VARIABLE = "STONECHAT_IDENTITY_SECRET"


async def _values(console: Console, *, kid: str = "", form: Filled = EMPTY) -> dict[str, Any]:
    """What the page and its parts are drawn from. The snippets name the key `kid`, or else the newest shared secret."""
    keys = (await list_identity_keys(console.session, console.actor, limit=MAX_IDENTITY_KEYS)).data
    shared = [key.kid for key in keys if key.kind == "hs256"]
    return {
        "keys": keys,
        "form": form,
        "shared": shared,
        "kid": kid if kid in shared else next(iter(shared), ""),
        "languages": LANGUAGES,
        "variable": SECRET_VARIABLE,
    }


@router.get("/console/identity-keys")
async def show_identity_keys(console: Viewer, kid: Annotated[str, Query(max_length=128)] = "") -> Response:
    return console.page("identity_keys/page.html", **await _values(console, kid=kid))


@router.post("/console/identity-keys")
async def make_shared_secret(console: Editor) -> Response:
    made = await create_identity_key(
        console.session, console.actor, keyring=console.services.keyring, new=NewSecretKey(kind="hs256")
    )
    return console.fragment(
        "identity_keys/_created.html", made=made, show="identity-key-created", **await _values(console, kid=made.kid)
    )


@router.post("/console/identity-keys/public")
async def add_public_key(
    console: Editor,
    public_key: Annotated[str, Form(max_length=20_000)] = "",
    kid: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    typed = {"public_key": public_key, "kid": kid}
    try:
        new = NewPemKey(kind="pem", public_key=public_key.strip(), kid=kid.strip() or None)
        async with console.session.begin_nested():
            made = await create_identity_key(console.session, console.actor, keyring=console.services.keyring, new=new)
    except ValidationError as error:
        form = Filled(typed, _complaints(error))
    except (InvalidInput, AlreadyExists) as error:
        form = refused(error, typed, about="kid" if isinstance(error, AlreadyExists) else "public_key")
    else:
        return console.fragment(
            "identity_keys/_added.html",
            toast=f"Tokens signed with the key {made.kid} are accepted now.",
            close=True,
            **await _values(console),
        )
    return console.fragment("identity_keys/_form.html", status=422, form=form)


@router.delete("/console/identity-keys/{identity_key_id}")
async def retire(identity_key_id: str, console: Editor) -> Response:
    await retire_identity_key(console.session, console.actor, identity_key_id=identity_key_id)
    return console.fragment(
        "identity_keys/_keys.html", toast="The key was retired. Nothing it signs is accepted.", **await _values(console)
    )


def _complaints(error: ValidationError) -> dict[str, str]:
    at_fault = {fault["loc"][0] for fault in error.errors()}
    sentences = {
        "public_key": "Paste the whole public key, from “-----BEGIN PUBLIC KEY-----” to the last line. It has at most "
        "8,192 characters.",
        "kid": "A name has up to 128 letters, digits, dots and hyphens, and no spaces.",
    }
    return {name: sentence for name, sentence in sentences.items() if name in at_fault}

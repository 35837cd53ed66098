"""`/console/secrets`: values that tools send along, such as the key of a shop's API. They go in and are never shown."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Response

from stonechat.accounts import secrets
from stonechat.accounts.secrets import MAX_NAME_LENGTH, MAX_VALUE_LENGTH, SecretView
from stonechat.assistant.agents import list_agents, live_versions
from stonechat.errors import Conflict, InvalidInput, NotFound
from stonechat_admin.agent_tool_words import secrets_of
from stonechat_admin.auth import Admin, Console, Editor, Viewer
from stonechat_admin.forms import Filled, refused

router = APIRouter(prefix="/console/secrets")

EMPTY = Filled({"name": "", "value": ""})
AT_ONCE = 100
"""Agents that are read at once."""
Name = Annotated[str, Form(max_length=10 * MAX_NAME_LENGTH)]
Value = Annotated[str, Form(max_length=2 * MAX_VALUE_LENGTH)]


@router.get("")
async def show_secrets(console: Viewer) -> Response:
    return console.page("tenant_secrets/page.html", **await _values(console))


@router.post("")
async def add_secret(console: Editor, name: Name = "", value: Value = "") -> Response:
    stored = {each.name for each in await secrets.list_secrets(console.session, console.actor)}
    name = name.strip()
    try:
        if name in stored:
            message = "There is one of this name. Replace its value in the list, or choose another name."
            raise InvalidInput(message, errors=[{"field": "name", "message": message}])
        made = await _put(console, name, value)
    except (InvalidInput, Conflict) as error:
        form = _refused(error, {"name": name, "value": ""})
        if console.is_partial:
            return console.fragment("tenant_secrets/_form.html", status=422, form=form)
        return console.page("tenant_secrets/page.html", status=422, **await _values(console, form))
    told = f"“{made.name}” is kept. Choose it where a tool needs it."
    if not console.is_partial:
        return console.go("/console/secrets", toast=told)
    return console.fragment("tenant_secrets/_added.html", toast=told, close=True, **await _values(console))


@router.get("/{secret_id}")
async def show_replace(secret_id: str, console: Editor) -> Response:
    secret = await _find(console, secret_id)
    if console.is_partial:
        return console.fragment("tenant_secrets/_replace.html", show="replace-secret", secret=secret, form=EMPTY)
    return console.page("tenant_secrets/replace.html", secret=secret, form=EMPTY)


@router.post("/{secret_id}")
async def replace_secret(secret_id: str, console: Editor, value: Value = "") -> Response:
    secret = await _find(console, secret_id)
    try:
        await _put(console, secret.name, value)
    except InvalidInput as error:
        form = _refused(error, {"value": ""})
        if console.is_partial:
            return console.fragment("tenant_secrets/_replace_form.html", status=422, secret=secret, form=form)
        return console.page("tenant_secrets/replace.html", status=422, secret=secret, form=form)
    return console.go("/console/secrets", toast=f"Tools send the new value of “{secret.name}” from now on.")


@router.post("/{secret_id}/delete")
async def delete_secret(secret_id: str, console: Admin) -> Response:
    secret = await _find(console, secret_id)
    await secrets.delete_secret(console.session, console.actor, secret_id=secret_id)
    told = f"“{secret.name}” is deleted."
    if not console.is_partial:
        return console.go("/console/secrets", toast=told)
    return console.fragment("tenant_secrets/_list.html", toast=told, **await _values(console))


async def _put(console: Console, name: str, value: str) -> SecretView:
    async with console.session.begin_nested():
        return await secrets.put_secret(
            console.session, console.actor, keyring=console.services.keyring, name=name, value=value.strip()
        )


def _refused(error: InvalidInput | Conflict, typed: dict[str, str]) -> Filled:
    """The form again, without the value: what is secret does not travel back."""
    form = refused(error, typed)
    if "value" in form.errors or "value" not in typed:
        return form
    return Filled(typed, {**form.errors, "value": "Paste the value once more: it was not kept."}, form.message)


async def _find(console: Console, secret_id: str) -> SecretView:
    for secret in await secrets.list_secrets(console.session, console.actor):
        if secret.id == secret_id:
            return secret
    raise NotFound("There is no such secret.")


async def _values(console: Console, form: Filled = EMPTY) -> dict[str, Any]:
    return {
        "secrets": await secrets.list_secrets(console.session, console.actor),
        "used": await used_secrets(console),
        "form": form,
    }


async def used_secrets(console: Console) -> dict[str, list[str]]:
    """Which agents name a secret, in their drafts or in what visitors meet: their names, by the secret's."""
    used: dict[str, list[str]] = {}
    cursor: str | None = None
    while True:
        page = await list_agents(console.session, console.actor, limit=AT_ONCE, cursor=cursor)
        live = await live_versions(console.session, console.actor, agent_ids=[agent.id for agent in page.data])
        for agent in page.data:
            names = secrets_of(agent.draft.tools)
            if agent.id in live:
                names |= secrets_of(live[agent.id].config.tools)
            for name in sorted(names):
                used.setdefault(name, []).append(agent.name)
        cursor = page.next_cursor
        if cursor is None:
            return used

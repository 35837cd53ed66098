"""`/console/model-providers`: where the models are that write answers, and the keys to them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response

from stonechat.accounts.actor import Actor
from stonechat.api.dependencies import AppServices
from stonechat.assistant.agents import list_agents
from stonechat.errors import AlreadyExists, Conflict, InvalidInput, TargetNotAllowed, Unavailable
from stonechat.providers.check import check_provider
from stonechat.providers.presets import PRESETS, preset_of
from stonechat.providers.service import (
    MAX_KEY_LENGTH,
    MAX_URL_LENGTH,
    create_provider,
    delete_provider,
    get_provider,
    list_providers,
    update_provider_key,
)
from stonechat_admin.auth import Admin, Console, Editor, Viewer, Worker, require
from stonechat_admin.forms import Filled, refused
from stonechat_admin.render import fragment

router = APIRouter()

KINDS: list[tuple[str, str, str]] = [
    ("openai", "OpenAI", "With a key from platform.openai.com. It has its own bill there."),
    *((preset.id, preset.label, preset.hint) for preset in PRESETS.values()),
    (
        "openai_compatible",
        "Another provider",
        "Whoever offers an “OpenAI-compatible” address: OpenRouter, Groq, and many more.",
    ),
]
ADDRESSES = [
    *((preset.address_example, preset.label) for preset in PRESETS.values() if preset.private),
    ("https://openrouter.ai/api/v1", "OpenRouter"),
    ("https://api.groq.com/openai/v1", "Groq"),
]
EMPTY = Filled({"kind": "openai", "name": "", "base_url": "", "api_key": ""})

Key = Annotated[str, Form(max_length=2 * MAX_KEY_LENGTH)]


async def _values(console: Console, *, form: Filled = EMPTY) -> dict[str, Any]:
    """What the page and its parts are drawn from. `used` says which agents' drafts name a provider."""
    providers = await list_providers(console.session, console.actor)
    used: dict[str, list[str]] = {}
    for agent in (await list_agents(console.session, console.actor, limit=100)).data:
        used.setdefault(agent.draft.model.partition("/")[0], []).append(agent.name)
    return {
        "providers": providers,
        "used": used,
        "form": form,
        "kinds": KINDS,
        "addresses": ADDRESSES,
        "ours": console.services.settings.openai_api_key is not None,
    }


@router.get("/console/model-providers")
async def show_providers(console: Viewer) -> Response:
    return console.page("model_providers/page.html", **await _values(console))


@router.post("/console/model-providers")
async def add_provider(
    console: Editor,
    kind: Annotated[str, Form(max_length=40)] = "",
    name: Annotated[str, Form(max_length=200)] = "",
    base_url: Annotated[str, Form(max_length=2 * MAX_URL_LENGTH)] = "",
    api_key: Key = "",
) -> Response:
    typed = {"kind": kind, "name": name, "base_url": base_url, "api_key": ""}
    preset = preset_of(kind, None)
    # What was typed into a field that the choice does not show is not meant.
    asks_address = kind == "openai_compatible" or (preset is not None and preset.private)
    called = name.strip() or (kind if kind != "openai_compatible" else "")
    services = console.services
    try:
        if kind not in {value for value, _, _ in KINDS}:
            raise InvalidInput("Choose one.", errors=[{"field": "kind", "message": "Choose one of these."}])
        async with console.session.begin_nested():
            made = await create_provider(
                console.session,
                console.actor,
                keyring=services.keyring,
                name=called,
                kind="openai" if kind == "openai" else "openai_compatible",
                api_key=api_key.strip() or None,
                base_url=(base_url.strip() or None) if asks_address else None,
                preset=preset.id if preset is not None else None,
            )
            if made.base_url is not None:
                await services.outbound.check(made.base_url, allow_http=bool(services.settings.outbound_networks))
    except AlreadyExists as error:
        form = refused(error, typed, about="name")
    except (TargetNotAllowed, Unavailable) as error:
        form = refused(error, typed, about="base_url")
    except (InvalidInput, Conflict) as error:
        form = refused(error, typed)
    else:
        return console.fragment(
            "model_providers/_added.html",
            toast=f"{made.name} was added. Test the connection, then choose one of its models for an agent.",
            close=True,
            **await _values(console),
        )
    if api_key.strip() and "api_key" not in form.errors:
        form = replace(form, errors={**form.errors, "api_key": "Paste the key once more: it was not kept."})
    return console.fragment("model_providers/_form.html", status=422, form=form, kinds=KINDS, addresses=ADDRESSES)


@router.get("/console/model-providers/{provider_id}/key")
async def show_key_form(provider_id: str, console: Editor) -> Response:
    provider = await get_provider(console.session, console.actor, provider_id=provider_id)
    return console.fragment("model_providers/_key.html", show="provider-key", provider=provider, form=EMPTY)


@router.post("/console/model-providers/{provider_id}/key")
async def replace_key(provider_id: str, console: Editor, api_key: Key = "") -> Response:
    try:
        async with console.session.begin_nested():
            provider = await update_provider_key(
                console.session,
                console.actor,
                keyring=console.services.keyring,
                provider_id=provider_id,
                api_key=api_key.strip(),
            )
    except InvalidInput as error:
        provider = await get_provider(console.session, console.actor, provider_id=provider_id)
        form = refused(error, {"api_key": ""})
        return console.fragment("model_providers/_key_form.html", status=422, provider=provider, form=form)
    return console.go("/console/model-providers", toast=f"{provider.name} is asked with the new key from now on.")


@router.delete("/console/model-providers/{provider_id}")
async def delete(provider_id: str, console: Admin) -> Response:
    await delete_provider(console.session, console.actor, provider_id=provider_id)
    return console.fragment(
        "model_providers/_list.html", toast="The provider and its key were deleted.", **await _values(console)
    )


async def _editor(request: Request, services: AppServices, who: Worker) -> Actor:
    """Who asks, in a transaction that ends here: a provider may take seconds to answer, and holds up nobody meanwhile."""
    async with asynccontextmanager(require("editor"))(request, services, who) as console:
        return console.actor


@router.post("/console/model-providers/{provider_id}/test")
async def test(
    provider_id: str, request: Request, services: AppServices, actor: Annotated[Actor, Depends(_editor)]
) -> Response:
    tested = await check_provider(
        services.database,
        actor,
        keyring=services.keyring,
        provider_id=provider_id,
        outbound=services.outbound,
        allow_http=bool(services.settings.outbound_networks),
    )
    return fragment(request, "model_providers/_tested.html", tested=tested)

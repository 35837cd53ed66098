"""`/console/install`: the line for the customer's pages, the web sites where it works, and whether it was seen there."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Response
from pydantic import ValidationError

from stonechat.assistant.agents import AgentView, get_agent, list_agents
from stonechat.errors import InvalidInput
from stonechat.identity import domain_keys
from stonechat.identity.domain_keys import DomainKeyPatch, DomainKeyView, NewDomainKey
from stonechat.identity.origins import MAX_ORIGIN_CHARACTERS, Environment, normalise_origin
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled
from stonechat_admin.stock import stock_state

router = APIRouter()

ENVIRONMENTS: list[tuple[Environment, str, str]] = [
    ("production", "Live", "Your real site, for everybody. Needs https."),
    ("staging", "Rehearsal", "A copy of your site where you try things. Needs https."),
    ("development", "Workshop", "Your own computer. Plain http is fine."),
]
SNIPPETS = [
    ("html", "Plain HTML"),
    ("wordpress", "WordPress"),
    ("shopify", "Shopify"),
    ("gtm", "Tag Manager"),
    ("react", "React"),
]
ROWS = 100
WATCHED = 5
"""Keys of a page that ask whether they were seen: the newest that were not. More would eat up the address's own limit."""

Text = Annotated[str, Form(max_length=1000)]
Sites = Annotated[list[str], Form(max_length=200)]


@router.get("/console/install")
async def show_install(console: Viewer, agent: Annotated[str, Query(max_length=100)] = "") -> Response:
    agents = (await list_agents(console.session, console.actor, limit=ROWS)).data
    if agent and all(agent != known.id for known in agents):
        agents = [await get_agent(console.session, console.actor, agent_id=agent), *agents]
    chosen = next((known for known in agents if known.id == agent), agents[0] if agents else None)
    keys = []
    if chosen is not None:
        keys = (await domain_keys.list_domain_keys(console.session, console.actor, agent_id=chosen.id, limit=ROWS)).data
    stock = await stock_state(console, chosen, keys) if chosen is not None else None
    return console.page("install/page.html", agents=agents, stock=stock, **_values(console, chosen, keys))


@router.post("/console/install/{agent_id}/keys")
async def create_key(
    agent_id: str,
    console: Editor,
    name: Text = "",
    environment: Text = "production",
    site: Sites = [],  # noqa: B006  FastAPI copies it
    openai_domain_key: Text = "",
) -> Response:
    typed = _typed(name, environment, site, openai_domain_key)
    agent = await get_agent(console.session, console.actor, agent_id=agent_id)
    try:
        new = NewDomainKey(**_cleaned(typed))
        async with console.session.begin_nested():
            await domain_keys.create_domain_key(console.session, console.actor, agent_id=agent_id, new=new)
    except (ValidationError, InvalidInput) as error:
        return _refused(console, agent, None, typed, error)
    return console.go(_page_of(agent_id), toast="The key is made. Now put the line below on your site.")


@router.get("/console/install/{agent_id}/keys/{key_id}")
async def show_key_form(agent_id: str, key_id: str, console: Editor) -> Response:
    agent = await get_agent(console.session, console.actor, agent_id=agent_id)
    key = await _load(console, agent_id, key_id)
    form = Filled(_typed(key.name, key.environment, key.origins, key.openai_domain_key or ""))
    return console.fragment(
        "install/_edit.html", show="edit-key", form=form, site_errors={}, key=key, **_values(console, agent, [])
    )


@router.post("/console/install/{agent_id}/keys/{key_id}")
async def change_key(
    agent_id: str,
    key_id: str,
    console: Editor,
    name: Text = "",
    environment: Text = "",
    site: Sites = [],  # noqa: B006  FastAPI copies it
    openai_domain_key: Text = "",
    seen: Annotated[str, Form(max_length=100)] = "",
) -> Response:
    typed = _typed(name, environment, site, openai_domain_key)
    agent = await get_agent(console.session, console.actor, agent_id=agent_id)
    key = await _load(console, agent_id, key_id)
    cleaned = _cleaned(typed)
    present = {**_typed(key.name, key.environment, key.origins, ""), "openai_domain_key": key.openai_domain_key}
    changes = {
        name: value for name, value in cleaned.items() if value != present["sites" if name == "origins" else name]
    }
    if not changes:
        return console.go(_page_of(agent_id), toast="It is saved like this already.")
    if seen and seen != stamp(key):
        sites = ", ".join(key.origins) or "none"
        message = (
            f"Somebody changed this key while you had it open. Its web sites now: {sites}. Save again to replace them."
        )
        form = Filled(typed, {}, message)
        return _form(console, agent, key, form, {})
    try:
        patch = DomainKeyPatch(**changes)
        async with console.session.begin_nested():
            await domain_keys.patch_domain_key(
                console.session, console.actor, agent_id=agent_id, domain_key_id=key_id, patch=patch
            )
    except (ValidationError, InvalidInput) as error:
        return _refused(console, agent, key, typed, error)
    return console.go(_page_of(agent_id), toast="Saved. It holds within a few seconds.")


@router.post("/console/install/{agent_id}/keys/{key_id}/rotate")
async def rotate_key(agent_id: str, key_id: str, console: Editor) -> Response:
    await domain_keys.rotate_domain_key(console.session, console.actor, agent_id=agent_id, domain_key_id=key_id)
    toast = "There is a second key now. Put it on your pages, then revoke the first: until then both work."
    return console.go(_page_of(agent_id), toast=toast)


@router.delete("/console/install/{agent_id}/keys/{key_id}")
async def revoke_key(agent_id: str, key_id: str, console: Editor) -> Response:
    await domain_keys.revoke_domain_key(console.session, console.actor, agent_id=agent_id, domain_key_id=key_id)
    return console.go(_page_of(agent_id), toast="The key was revoked. Pages that still carry it show no chat.")


@router.get("/console/install/{agent_id}/keys/{key_id}/seen")
async def show_seen(agent_id: str, key_id: str, console: Viewer) -> Response:
    """Asked every few seconds while a key was not seen yet."""
    key = await _load(console, agent_id, key_id)
    toast = f"There it is: {key.last_seen_origin or 'a page'} shows the chat." if key.last_seen_at else None
    return console.fragment("install/_seen.html", toast=toast, key=key, watched=[key.id])


def stamp(key: DomainKeyView) -> str:
    """What the form saw, so that it notices when somebody else was faster."""
    settings = [key.name, key.environment, key.openai_domain_key, *key.origins]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:32]


def read_site(text: str) -> str:
    """The address of a web site from what people paste: a name alone, or the address of one of its pages."""
    text = text.strip()
    if "://" not in text and re.fullmatch(r"[^\s/?#@]+\.[^\s/?#@]+(/\S*)?", text):
        text = f"https://{text}"
    return re.sub(r"^([A-Za-z]+://[^/?#\s]+)[/?#]\S*$", r"\1", text)


async def _load(console: Console, agent_id: str, key_id: str) -> DomainKeyView:
    return await domain_keys.get_domain_key(console.session, console.actor, agent_id=agent_id, domain_key_id=key_id)


def _page_of(agent_id: str) -> str:
    """Without a fragment: going to the address that is shown already would only scroll."""
    return f"/console/install?agent={agent_id}"


def _typed(name: str, environment: str, sites: list[str], openai_domain_key: str) -> dict[str, Any]:
    return {
        "name": name,
        "environment": environment,
        "sites": [site[:1000] for site in sites if site.strip()],
        "openai_domain_key": openai_domain_key,
    }


def _cleaned(typed: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": typed["name"].strip(),
        "environment": typed["environment"],
        "origins": [read_site(site) for site in typed["sites"]],
        "openai_domain_key": typed["openai_domain_key"].strip() or None,
    }


def _refused(
    console: Console, agent: AgentView, key: DomainKeyView | None, typed: dict[str, Any], error: Exception
) -> Response:
    errors: dict[str, str] = {}
    message = ""
    if isinstance(error, ValidationError):
        sentences = {
            "name": "Give it a name of up to 200 characters, such as “Our shop”.",
            "environment": "Choose one of these.",
            "origins": "A key takes at most 100 web sites.",
            "openai_domain_key": "Copy it from OpenAI again: it has letters, digits, hyphens and underscores only.",
        }
        at_fault = {str(fault["loc"][0]) for fault in error.errors()}
        errors = {field: sentence for field, sentence in sentences.items() if field in at_fault}
        message = errors.pop("origins", "")
    site_errors = _complaints(typed)
    if not errors and not site_errors:
        message = message or str(error)
    return _form(console, agent, key, Filled(typed, errors, message), site_errors)


def _complaints(typed: dict[str, Any]) -> dict[int, str]:
    """What is wrong with each web site, in the words of people who do not say “origin”."""
    environment = typed["environment"]
    if environment not in {value for value, _, _ in ENVIRONMENTS}:
        return {}
    found = {}
    for place, site in enumerate(typed["sites"]):
        try:
            normalise_origin(read_site(site), environment=cast("Environment", environment))
        except InvalidInput as error:
            sentence = str(error).replace("An origin", "An address").replace("an origin", "an address")
            found[place] = sentence.replace("keys of a development environment", "keys for the workshop")
    return found


def _form(
    console: Console, agent: AgentView, key: DomainKeyView | None, form: Filled, site_errors: dict[int, str]
) -> Response:
    values = _values(console, agent, [])
    return console.fragment(
        "install/_form.html", status=422, **{**values, "key": key, "form": form, "site_errors": site_errors}
    )


def _values(console: Console, agent: AgentView | None, keys: list[DomainKeyView]) -> dict[str, Any]:
    """What the page and its parts are drawn from."""
    return {
        "agent": agent,
        "keys": keys,
        "watched": [key.id for key in keys if key.last_seen_at is None][:WATCHED],
        "public_host": urlsplit(console.services.settings.public_url).hostname,
        "public_url": console.services.settings.public_url,
        "loader": console.services.assets.loader,
        "environments": ENVIRONMENTS,
        "environment_names": {value: label for value, label, _ in ENVIRONMENTS},
        "snippets": SNIPPETS,
        "stamp": stamp,
        "longest": MAX_ORIGIN_CHARACTERS,
        "blank": Filled(_typed("", "production", [], "")),
    }

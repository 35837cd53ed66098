"""What every page about one agent shows: the agent, what visitors meet, and what differs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from fastapi import Response
from starlette.datastructures import FormData

from stonechat.assistant import agents
from stonechat.assistant.agents import AgentVersionView, AgentView
from stonechat.assistant.config import AgentConfig, merge_patch, parse_config
from stonechat.embed.look import ICONS as DRAWINGS
from stonechat.errors import EditConflict, InvalidInput
from stonechat.providers.service import list_providers
from stonechat_admin import agent_rules
from stonechat_admin.agent_changes import Change, config_changes
from stonechat_admin.agent_form import (
    ACCENTS,
    DENSITIES,
    ICONS,
    MAX_PROMPTS,
    RADII,
    RENDERERS,
    SCHEMES,
    SIDES,
    complaints,
    languages,
    model_choices,
    patch_of,
    typed_values,
    values_of,
)
from stonechat_admin.agent_settings import EFFORTS, SETTINGS, TITLES, row_sources
from stonechat_admin.auth import Console
from stonechat_admin.forms import Filled
from stonechat_admin.stock import stock_state

Tab = Literal["build", "abilities", "model", "files", "look", "rules", "publish"]
OF_BUILD = (
    "name",
    "greeting",
    "instructions",
    "model",
    "temperature",
    "max_output_tokens",
    "knowledge",
    "prompts",
    "disclaimer",
    "placeholder",
    "feedback",
)
SAVED = "Saved. Visitors see it once you publish."
OF_LOOK = ("theme", "launcher", "greeting", "prompts", "locale", "renderer")


@dataclass(frozen=True)
class Shown:
    """An agent beside what was published of it."""

    agent: AgentView
    live: AgentVersionView | None

    @property
    def changes(self) -> list[Change]:
        """What publishing would change; nothing where nothing was published yet."""
        return config_changes(self.live.config, self.agent.draft) if self.live else []


async def load(console: Console, agent_id: str) -> Shown:
    """The agent, or `NotFound`."""
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    return await beside_live(console, agent)


async def beside_live(console: Console, agent: AgentView) -> Shown:
    live = await agents.live_versions(console.session, console.actor, agent_ids=[agent.id])
    return Shown(agent, live.get(agent.id))


async def values(console: Console, shown: Shown, tab: Tab, form: Filled | None = None, **more: Any) -> dict[str, Any]:
    """What the templates of one tab are drawn from."""
    drawn: dict[str, Any] = {
        "shown": shown,
        "agent": shown.agent,
        "live": shown.live,
        "changes": shown.changes,
        "tab": tab,
        "form": form or Filled(_saved_values(shown.agent.draft, tab)),
        "revision": shown.agent.draft_revision,
        "clash": (),
        "prompt_rows": range(MAX_PROMPTS),
    }
    if tab in ("build", "model"):
        settings = console.services.settings
        providers = await list_providers(console.session, console.actor)
        drawn["has_providers"] = bool(providers) or settings.openai_api_key is not None
        drawn["models"] = model_choices(
            [provider.name for provider in providers],
            platform_key=settings.openai_api_key is not None,
            production=settings.is_production,
            sources=row_sources(drawn["form"]),
        )
    if tab == "model":
        drawn |= {"efforts": EFFORTS, "titles": TITLES}
    if tab == "rules":
        drawn |= {"injection": agent_rules.INJECTION, "links": agent_rules.LINKS}
        drawn |= {"images": agent_rules.IMAGES, "redact": agent_rules.REDACT}
    if tab == "look":
        drawn |= {"accents": ACCENTS, "schemes": SCHEMES, "radii": RADII, "densities": DENSITIES, "sides": SIDES}
        drawn |= {"renderers": RENDERERS, "script": console.services.settings.chatkit_script}
        drawn |= {"public_host": urlsplit(console.services.settings.public_url).hostname}
        drawn["stock"] = await stock_state(console, shown.agent)
        drawn |= {"icons": ICONS, "drawings": DRAWINGS, "languages": languages(str(drawn["form"].value("locale")))}
    return drawn | more


def _saved_values(draft: AgentConfig, tab: Tab) -> dict[str, Any]:
    if (setting := SETTINGS.get(tab)) is not None:
        return setting.values_of(draft)
    return agent_rules.values_of(draft.guardrails) if tab == "rules" else values_of(draft)


async def save(console: Console, agent_id: str, sent: FormData, tab: Tab) -> Response:
    """Save a form over the draft. Of two editors the second sees what saving would undo, and keeps what they typed."""
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    if (setting := SETTINGS.get(tab)) is not None:
        typed = setting.typed_values(sent, agent.draft)
        patch, complain = setting.patch_of(typed, agent.draft), setting.complaints
    elif tab == "rules":
        typed, complain = agent_rules.typed_values(sent), agent_rules.complaints
        patch = agent_rules.patch_of(typed)
    else:
        typed, complain = typed_values(sent, agent.draft), complaints
        full = patch_of(typed)
        patch = {key: full[key] for key in (OF_LOOK if tab == "look" else OF_BUILD)}
    try:
        async with console.session.begin_nested():
            saved = await agents.patch_draft(
                console.session, console.actor, agent_id=agent_id, patch=patch, revision=revision_of(sent)
            )
    except InvalidInput as error:
        form = complain(error, typed)
        # What was seen stays what was seen: saving again must still notice somebody else.
        return await _again(console, agent, tab, form, revision=revision_of(sent))
    except EditConflict:
        agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
        try:
            clash = config_changes(agent.draft, parse_config(merge_patch(agent.draft.as_json(), patch)))
        except InvalidInput as error:
            return await _again(console, agent, tab, complain(error, typed), revision=revision_of(sent))
        if clash:
            return await _again(console, agent, tab, Filled(typed), clash=clash)
        saved = agent  # both of them typed the same
    shown = await beside_live(console, saved)
    if not console.is_partial:
        return console.go(address(agent_id, tab), toast=SAVED)
    return console.fragment(
        "agents/_saved.html",
        toast=SAVED if shown.changes or not shown.live else "Saved.",
        **await values(console, shown, tab),
    )


async def _again(console: Console, agent: AgentView, tab: Tab, form: Filled, **more: Any) -> Response:
    drawn = await values(console, await beside_live(console, agent), tab, form, **more)
    if console.is_partial:
        return console.fragment(f"agents/_{tab}_form.html", status=422, **drawn)
    return console.page(f"agents/{tab}.html", status=422, **drawn)


def address(agent_id: str, tab: Tab = "build") -> str:
    """Where the tab of an agent is."""
    return f"/console/agents/{agent_id}" + ("" if tab == "build" else f"/{tab}")


def revision_of(sent: FormData) -> int:
    """The revision of the draft that the form was drawn from."""
    text = sent.get("revision")
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidInput("This form is incomplete. Load the page again.")
    return int(text)

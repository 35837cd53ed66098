"""`/console/agents/{id}/rules`: what an agent must not take in and must not say, and what that would stop."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from stonechat.assistant import agents
from stonechat.assistant.config import merge_patch, parse_config
from stonechat.errors import InvalidInput
from stonechat_admin import agent_pages, agent_rules
from stonechat_admin.auth import Console, Editor, Viewer
from stonechat_admin.forms import Filled

router = APIRouter(prefix="/console/agents/{agent_id}/rules")


@router.get("")
async def show_rules(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/rules.html", **await _values(console, shown))


@router.post("")
async def save_rules(agent_id: str, request: Request, console: Editor) -> Response:
    sent = await request.form()
    typed = agent_rules.typed_values(sent)
    try:
        async with console.session.begin_nested():
            saved = await agents.patch_draft(
                console.session,
                console.actor,
                agent_id=agent_id,
                patch=agent_rules.patch_of(typed),
                revision=agent_pages.revision_of(sent),
            )
    except InvalidInput as error:
        shown = await agent_pages.load(console, agent_id)
        again = await _values(console, shown, agent_rules.complaints(error, typed))
        again["revision"] = agent_pages.revision_of(sent)
        if console.is_partial:
            return console.fragment("agents/_rules_form.html", status=422, **again)
        return console.page("agents/rules.html", status=422, **again)
    shown = await agent_pages.beside_live(console, saved)
    told = "Saved. Visitors see it once you publish." if shown.changes or not shown.live else "Saved."
    if not console.is_partial:
        return console.go(f"/console/agents/{agent_id}/rules", toast=told)
    return console.fragment("agents/_rules_saved.html", toast=told, **await _values(console, shown))


@router.post("/try")
async def try_rules(agent_id: str, request: Request, console: Editor) -> Response:
    """What the rules as they are typed, saved or not, would do."""
    sent = await request.form()
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    message, answer = str(sent.get("try_message", "")), str(sent.get("try_answer", ""))
    try:
        config = parse_config(merge_patch(agent.draft.as_json(), agent_rules.patch_of(agent_rules.typed_values(sent))))
    except InvalidInput:
        return console.fragment("agents/_rules_tried.html", tried=None, config=agent.draft)
    tried = agent_rules.try_rules(config, message=message, answer=answer)
    return console.fragment("agents/_rules_tried.html", tried=tried, config=config)


async def _values(console: Console, shown: agent_pages.Shown, form: Filled | None = None) -> dict[str, Any]:
    form = form or Filled(agent_rules.values_of(shown.agent.draft.guardrails))
    return await agent_pages.values(
        console,
        shown,
        "rules",
        form,
        injection=agent_rules.INJECTION,
        links=agent_rules.LINKS,
        images=agent_rules.IMAGES,
        redact=agent_rules.REDACT,
    )

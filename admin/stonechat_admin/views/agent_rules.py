"""`/console/agents/{id}/rules`: what an agent must not take in and must not say, and what that would stop."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from stonechat.assistant import agents
from stonechat.assistant.config import merge_patch, parse_config
from stonechat.errors import InvalidInput
from stonechat_admin import agent_pages, agent_rules
from stonechat_admin.auth import Editor, Viewer

router = APIRouter(prefix="/console/agents/{agent_id}/rules")


@router.get("")
async def show_rules(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/rules.html", **await agent_pages.values(console, shown, "rules"))


@router.post("")
async def save_rules(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "rules")


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

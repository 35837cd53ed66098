"""`/console/agents/{id}/abilities`: what an agent can do beyond talking; each tool has a form of its kind."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response

from stonechat.assistant import agents
from stonechat_admin import agent_abilities, agent_pages
from stonechat_admin.auth import Editor, Viewer

router = APIRouter(prefix="/console/agents/{agent_id}/abilities")

Short = Annotated[str, Query(max_length=40)]


@router.get("")
async def show_abilities(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/abilities.html", **await agent_abilities.list_values(console, shown))


@router.post("")
async def save_talk(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "abilities")


@router.get("/new")
async def show_new_tool(agent_id: str, console: Editor, kind: Short = "http", start: Short = "") -> Response:
    shown = await agent_pages.load(console, agent_id)
    kind = agent_abilities.kind_of(kind)
    values = await agent_abilities.tool_values(console, shown, kind=kind, editing=None, start=start)
    return console.page("agents/tool.html", **values)


@router.post("/new")
async def add_tool(agent_id: str, request: Request, console: Editor) -> Response:
    await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    sent = await request.form()
    kind = agent_abilities.kind_of(sent.get("kind", "http"))
    return await agent_abilities.save_tool(console, agent_id, sent, kind=kind, editing=None)


@router.get("/tools/{tool_name}")
async def show_tool(agent_id: str, tool_name: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    tool = agent_abilities.tool_named(shown.agent, tool_name)
    values = await agent_abilities.tool_values(console, shown, kind=tool.kind, editing=tool)
    return console.page("agents/tool.html", **values)


@router.post("/tools/{tool_name}")
async def save_tool(agent_id: str, tool_name: str, request: Request, console: Editor) -> Response:
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    kind = agent_abilities.tool_named(agent, tool_name).kind
    sent = await request.form()
    return await agent_abilities.save_tool(console, agent_id, sent, kind=kind, editing=tool_name)


@router.post("/tools/{tool_name}/remove")
async def remove_tool(
    agent_id: str, tool_name: str, console: Editor, revision: Annotated[int, Form(ge=1, le=2**31 - 1)]
) -> Response:
    await agent_abilities.remove_tool(console, agent_id, tool_name, revision=revision)
    told = f"“{tool_name}” is taken away. Visitors notice once you publish."
    return console.go(agent_pages.address(agent_id, "abilities"), toast=told)

"""`/console/agents/{id}/look`: the widget's theme, with the widget itself live beside it."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from stonechat.assistant.config import public_config
from stonechat.embed.frame import render_preview
from stonechat_admin import agent_pages
from stonechat_admin.auth import Editor, Viewer

router = APIRouter(prefix="/console/agents/{agent_id}/look")


@router.get("")
async def show_look(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/look.html", **await agent_pages.values(console, shown, "look"))


@router.post("")
async def save_look(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "look")


@router.get("/frame")
async def show_frame(
    agent_id: str, console: Viewer, scheme: Annotated[Literal["light", "dark"], Query()] = "light"
) -> Response:
    """The widget's own document with the saved draft; the page around it posts what is typed and not yet saved."""
    shown = await agent_pages.load(console, agent_id)
    assets = console.services.assets
    document = render_preview(
        agent=public_config(shown.agent.draft),
        scheme=scheme,
        script=assets.frame_script.path,
        extras=assets.extras_script.path,
    )
    # Unlike the frame of a domain key, nobody else's page needs this one.
    return HTMLResponse(document.html, headers=document.headers | {"Cross-Origin-Resource-Policy": "same-origin"})

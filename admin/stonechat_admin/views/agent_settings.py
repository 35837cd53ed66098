"""`/console/agents/{id}/model` and `/files`: what answers, how much it is shown, and what visitors may send along."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from stonechat_admin import agent_pages
from stonechat_admin.auth import Editor, Viewer

router = APIRouter(prefix="/console/agents/{agent_id}")


@router.get("/model")
async def show_model(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/model.html", **await agent_pages.values(console, shown, "model"))


@router.post("/model")
async def save_model(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "model")


@router.get("/files")
async def show_files(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/files.html", **await agent_pages.values(console, shown, "files"))


@router.post("/files")
async def save_files(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "files")

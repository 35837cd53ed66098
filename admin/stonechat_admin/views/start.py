"""`/console`: where the day begins."""

from __future__ import annotations

from fastapi import APIRouter, Response

from stonechat_admin.auth import Viewer

router = APIRouter()

ABOUT = {
    "agents": "Write what your assistant is told, try it, and publish it.",
    "knowledge": "The documents it answers from.",
    "conversations": "What visitors asked, and what they were answered.",
    "install": "Put it on your site with one line.",
    "members": "Who works here with you.",
    "api-keys": "Let your own scripts do what you do here.",
}


@router.get("/console")
async def show_start(console: Viewer) -> Response:
    return console.page("start/page.html", about=ABOUT)

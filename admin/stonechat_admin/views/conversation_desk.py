"""Answering in a conversation, giving it back, locking and closing it: what editors do on its page."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Response

from stonechat.chat import conversations, hand_over
from stonechat.errors import InvalidInput
from stonechat_admin.auth import Editor
from stonechat_admin.forms import refused

router = APIRouter(prefix="/console/conversations/{thread_id}")

_DONE = {
    "active": "The conversation is open again.",
    "locked": "The conversation is locked.",
    "closed": "The conversation is closed.",
}


@router.post("/reply")
async def reply(thread_id: str, console: Editor, text: Annotated[str, Form()] = "") -> Response:
    try:
        async with console.session.begin_nested():  # what a refused form began is undone
            await hand_over.reply(console.session, console.actor, thread_id=thread_id, text=text)
    except InvalidInput as error:
        found = await conversations.get_summary(console.session, console.actor, thread_id=thread_id)
        names = await hand_over.names_of(console.session, console.actor, [found.handled_by] if found.handled_by else [])
        return console.fragment(
            "conversations/_desk.html",
            status=422,
            conversation=found,
            handled_by=names.get(found.handled_by or "", "Someone of your team"),
            form=refused(error, {"text": text}, about="text"),
        )
    return console.go(f"/console/conversations/{thread_id}", toast="Your answer was sent.")


@router.post("/take-over")
async def take_over(thread_id: str, console: Editor) -> Response:
    await hand_over.take_over(console.session, console.actor, thread_id=thread_id)
    return console.go(f"/console/conversations/{thread_id}", toast="You answer now; the agent is silent.")


@router.post("/give-back")
async def give_back(thread_id: str, console: Editor) -> Response:
    await hand_over.give_back(console.session, console.actor, thread_id=thread_id)
    return console.go(f"/console/conversations/{thread_id}", toast="The agent answers again.")


@router.post("/resolve")
async def resolve(thread_id: str, console: Editor) -> Response:
    await hand_over.resolve(console.session, console.actor, thread_id=thread_id)
    return console.go(f"/console/conversations/{thread_id}", toast="Resolved. The agent answers what comes next.")


@router.post("/status")
async def set_status(
    thread_id: str,
    console: Editor,
    status: Annotated[Literal["active", "locked", "closed"], Form()],
    reason: Annotated[str, Form(max_length=hand_over.MAX_REASON)] = "",
) -> Response:
    await hand_over.set_status(console.session, console.actor, thread_id=thread_id, status=status, reason=reason)
    return console.go(f"/console/conversations/{thread_id}", toast=_DONE[status])

"""`/console/conversations/{thread}/answers/{run}`: how one answer came about."""

from __future__ import annotations

from fastapi import APIRouter, Response

from stonechat.assistant.trace_store import find_trace
from stonechat.chat.conversations import answered_in, get_summary
from stonechat.errors import NotFound
from stonechat_admin.auth import Viewer
from stonechat_admin.traces import timeline

router = APIRouter(prefix="/console/conversations")


@router.get("/{thread_id}/answers/{run_id}")
async def show_answer(thread_id: str, run_id: str, console: Viewer) -> Response:
    conversation = await get_summary(console.session, console.actor, thread_id=thread_id)
    trace = await find_trace(console.session, console.actor, thread_id=thread_id, run_id=run_id)
    if trace is None and not await answered_in(console.session, console.actor, thread_id=thread_id, run_id=run_id):
        raise NotFound("There is no such answer in this conversation.")
    shown = None if trace is None else timeline(trace)
    days = console.services.settings.trace_days
    if console.is_partial:
        return console.fragment("conversations/_trace.html", shown=shown, days=days)
    return console.page("conversations/trace.html", conversation=conversation, shown=shown, days=days)

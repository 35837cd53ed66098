"""The playground: a session with the draft, and what was searched for an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse

from stonechat import clock
from stonechat.assistant.agents import get_agent
from stonechat.chat.searches import searches_of_answer
from stonechat.identity.sessions import open_preview_session
from stonechat.knowledge.search import recall
from stonechat_admin.auth import Editor

router = APIRouter(prefix="/console/agents/{agent_id}/playground")


@router.post("/session")
async def open_session(agent_id: str, console: Editor) -> Response:
    """A token for `/chatkit` that talks to the draft as it is saved at each question."""
    agent = await get_agent(console.session, console.actor, agent_id=agent_id)
    look = console.support
    token, expires_at, _ = await open_preview_session(
        console.session,
        console.actor,
        agent_id=agent.id,
        tokens=console.services.session_tokens,
        grant_id=look.id if look else None,
        until=look.expires_at if look else None,
    )
    lifetime = (expires_at - clock.now()).total_seconds()
    return JSONResponse({"token": token, "seconds": int(lifetime)}, headers={"Cache-Control": "no-store"})


@router.get("/passages")
async def show_passages(
    agent_id: str,
    console: Editor,
    thread: Annotated[str, Query(max_length=128)],
    item: Annotated[str, Query(max_length=128)],
) -> Response:
    """The passages behind one answer, as the search returned them."""
    await get_agent(console.session, console.actor, agent_id=agent_id)
    searches = await searches_of_answer(console.session, console.actor, thread_id=thread, item_id=item)
    wanted = [chunk_id for search in searches for chunk_id, _ in search.hits]
    passages = {each.chunk_id: each for each in await recall(console.services.knowledge, console.tenant_id, wanted)}
    found = [
        (
            search.query,
            [
                replace(passages[chunk_id], score=score or 0.0)
                for chunk_id, score in search.hits
                if chunk_id in passages
            ],
        )
        for search in searches
    ]
    best = max((passage.score for _, several in found for passage in several), default=0.0)
    return console.fragment("agents/_passages.html", found=found, best=best)

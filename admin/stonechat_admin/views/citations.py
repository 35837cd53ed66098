"""`/console/conversations/{id}/citations`: the passage that an answer cites, as the visitor may open it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from stonechat.chat.cited import read_citation
from stonechat_admin.auth import Viewer
from stonechat_admin.passages import above, pieces_of

router = APIRouter(prefix="/console/conversations/{thread_id}/citations")


@router.get("")
async def show_citation(
    thread_id: str,
    console: Viewer,
    item: Annotated[str, Query(max_length=128)],
    index: Annotated[int, Query(ge=0, le=10_000)],
) -> Response:
    cited = await read_citation(console.session, console.actor, thread_id=thread_id, item_id=item, index=index)
    values: dict[str, Any] = {
        "cited": cited,
        "headings": above(cited.headings, title=cited.title),
        "pieces": pieces_of(cited.text, quotes=cited.highlights),
        "before": pieces_of(cited.before),
        "after": pieces_of(cited.after),
        "thread_id": thread_id,
    }
    if console.is_partial:
        return console.fragment("conversations/_cited.html", **values)
    return console.page("conversations/cited.html", **values)

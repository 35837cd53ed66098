"""`/console/agents`: the list, a new one, and the draft as a form."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response

from stonechat.assistant import agents
from stonechat.errors import Conflict, InvalidInput
from stonechat_admin import agent_pages
from stonechat_admin.agent_changes import config_changes
from stonechat_admin.auth import Admin, Console, Editor, Viewer
from stonechat_admin.forms import Filled

router = APIRouter(prefix="/console/agents")

PAGE = 30
STARTING_INSTRUCTIONS = (
    "You help the visitors of our web site. Answer from our documents, in the language of the question, in a few plain "
    "sentences. When the documents do not say it, say so, and name a way to reach us."
)


@router.get("")
async def show_agents(
    console: Viewer, cursor: Annotated[str | None, Query(max_length=200)] = None, retired: bool = False
) -> Response:
    values = await _list(console, cursor=cursor, retired=retired)
    if console.is_partial:
        return console.fragment("agents/_rows.html", **values)
    return console.page("agents/list.html", form=Filled({"name": ""}), **values)


@router.post("")
async def create_agent(console: Editor, name: Annotated[str, Form(max_length=1000)] = "") -> Response:
    model = console.services.settings.default_model
    config = {"name": name, "instructions": STARTING_INSTRUCTIONS, "model": model}
    try:
        async with console.session.begin_nested():
            agent = await agents.create_agent(console.session, console.actor, config=config)
    except (InvalidInput, Conflict) as error:
        message = "Give it a name of up to 200 characters." if isinstance(error, InvalidInput) else str(error)
        form = Filled({"name": name}, {"name": message})
        if console.is_partial:
            return console.fragment("agents/_new.html", status=422, form=form)
        return console.page("agents/list.html", status=422, form=form, **await _list(console))
    return console.go(agent_pages.address(agent.id), toast=f"“{agent.name}” is made. Ask it something beside the form.")


@router.get("/{agent_id}")
async def show_agent(agent_id: str, console: Viewer) -> Response:
    shown = await agent_pages.load(console, agent_id)
    return console.page("agents/build.html", **await agent_pages.values(console, shown, "build"))


@router.post("/{agent_id}")
async def save_agent(agent_id: str, request: Request, console: Editor) -> Response:
    return await agent_pages.save(console, agent_id, await request.form(), "build")


@router.post("/{agent_id}/retire")
async def retire_agent(agent_id: str, console: Editor) -> Response:
    agent = await agents.archive_agent(console.session, console.actor, agent_id=agent_id)
    return console.go("/console/agents", toast=f"“{agent.name}” is retired: it answers nobody. You can bring it back.")


@router.post("/{agent_id}/restore")
async def restore_agent(agent_id: str, console: Editor) -> Response:
    agent = await agents.restore_agent(console.session, console.actor, agent_id=agent_id)
    return console.go(agent_pages.address(agent_id), toast=f"“{agent.name}” is back.")


@router.delete("/{agent_id}")
async def delete_agent(agent_id: str, console: Admin) -> Response:
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    await agents.delete_agent(console.session, console.actor, agent_id=agent_id)
    return console.go("/console/agents", toast=f"“{agent.name}” is deleted. Its conversations stay.")


async def _list(console: Console, *, cursor: str | None = None, retired: bool = False) -> dict[str, Any]:
    page = await agents.list_agents(console.session, console.actor, limit=PAGE, cursor=cursor, archived=retired)
    live = await agents.live_versions(console.session, console.actor, agent_ids=[agent.id for agent in page.data])
    return {
        "agents": page.data,
        "live": live,
        "changed": {
            agent.id: len(config_changes(live[agent.id].config, agent.draft)) for agent in page.data if agent.id in live
        },
        "next_cursor": page.next_cursor,
        "retired": retired,
    }

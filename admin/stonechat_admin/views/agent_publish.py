"""`/console/agents/{id}/publish`: what publishing changes, publishing itself, and the versions there were."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, Response

from stonechat.accounts.memberships import list_members
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentVersionView
from stonechat.errors import Conflict, EditConflict, InvalidInput, SwitchedOff
from stonechat_admin import agent_pages
from stonechat_admin.agent_changes import Change, config_changes
from stonechat_admin.agent_pages import Shown, revision_of
from stonechat_admin.auth import Console, Editor, Viewer

router = APIRouter(prefix="/console/agents/{agent_id}")

PAGE = 20
_OTHERS = {"api_key": "A script", "system": "Stonechat", "operator": "The operator"}


@router.get("/publish")
async def show_publish(
    agent_id: str, console: Viewer, before: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None
) -> Response:
    shown = await agent_pages.load(console, agent_id)
    values = await _values(console, shown, before=before)
    if console.is_partial:
        return console.fragment("agents/_version_rows.html", **values)
    return console.page("agents/publish.html", **values)


@router.post("/publish")
async def publish(agent_id: str, request: Request, console: Editor) -> Response:
    earlier = await agent_pages.load(console, agent_id)
    try:
        await console.services.flags.require("publishing", console.tenant_id)
        async with console.session.begin_nested():
            made = await agents.publish_agent(
                console.session,
                console.actor,
                agent_id=agent_id,
                settings=console.services.settings,
                revision=revision_of(await request.form()),
            )
    except (InvalidInput, EditConflict, Conflict, SwitchedOff) as error:
        problem = str(error)
        if isinstance(error, EditConflict):
            problem = "Someone else changed this agent while you looked. This is what publishing changes now."
        return await _answer(console, agent_id, problem=problem)
    if earlier.live is not None and made.version == earlier.live.version:
        return await _answer(console, agent_id, toast=f"Nothing had changed: version {made.version} stays live.")
    return await _answer(console, agent_id, toast=f"Version {made.version} is live. Open pages show it once reloaded.")


@router.post("/rollback")
async def roll_back(agent_id: str, console: Editor, version: Annotated[int, Form(ge=1, le=2**31 - 1)]) -> Response:
    try:
        async with console.session.begin_nested():
            made = await agents.rollback_agent(
                console.session,
                console.actor,
                agent_id=agent_id,
                version=version,
                settings=console.services.settings,
            )
    except (InvalidInput, Conflict) as error:
        return await _answer(console, agent_id, problem=str(error))
    toast = f"Version {version} is live again, as version {made.version}. Your draft was not touched."
    if made.version == version:
        toast = f"Version {version} is live already."
    return await _answer(console, agent_id, toast=toast)


@router.post("/discard")
async def discard_draft(agent_id: str, request: Request, console: Editor) -> Response:
    shown = await agent_pages.load(console, agent_id)
    if shown.live is None:
        return await _answer(console, agent_id, problem="Nothing was published yet, so there is nothing to go back to.")
    try:
        async with console.session.begin_nested():
            await agents.patch_draft(
                console.session,
                console.actor,
                agent_id=agent_id,
                patch=shown.live.config.as_json(),
                revision=revision_of(await request.form()),
            )
    except EditConflict:
        return await _answer(
            console,
            agent_id,
            problem="Someone else changed this agent while you looked. Look again before you discard.",
        )
    return await _answer(console, agent_id, toast="The draft is again what visitors meet.")


async def _answer(console: Console, agent_id: str, *, toast: str | None = None, problem: str | None = None) -> Response:
    if problem is None and not console.is_partial:
        return console.go(agent_pages.address(agent_id, "publish"), toast=toast)
    values = await _values(console, await agent_pages.load(console, agent_id), problem=problem)
    status = 200 if problem is None else 422
    if console.is_partial:
        return console.fragment("agents/_publish_answer.html", status=status, toast=toast, **values)
    return console.page("agents/publish.html", status=status, **values)


async def _values(
    console: Console, shown: Shown, *, before: int | None = None, problem: str | None = None
) -> dict[str, Any]:
    found = await agents.list_versions(
        console.session, console.actor, agent_id=shown.agent.id, limit=PAGE + 1, before=before
    )
    people = {
        f"person:{member.id}": member.name or member.email
        for member in await list_members(console.session, console.actor)
    }
    # A new agent's look and words differ from nothing: the list of versions says what came when.
    rows = [
        (version, _by(version, people), _since(version, found[at + 1 :])) for at, version in enumerate(found[:PAGE])
    ]
    return await agent_pages.values(
        console,
        shown,
        "publish",
        versions=rows,
        next_before=found[PAGE - 1].version if len(found) > PAGE else None,
        problem=problem,
    )


def _by(version: AgentVersionView, people: dict[str, str]) -> str:
    kind = version.published_by.partition(":")[0]
    return people.get(version.published_by) or _OTHERS.get(kind, "A former member")


def _since(version: AgentVersionView, older: list[AgentVersionView]) -> list[Change] | None:
    """What differs from the version before it; None for the first, which has none."""
    return config_changes(older[0].config, version.config) if older else None

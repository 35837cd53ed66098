"""`/console/agents/{id}/abilities/try`, `/offers` and `/secret`: what a tool's form asks for before it is saved.

Each answers with the form as it was typed, and what came of the question beside it; without scripts, with the whole page.
No transaction is open while somebody else's server is asked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import FormData

from stonechat.api.dependencies import AppServices, Services
from stonechat.assistant.config import parse_config
from stonechat.assistant.config_tools import HttpTool, McpServer
from stonechat.assistant.documents import TenantDocuments
from stonechat.assistant.tools.context import ToolAccess
from stonechat.assistant.tools.trials import list_mcp_tools, try_http_tool
from stonechat.errors import InvalidInput
from stonechat_admin import agent_abilities, agent_arguments, agent_pages, agent_tool_form
from stonechat_admin.auth import Console, Editor, Worker, require
from stonechat_admin.forms import Filled

router = APIRouter(prefix="/console/agents/{agent_id}/abilities")

_NOT_ASKED_YET = "not-asked-yet"


@router.post("/secret")
async def add_secret(agent_id: str, request: Request, console: Editor) -> Response:
    """Keep a secret that a tool's form holds, and go on with the form."""
    shown = await agent_pages.load(console, agent_id)
    sent = await request.form()
    kind = agent_abilities.kind_of(sent.get("kind", "http"))
    typed = agent_tool_form.typed_values(sent, kind)
    secret_form = await agent_abilities.keep_secret(console, sent, typed) if "secret_headers" in typed else Filled()
    return await _draw(console, shown, sent, kind, Filled(typed), secret_form=secret_form)


@router.post("/try")
async def try_tool(agent_id: str, request: Request, services: AppServices, who: Worker) -> Response:
    """Call the HTTP tool of the form with its examples, and show what the model would read."""
    async with _console(request, services, who) as console:
        await agent_pages.load(console, agent_id)
        sent, actor = await request.form(), console.actor
    typed = agent_tool_form.typed_values(sent, "http")
    raw, errors = agent_tool_form.tool_of(typed, "http")
    form, trial, missing = Filled(typed, errors), None, list[str]()
    if not errors:
        try:
            tool = parse_config({"name": "Trial", "tools": [raw | {"name": raw["name"] or "tool"}]}).tools[0]
        except InvalidInput as error:
            form = agent_tool_form.complaints(error, typed, at=0, kind="http", errors={})
        else:
            assert isinstance(tool, HttpTool)  # noqa: S101
            arguments, missing = agent_arguments.examples_of(tool.parameters)
            if not missing:
                trial = await try_http_tool(
                    tool,
                    actor,
                    agent_id=agent_id,
                    access=_access(services),
                    knowledge=TenantDocuments(services.knowledge),
                    arguments=arguments,
                )
    why = agent_abilities.untried_because(form.errors or ({"": form.message} if form.message else {}), missing)
    async with _console(request, services, who) as console:
        shown = await agent_pages.load(console, agent_id)
        return await _draw(console, shown, sent, "http", form, trial=trial, untried=why)


@router.post("/offers")
async def show_offers(agent_id: str, request: Request, services: AppServices, who: Worker) -> Response:
    """Ask the MCP server of the form what it offers, to be ticked."""
    async with _console(request, services, who) as console:
        await agent_pages.load(console, agent_id)
        sent, actor = await request.form(), console.actor
    typed = agent_tool_form.typed_values(sent, "mcp")
    raw, errors = agent_tool_form.tool_of(typed, "mcp")
    form, offered = Filled(typed, errors), None
    try:
        asked = raw | {"name": raw["name"] or "server", "allowed": raw["allowed"] or [_NOT_ASKED_YET]}
        server = parse_config({"name": "Trial", "tools": [asked]}).tools[0]
    except InvalidInput as error:
        form = agent_tool_form.complaints(error, typed, at=0, kind="mcp", errors=errors)
    else:
        assert isinstance(server, McpServer)  # noqa: S101
        offered = await list_mcp_tools(
            server, actor, agent_id=agent_id, access=_access(services), knowledge=TenantDocuments(services.knowledge)
        )
    async with _console(request, services, who) as console:
        shown = await agent_pages.load(console, agent_id)
        return await _draw(console, shown, sent, "mcp", form, offered=offered)


async def _draw(
    console: Console, shown: agent_pages.Shown, sent: FormData, kind: str, form: Filled, **more: Any
) -> Response:
    name = str(sent.get("editing", ""))
    editing = next((tool for tool in shown.agent.draft.tools if tool.name == name and tool.kind == kind), None)
    # What was seen stays what was seen: saving must still notice somebody else.
    revision = agent_pages.revision_of(sent) if "revision" in sent else shown.agent.draft_revision
    values = await agent_abilities.tool_values(console, shown, kind=kind, editing=editing, form=form, **more)
    return await agent_abilities.draw_tool(console, values | {"revision": revision, "typed": True})


@asynccontextmanager
async def _console(request: Request, services: Services, who: Worker) -> AsyncIterator[Console]:
    """The console of an editor, for as long as a transaction is needed."""
    async with asynccontextmanager(require("editor"))(request, services, who) as console:
        yield console


def _access(services: Services) -> ToolAccess:
    return ToolAccess(
        services.database,
        services.keyring,
        services.outbound,
        allow_http=bool(services.settings.outbound_networks),
    )

"""What the pages of an agent's abilities are drawn from, and a tool's way into the draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response
from starlette.datastructures import FormData

from stonechat.accounts.secrets import list_secrets, put_secret
from stonechat.assistant import agents
from stonechat.assistant.agents import AgentView
from stonechat.assistant.config import merge_patch, parse_config
from stonechat.assistant.config_tools import ClientTool, HttpTool, Tool, WidgetTool
from stonechat.errors import Conflict, EditConflict, InvalidInput, NotFound
from stonechat_admin import agent_arguments, agent_pages, agent_tool_form
from stonechat_admin.agent_changes import config_changes
from stonechat_admin.agent_tool_starts import STARTS, snippet_of
from stonechat_admin.agent_tool_words import APPROVAL, KIND_WORDS, KINDS, facts_of
from stonechat_admin.auth import Console
from stonechat_admin.forms import Filled

AUTHORIZATION = "Authorization"


def kind_of(value: object) -> str:
    """The kind that a form or an address names. Raises `NotFound`."""
    if not isinstance(value, str) or value not in KIND_WORDS:
        raise NotFound("There is no such kind of tool.")
    return value


def tool_named(agent: AgentView, name: str) -> Tool:
    """The tool of the draft, or `NotFound`."""
    for tool in agent.draft.tools:
        if tool.name == name:
            return tool
    raise NotFound("This agent has no such tool.")


async def list_values(console: Console, shown: agent_pages.Shown) -> dict[str, Any]:
    """Of the list."""
    tools = shown.agent.draft.tools
    return await agent_pages.values(
        console, shown, "abilities", cards=[(tool, facts_of(tool)) for tool in tools], kinds=KINDS
    )


async def tool_values(
    console: Console,
    shown: agent_pages.Shown,
    *,
    kind: str,
    editing: Tool | None,
    form: Filled | None = None,
    start: str = "",
    **more: Any,
) -> dict[str, Any]:
    """Of one tool's form."""
    form = form or Filled(agent_tool_form.values_of(editing, kind, start=start))
    stored = [secret.name for secret in await list_secrets(console.session, console.actor)]
    named = [row["secret"] for row in form.value("secret_headers") or [] if row["secret"]]
    missing = [name for name in dict.fromkeys(named) if name not in stored]
    callable_tools = [tool.name for tool in shown.agent.draft.tools if isinstance(tool, HttpTool)]
    drawn: dict[str, Any] = {
        "tool_kind": kind,
        "kind_words": KIND_WORDS[kind],
        "editing": editing,
        "start": start,
        "starts": STARTS,
        "methods": agent_tool_form.METHODS,
        "types": agent_arguments.TYPES,
        "needed": agent_arguments.NEEDED,
        "approval": APPROVAL,
        "secret_names": [(name, name) for name in stored] + [(name, f"{name} (not there)") for name in missing],
        "targets": [(name, name) for name in callable_tools],
        "snippet": snippet_of(editing) if isinstance(editing, ClientTool) else "",
        "trial": None,
        "untried": "",
        "offered": None,
        "secret_form": Filled({"new_secret_name": ""}),
        "typed": False,
    }
    return await agent_pages.values(console, shown, "abilities", form, **(drawn | more))


async def draw_tool(console: Console, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """The form, alone or in its page."""
    if console.is_partial:
        return console.fragment("agents/_tool_form.html", status=status, **values)
    return console.page("agents/tool.html", status=status, **values)


async def keep_secret(console: Console, sent: FormData, typed: dict[str, Any]) -> Filled:
    """Store the secret that a tool's form holds, if it holds one, and choose it; what is wrong is in the answer."""
    name, value = str(sent.get("new_secret_name", "")).strip(), str(sent.get("new_secret_value", "")).strip()
    if not name and not value:
        return Filled({"new_secret_name": ""})
    try:
        if name in {secret.name for secret in await list_secrets(console.session, console.actor)}:
            raise InvalidInput("There is a secret of this name already. Choose it above, or take another name.")
        async with console.session.begin_nested():
            await put_secret(console.session, console.actor, keyring=console.services.keyring, name=name, value=value)
    except (InvalidInput, Conflict) as error:
        return Filled({"new_secret_name": name}, {"new_secret_name": f"{error} Paste the value once more."})
    rows = typed["secret_headers"]
    empty = next((row for row in rows if not row["secret"]), None)
    if empty is not None:
        empty["secret"] = name
    elif not any(row["secret"] == name for row in rows):
        rows.append({"name": AUTHORIZATION, "secret": name})
    return Filled({"new_secret_name": ""})


async def save_tool(console: Console, agent_id: str, sent: FormData, *, kind: str, editing: str | None) -> Response:
    """Put the tool that a form describes into the draft. Of two editors the second sees what saving would undo."""
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    saved = tool_named(agent, editing) if editing is not None else None
    revision = agent_pages.revision_of(sent)
    typed = agent_tool_form.typed_values(sent, kind)
    secret_form = await keep_secret(console, sent, typed) if "secret_headers" in typed else Filled()
    tool, errors = agent_tool_form.tool_of(typed, kind, saved=saved)
    patch, at = _with_tool(agent, tool, editing)

    async def again(form: Filled, **more: Any) -> Response:
        shown = await agent_pages.beside_live(console, agent)
        values = await tool_values(console, shown, kind=kind, editing=saved, form=form, secret_form=secret_form, **more)
        return await draw_tool(console, values, status=422)

    def refused(error: InvalidInput) -> Filled:
        return agent_tool_form.complaints(error, typed, at=at, kind=kind, errors=errors)

    try:
        if errors or secret_form.errors:
            parse_config(merge_patch(agent.draft.as_json(), patch))  # to say everything that is wrong at once
            return await again(Filled(typed, errors), revision=revision)
        async with console.session.begin_nested():
            await agents.patch_draft(console.session, console.actor, agent_id=agent_id, patch=patch, revision=revision)
    except InvalidInput as error:
        return await again(refused(error), revision=revision)
    except EditConflict:
        agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
        if saved is not None:
            saved = tool_named(agent, saved.name)
        patch, at = _with_tool(agent, tool, editing)
        try:
            clash = config_changes(agent.draft, parse_config(merge_patch(agent.draft.as_json(), patch)))
        except InvalidInput as error:
            return await again(refused(error), revision=revision)
        if clash:
            return await again(Filled(typed), clash=clash)
    return console.go(agent_pages.address(agent_id, "abilities"), toast=agent_pages.SAVED)


async def remove_tool(console: Console, agent_id: str, name: str, *, revision: int) -> None:
    """Take a tool out of the draft. Raises `NotFound`, `EditConflict`, or `Conflict` while a widget's button runs it."""
    agent = await agents.get_agent(console.session, console.actor, agent_id=agent_id)
    tool_named(agent, name)
    for other in agent.draft.tools:
        if isinstance(other, WidgetTool) and other.name != name and name in other.actions.values():
            raise Conflict(f"A button of “{other.name}” runs it. Change that first.")
    left = [tool.model_dump(mode="json") for tool in agent.draft.tools if tool.name != name]
    await agents.patch_draft(
        console.session, console.actor, agent_id=agent_id, patch={"tools": left}, revision=revision
    )


def _with_tool(agent: AgentView, tool: Mapping[str, Any], editing: str | None) -> tuple[dict[str, Any], int]:
    """A change of the draft to one with this tool, in the place of the one that is edited; and which place that is."""
    tools: list[dict[str, Any]] = [each.model_dump(mode="json") for each in agent.draft.tools]
    at = next((place for place, each in enumerate(tools) if each["name"] == editing), len(tools))
    tools[at : at + 1] = [dict(tool)]
    if editing is not None and tool["name"] != editing:
        for each in tools:
            if each["kind"] == "widget":
                each["actions"] = _renamed(each["actions"], editing, str(tool["name"]))
    return {"tools": tools}, at


def _renamed(actions: Mapping[str, str], before: str, after: str) -> dict[str, str]:
    return {action: after if target == before else target for action, target in actions.items()}


def untried_because(errors: Mapping[str, str], missing: Sequence[str]) -> str:
    """Why a tool was not tried."""
    if errors:
        return "Some of the form is not right yet: see the fields above."
    return f"Give an example for each argument that is always needed: {', '.join(missing)}." if missing else ""

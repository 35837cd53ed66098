"""The tools of an agent, ready for one turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents import Tool

from stonechat.assistant.config_tools import HttpTool
from stonechat.assistant.tools.approval import ask_visitor
from stonechat.assistant.tools.calls import Ability, as_function_tool
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.tools.http import http_ability
from stonechat.assistant.tools.search import SEARCH_TOOL


@asynccontextmanager
async def open_tools(context: TurnContext) -> AsyncIterator[list[Tool]]:
    """What the model may call in this turn; connections to servers of tools live as long as the context is open."""
    tools: list[Tool] = [SEARCH_TOOL] if context.turn.config.knowledge.enabled else []
    for ability in _abilities(context):
        context.abilities[ability.name] = ability
    tools += [as_function_tool(ability, ask=ask_visitor) for ability in context.abilities.values()]
    yield tools


def _abilities(context: TurnContext) -> list[Ability]:
    """HTTP tools of the configuration."""
    access = context.access
    if access is None:
        return []
    return [http_ability(tool, access) for tool in context.turn.config.tools if isinstance(tool, HttpTool)]

"""The tools of an agent, ready for one turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from agents import Tool

from stonechat.assistant.config_tools import RESERVED_NAMES, HttpTool, McpServer
from stonechat.assistant.tools.approval import ask_visitor
from stonechat.assistant.tools.calls import as_function_tool
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.tools.conversation import conversation_tools
from stonechat.assistant.tools.http import http_ability
from stonechat.assistant.tools.mcp import mcp_abilities
from stonechat.assistant.tools.search import SEARCH_TOOL


@asynccontextmanager
async def open_tools(context: TurnContext) -> AsyncIterator[list[Tool]]:
    """What the model may call in this turn; connections to servers of tools live as long as the context is open."""
    config = context.turn.config
    tools: list[Tool] = [SEARCH_TOOL] if config.knowledge.enabled else []
    async with AsyncExitStack() as stack:
        if (access := context.access) is not None and config.tools:
            abilities = [http_ability(tool, access) for tool in config.tools if isinstance(tool, HttpTool)]
            if any(isinstance(tool, McpServer) for tool in config.tools):
                abilities += await stack.enter_async_context(mcp_abilities(context, access))
            # The tenant's own names come first: no server can put a tool in another's place.
            taken = RESERVED_NAMES | {tool.name for tool in config.tools if not isinstance(tool, HttpTool | McpServer)}
            for ability in abilities:
                if ability.name not in taken:
                    context.abilities.setdefault(ability.name, ability)
        tools += [as_function_tool(ability, ask=ask_visitor) for ability in context.abilities.values()]
        tools += conversation_tools(config)
        yield tools

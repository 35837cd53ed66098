"""The tools of an agent, ready for one turn."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents import Tool

from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.tools.search import SEARCH_TOOL


@asynccontextmanager
async def open_tools(context: TurnContext) -> AsyncIterator[list[Tool]]:
    """What the model may call in this turn; connections to servers of tools live as long as the context is open."""
    yield [SEARCH_TOOL] if context.turn.config.knowledge.enabled else []

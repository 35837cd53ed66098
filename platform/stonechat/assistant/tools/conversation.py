"""The tools that work in the conversation itself: in the visitor's page, in widgets and forms, and by asking a person."""

from __future__ import annotations

from agents import FunctionTool

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import ClientTool, WidgetTool
from stonechat.assistant.tools.client import client_tool
from stonechat.assistant.tools.hand_over import HAND_OVER_TOOL
from stonechat.assistant.tools.structured import ASK_TOOL
from stonechat.assistant.tools.widgets import widget_tool


def conversation_tools(config: AgentConfig) -> list[FunctionTool]:
    """Those of an agent, for one turn."""
    tools: list[FunctionTool] = []
    for tool in config.tools:
        if isinstance(tool, ClientTool):
            tools.append(client_tool(tool))
        elif isinstance(tool, WidgetTool):
            tools.append(widget_tool(tool))
    if config.ask:
        tools.append(ASK_TOOL)
    if config.hand_over.enabled:
        tools.append(HAND_OVER_TOOL)
    return tools

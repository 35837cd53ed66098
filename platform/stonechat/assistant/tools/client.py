"""Tools that run in the visitor's page: the call is left in the conversation, and the turn ends until the page answers."""

from __future__ import annotations

from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.types import ClientToolCallItem, ThreadItemDoneEvent

from stonechat import clock
from stonechat.assistant.config_tools import ClientTool
from stonechat.assistant.tools.calls import parse_arguments
from stonechat.assistant.tools.context import TurnContext


def client_tool(tool: ClientTool) -> FunctionTool:
    """The tool as models call it."""

    async def invoke(context: ToolContext[TurnContext], arguments: str) -> str:
        return _call(context.context, tool, arguments, call_id=context.tool_call_id)

    return FunctionTool(
        name=tool.name,
        description=tool.description,
        params_json_schema=tool.parameters,
        on_invoke_tool=invoke,
        strict_json_schema=False,
    )


def _call(context: TurnContext, tool: ClientTool, text: str, *, call_id: str) -> str:
    if context.ended:
        return "Not done: something else waits for the visitor already. Call one such tool at a time."
    arguments, fault = parse_arguments(text, tool.parameters)
    if fault is not None:
        return fault
    with context.turn.trace.span("tool", tool.name, runs="in the visitor's page"):
        context.emit(
            ThreadItemDoneEvent(
                item=ClientToolCallItem(
                    id=context.turn.generate_item_id("client_tool_call"),
                    thread_id=context.thread_id,
                    created_at=clock.now(),
                    call_id=call_id,
                    name=tool.name,
                    arguments=arguments,
                )
            )
        )
    context.ended = True
    return "The page was asked."

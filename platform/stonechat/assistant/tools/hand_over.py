"""`hand_over`: the model asks a person to take the conversation over, and says no more."""

from __future__ import annotations

import json

from agents import FunctionTool
from agents.tool_context import ToolContext
from chatkit.types import (
    AssistantMessageContent,
    AssistantMessageItem,
    CustomTask,
    TaskItem,
    ThreadItemDoneEvent,
)

from stonechat import clock
from stonechat.assistant.tools.context import TurnContext
from stonechat.assistant.turn import Turn

HAND_OVER_TOOL_NAME = "hand_over"
MAX_REASON_CHARACTERS = 500


async def hand_over(context: TurnContext, reason: str) -> str:
    """Ask for a person, then tell the visitor; returns what the model is told."""
    if context.ended:
        return "Not done: something else waits for the visitor already."
    if context.turn.hand_over is None:
        return "Nobody can be asked right now. Tell the visitor so."
    reason = " ".join(reason.split())[:MAX_REASON_CHARACTERS]
    with context.turn.trace.span("tool", HAND_OVER_TOOL_NAME, reason=reason):
        # First what the team sees: the visitor must not be promised what did not happen.
        await context.turn.hand_over(reason)
    for event in handed_over(context.turn):
        context.emit(event)
    context.ended = True
    return "A person was asked, and the visitor was told."


def handed_over(turn: Turn) -> list[ThreadItemDoneEvent]:
    """How the visitor is told."""
    made = {"thread_id": turn.thread.id, "created_at": clock.now()}
    message = AssistantMessageContent(text=turn.config.hand_over.message)
    new_id = turn.generate_item_id
    task = CustomTask(title="Handed over to a person", icon="agent", status_indicator="complete")
    return [
        ThreadItemDoneEvent(item=TaskItem(id=new_id("task"), task=task, **made)),
        ThreadItemDoneEvent(item=AssistantMessageItem(id=new_id("message"), content=[message], **made)),
    ]


async def _invoke(context: ToolContext[TurnContext], arguments: str) -> str:
    try:
        reason = json.loads(arguments or "{}").get("reason", "")
    except (ValueError, AttributeError, RecursionError):
        reason = ""
    return await hand_over(context.context, reason if isinstance(reason, str) else "")


HAND_OVER_TOOL = FunctionTool(
    name=HAND_OVER_TOOL_NAME,
    description=(
        "Ask a person of the team to take over this conversation: when the visitor asks for a person, or when you cannot "
        "help and a person could. You cannot answer afterwards until they give the conversation back."
    ),
    params_json_schema={
        "type": "object",
        "properties": {
            "reason": {"type": "string", "description": "For the team, in one sentence: what the visitor needs."}
        },
        "required": ["reason"],
        "additionalProperties": False,
    },
    on_invoke_tool=_invoke,
)

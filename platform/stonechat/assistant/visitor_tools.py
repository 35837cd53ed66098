"""HTTP tools run by the visitor's own hand, in a widget.

Pressing a button approves what the visitor entered and what the tenant wrote. What a model put behind the button the visitor
has not seen: a tool that is to be approved is put to them then, with everything that it would be sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from chatkit.types import ThreadStreamEvent

from stonechat.assistant.config_tools import HttpTool
from stonechat.assistant.schemas import argument_faults
from stonechat.assistant.tools.approval import ask_visitor
from stonechat.assistant.tools.calls import ApprovalNotPossible, Call, Outcome, run_call
from stonechat.assistant.tools.context import SearchesKnowledge, ToolAccess, TurnContext
from stonechat.assistant.tools.http import http_ability
from stonechat.assistant.turn import ToolAnswer, Turn
from stonechat.errors import InvalidInput, NotOffered


class VisitorTools:
    """Runs them; see `RunsTools`."""

    def __init__(self, knowledge: SearchesKnowledge, access: ToolAccess) -> None:
        self._knowledge = knowledge
        self._access = access

    async def run_tool(self, turn: Turn, *, name: str, arguments: Mapping[str, Any], seen: bool = False) -> ToolAnswer:
        """See `RunsTools.run_tool`."""
        tool = next((each for each in turn.config.tools if isinstance(each, HttpTool) and each.name == name), None)
        if tool is None:
            raise NotOffered("What this would do is not offered any more.")
        if faults := argument_faults(tool.parameters, arguments):
            raise InvalidInput("What was entered does not fit. " + " ".join(faults))
        events: list[ThreadStreamEvent] = []
        context = TurnContext(turn, self._knowledge, events.append, access=self._access)
        outcome = Outcome(error="It was not done.")

        async def run(context: TurnContext, call: Call) -> Outcome:
            nonlocal outcome
            outcome = await ability.run(context, call)
            return outcome

        ability = http_ability(tool, self._access)
        with turn.trace.span("tool", name, by="the visitor") as span:
            call = Call(name, dict(arguments), f"{turn.run_id}-action")
            if ability.needs_approval and not seen:
                span.data["waits_for"] = "approval"
                try:
                    await ask_visitor(context, ability, call)
                except ApprovalNotPossible:
                    raise InvalidInput("This is too much to be approved at once. It was not done.") from None
                return ToolAnswer(data=None, failed=False, events=events, asks=True)
            await run_call(context, replace(ability, run=run), call, trace=span.data)
        return ToolAnswer(data=outcome.data, failed=outcome.error is not None, events=events)

"""Tools tried by the people who set them up, outside of any conversation: through the code that conversations go through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatkit.types import ThreadMetadata

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.config_tools import HttpTool, McpServer
from stonechat.assistant.schemas import argument_faults
from stonechat.assistant.tools.calls import Call, Outcome
from stonechat.assistant.tools.context import SearchesKnowledge, ToolAccess, TurnContext
from stonechat.assistant.tools.http import http_ability, point
from stonechat.assistant.tools.mcp import list_offered
from stonechat.assistant.tools.mcp_lists import McpList
from stonechat.assistant.turn import Turn
from stonechat.errors import StonechatError
from stonechat.identity.caller import Caller

MAX_PARTS = 60
"""Parts of an answer that are named."""
MAX_PART_DEPTH = 6
MAX_PART_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Part:
    """Something in a JSON answer that could be shown to the model."""

    pointer: str
    sample: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of a tool that was tried."""

    failed: bool
    shown: str
    """What the model would read."""
    reason: str = ""
    """More of a failure than a model or a visitor is told, for the tenant."""
    parts: tuple[Part, ...] = ()


async def try_http_tool(
    tool: HttpTool,
    actor: Actor,
    *,
    agent_id: str,
    access: ToolAccess,
    knowledge: SearchesKnowledge,
    arguments: Mapping[str, Any],
) -> Trial:
    """Call the tool once, for real. Whatever goes wrong is in the answer."""
    actor.require("write")
    if faults := argument_faults(tool.parameters, arguments):
        return Trial(True, " ".join(faults))
    context = _context(actor, agent_id, access, knowledge)
    # All of the answer is asked for, so that its parts can be named; then it is mapped as in a conversation.
    ability = http_ability(tool.model_copy(update={"result": {}}), access)
    try:
        outcome = await ability.run(context, Call(tool.name, dict(arguments), ids.new_id("try")))
    except StonechatError as error:
        outcome = Outcome(error=error.detail or error.title)
    spans = context.turn.trace.spans
    noted = " ".join(str(span.data["reason"]) for span in spans if span.data.get("reason"))
    missing = sorted({name for span in spans for name in span.data.get("missing", ())})
    if missing:
        noted = f"There is no secret called “{'”, “'.join(missing)}”."
    if outcome.error is None and tool.result:
        if isinstance(outcome.data, dict | list):
            mapped = {name: point(outcome.data, pointer) for name, pointer in tool.result.items()}
            return Trial(False, _pretty(Outcome(data=mapped)), parts=tuple(_parts(outcome.data)))
        return Trial(True, _pretty(Outcome(error="The service answered with something that is not JSON.")))
    parts = tuple(_parts(outcome.data)) if outcome.error is None else ()
    return Trial(outcome.error is not None, _pretty(outcome), noted, parts)


async def list_mcp_tools(
    server: McpServer, actor: Actor, *, agent_id: str, access: ToolAccess, knowledge: SearchesKnowledge
) -> McpList:
    """Everything that a server of tools offers, asked anew. A failure is in the answer."""
    actor.require("write")
    return await list_offered(server, _context(actor, agent_id, access, knowledge), access)


def _context(actor: Actor, agent_id: str, access: ToolAccess, knowledge: SearchesKnowledge) -> TurnContext:
    """A turn of nobody's, which leaves nothing behind."""
    caller = Caller(actor.tenant_id, "trial", agent_id, preview=True)
    thread = ThreadMetadata(id=ids.new_id("thr"), created_at=clock.now())
    turn = Turn(caller, AgentConfig(name="Trial"), thread, [], generate_item_id=ids.new_id)
    return TurnContext(turn, knowledge, lambda _: None, access=access)


def _pretty(outcome: Outcome) -> str:
    return json.dumps(json.loads(outcome.text()), ensure_ascii=False, indent=2)


def _parts(data: Any) -> list[Part]:
    """The single values of a JSON answer, and of its lists the first element; no more than `MAX_PARTS`."""
    found: list[Part] = []

    def walk(value: Any, pointer: str, depth: int) -> None:
        if len(found) >= MAX_PARTS or depth > MAX_PART_DEPTH:
            return
        match value:
            case dict():
                for key, each in value.items():
                    walk(each, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}", depth + 1)
            case list() if value:
                if pointer:
                    found.append(Part(pointer, f"a list of {len(value)}"))
                walk(value[0], f"{pointer}/0", depth + 1)
            case _ if pointer and len(pointer) <= 200:
                found.append(Part(pointer, json.dumps(value, ensure_ascii=False)[:MAX_PART_CHARACTERS]))

    walk(data, "", 0)
    return found

"""What the chat asks of whoever answers: one call a turn, events out, use and trace filled in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chatkit.types import ThreadItem, ThreadMetadata, ThreadStreamEvent

from stonechat.assistant.config import AgentConfig
from stonechat.assistant.trace import Trace
from stonechat.identity.caller import Caller

ItemKind = Literal[
    "message", "hidden_context", "client_tool_call", "structured_input", "widget", "workflow", "task", "image"
]
"""The kinds of thread items that an answer makes."""

GenerateItemId = Callable[[ItemKind], str]
LoadEarlier = Callable[[str, int], Awaitable[list[ThreadItem]]]
"""(an item, how many) → at most so many items of the thread before that one, oldest first."""


@dataclass(slots=True)
class ModelUse:
    """What one model was used for in a turn: one row of the ledger."""

    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    unreported: int = 0
    """How many calls the provider has not told the tokens of: they are under way, were cut off, or it never tells."""

    @property
    def estimated(self) -> bool:
        """Whether some of the tokens are our own estimate."""
        return self.unreported > 0


@dataclass(slots=True)
class TurnUsage:
    """What the turn used so far. Right at every moment, so a turn that is cut off can be settled too."""

    uses: list[ModelUse] = field(default_factory=list)

    def of(self, provider: str, model: str) -> ModelUse:
        """The count for a model, begun if it is new to the turn."""
        for use in self.uses:
            if use.provider == provider and use.model == model:
                return use
        use = ModelUse(provider, model)
        self.uses.append(use)
        return use


@dataclass(slots=True)
class Turn:
    """One question to an agent, and what answering it leaves behind."""

    caller: Caller
    config: AgentConfig
    thread: ThreadMetadata
    history: Sequence[ThreadItem]
    """Oldest first, what the visitor just did last."""
    generate_item_id: GenerateItemId
    run_id: str = ""
    agent_version: int = 0
    usage: TurnUsage = field(default_factory=TurnUsage)
    trace: Trace = field(default_factory=Trace)
    earlier: LoadEarlier | None = None
    """Reads what came before the history; None if nothing did."""
    afterwards: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    """What is to be done once the turn is over and stored, if it was answered. Nobody waits for it."""
    stopped: bool = False
    """Set once a guardrail stopped the question or the answer: no model may be shown either."""
    approved_only: bool = False
    """Whether only question-answer pairs are searched, which costs nothing."""
    hand_over: Callable[[str], Awaitable[None]] | None = None
    """Asks a person to take the conversation over, for a reason; None where there is nobody to ask."""


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a tool answered that the visitor ran."""

    data: Any
    """JSON, as the tool's `result` maps it."""
    failed: bool
    events: Sequence[ThreadStreamEvent]
    """Among them the hidden item by which the model learns of it, or the question to the visitor."""
    asks: bool = False
    """Whether the visitor is asked first, so that nothing was done yet."""


class RunsTools(Protocol):
    """Runs tools for what visitors do in widgets."""

    async def run_tool(self, turn: Turn, *, name: str, arguments: Mapping[str, Any], seen: bool = False) -> ToolAnswer:
        """Run an HTTP tool of the turn's agent, or ask the visitor first: where the tool is to be approved, and not all of
        the arguments are ones that the visitor entered or the tenant wrote (`seen`). Raises `NotOffered`, or `InvalidInput` for arguments that do not fit."""
        ...


class WritesTitles(Protocol):
    """Names conversations."""

    async def title(self, turn: Turn) -> str | None:
        """A short name for a conversation that begins so; None where no model makes one. Keeps its own account."""
        ...


class Responder(Protocol):
    """`Assistant`, or a double of it."""

    def respond(self, turn: Turn) -> AsyncIterator[ThreadStreamEvent]:
        """Answer what stands last in the turn's history.

        Yields, for the answer: item added, content part added, text deltas and annotations, content part done, item
        done. Progress events come between. What to keep are the items of item-done events; one of type
        `hidden_context_item` must never reach the client. A failure raises a `StonechatError` (its member
        `allow_retry` says whether trying again may help) after the item that was being written is done with what
        it had. Closing the iterator stops the model.
        """
        ...

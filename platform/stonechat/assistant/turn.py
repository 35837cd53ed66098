"""What the chat asks of whoever answers: one call a turn, events out, usage filled in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chatkit.types import ThreadItem, ThreadMetadata, ThreadStreamEvent

from stonechat.assistant.config import AgentConfig
from stonechat.identity.caller import Caller

ItemKind = Literal["message", "hidden_context"]
"""The kinds of thread items that an answer makes."""

GenerateItemId = Callable[[ItemKind], str]


@dataclass(slots=True)
class TurnUsage:
    """What the turn used so far. Right at every moment, so a turn that is cut off can be settled too."""

    provider: str = ""
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


class Responder(Protocol):
    """`Assistant`, or a double of it."""

    def respond(
        self,
        caller: Caller,
        *,
        config: AgentConfig,
        thread: ThreadMetadata,
        history: Sequence[ThreadItem],
        usage: TurnUsage,
        generate_item_id: GenerateItemId,
    ) -> AsyncIterator[ThreadStreamEvent]:
        """Answer the last message of `history` (oldest first, the new user message last).

        Yields, for the answer: item added, content part added, text deltas and annotations, content part done, item
        done. Progress events come between. What to keep are the items of item-done events; one of type
        `hidden_context_item` must never reach the client. A failure raises a `StonechatError` (its member
        `allow_retry` says whether trying again may help) after the item that was being written is done with what
        it had. Closing the iterator stops the model.
        """
        ...

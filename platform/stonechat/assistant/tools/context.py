"""The turn that tools work in: what they may use, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from chatkit.types import ThreadStreamEvent

from stonechat.assistant.guardrails.addresses import host_of
from stonechat.assistant.guardrails.rules import clean_text
from stonechat.assistant.passages import Passages
from stonechat.assistant.tools.mcp_lists import McpToolLists
from stonechat.assistant.turn import Turn
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.knowledge.search import Passage
from stonechat.outbound.client import OutboundClient

if TYPE_CHECKING:
    from stonechat.assistant.tools.calls import Ability


class Quote(Protocol):
    """A part of a passage that answers a question."""

    @property
    def text(self) -> str: ...

    @property
    def passage(self) -> Passage: ...


class SearchesKnowledge(Protocol):
    """The knowledge room, as far as an answer needs it."""

    async def search(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        """The best passages for the query, best first."""
        ...

    async def approved(self, tenant_id: UUID, query: str, *, limit: int) -> Sequence[Passage]:
        """As `search`, among question-answer pairs that people wrote, and without asking any model."""
        ...

    async def recall(self, tenant_id: UUID, chunk_ids: Sequence[str]) -> Sequence[Passage]:
        """The passages with these ids that are still there, in this order."""
        ...

    def quotes(self, query: str, passages: Sequence[Passage]) -> Sequence[Quote]:
        """The parts of these passages that answer the query, best first; empty if nothing answers it."""
        ...


@dataclass(frozen=True, slots=True)
class ToolAccess:
    """What tools reach the world outside with; one per process."""

    database: Database
    keyring: Keyring
    outbound: OutboundClient
    allow_http: bool = False
    """Whether addresses may be `http://`, as on a network of the operator's own."""
    mcp_lists: McpToolLists = field(default_factory=McpToolLists)


@dataclass(slots=True)
class TurnContext:
    """What a tool may use and change: the typed dependencies of one turn."""

    turn: Turn
    knowledge: SearchesKnowledge
    emit: Callable[[ThreadStreamEvent], None]
    """Puts an event into the answer's stream, after the text that was written so far."""
    passages: Passages = field(default_factory=Passages)
    access: ToolAccess | None = None
    """None where there is nothing outside: tools that would need it are not offered."""
    abilities: dict[str, Ability] = field(default_factory=dict)
    """What may be called in this turn beside the search, by name, once `open_tools` has opened it."""
    searches: int = 0
    calls: int = 0
    """Of tools other than the search, so far in the turn."""
    shown: int = 0
    """Widgets that the visitor was shown in this turn."""
    ended: bool = False
    """Set by a tool after which the model has nothing to say: the turn waits for the visitor, or for a person."""

    @property
    def caller(self) -> Caller:
        """Who asks, and of which tenant."""
        return self.turn.caller

    @property
    def thread_id(self) -> str:
        """The conversation."""
        return self.turn.thread.id

    def clean(self, text: str, *, hosts: Collection[str] = ()) -> str:
        """A text of a tool's as the agent's rules let visitors see it; `hosts` are those that the tenant itself wrote."""
        known = {host for passage in self.passages.all() if passage.url and (host := host_of(passage.url)) is not None}
        own = urlsplit(self.caller.origin or "").hostname
        return clean_text(self.turn.config, text, hosts={*known, *hosts, *([own] if own else [])})

"""What the console says of OpenAI's front end: which keys lack what it needs, and where it did not come."""

from __future__ import annotations

from dataclasses import dataclass

from stonechat.assistant.agents import AgentView
from stonechat.embed.stock import Trouble, recent_stock_troubles
from stonechat.identity.domain_keys import DomainKeyView, list_domain_keys
from stonechat_admin.auth import Console

ROWS = 100


@dataclass(frozen=True, slots=True)
class StockState:
    """Of one agent that chose OpenAI's front end."""

    troubles: dict[str, Trouble]
    """By domain key, over the last week."""
    keyless: tuple[str, ...]
    """Names of domain keys without a key of OpenAI's."""

    @property
    def times(self) -> int:
        return sum(trouble.times for trouble in self.troubles.values())

    @property
    def latest(self) -> Trouble | None:
        return max(self.troubles.values(), key=lambda trouble: trouble.last_at, default=None)


async def stock_state(console: Console, agent: AgentView, keys: list[DomainKeyView] | None = None) -> StockState | None:
    """None for agents that show our own."""
    if agent.draft.renderer != "chatkit":
        return None
    if keys is None:
        keys = (await list_domain_keys(console.session, console.actor, agent_id=agent.id, limit=ROWS)).data
    troubles = await recent_stock_troubles(console.session, console.actor, domain_key_ids=[key.id for key in keys])
    return StockState(troubles, tuple(key.name for key in keys if not key.openai_domain_key))

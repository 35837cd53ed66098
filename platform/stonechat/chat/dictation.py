"""Speaking instead of typing: from a recording to text, by what the agent's configuration allows."""

from __future__ import annotations

from stonechat import metrics
from stonechat.assistant.config import AgentConfig
from stonechat.db.session import Database
from stonechat.errors import NotOffered, TooManyConcurrent
from stonechat.identity.caller import Caller
from stonechat.providers.provider import ModelProviders
from stonechat.providers.transcription import transcribe
from stonechat.usage.ledger import record_use
from stonechat.usage.quota import require_budget

AT_ONCE = 8
"""Recordings that a process has under way. Each is held in memory several times over."""
AT_ONCE_PER_TENANT = 3


class Dictation:
    """One per process."""

    def __init__(self, database: Database, providers: ModelProviders) -> None:
        self._database = database
        self._providers = providers
        self._under_way: list[Caller] = []

    async def transcribe(self, audio: bytes, caller: Caller, *, config: AgentConfig) -> str:
        """What was said. Counted in the ledger.

        Raises `NotOffered`, `TooManyConcurrent`, `BudgetUsedUp`, and what `transcribe` raises.
        """
        if not config.dictation.enabled:
            raise NotOffered("This assistant does not offer dictation.")
        mine = sum(each.tenant_id == caller.tenant_id for each in self._under_way)
        if len(self._under_way) >= AT_ONCE or mine >= AT_ONCE_PER_TENANT:
            metrics.LIMIT_REFUSALS.of("dictations_at_once").add()
            raise TooManyConcurrent(
                "Others are dictating right now. Try again in a moment.", headers={"Retry-After": "3"}
            )
        self._under_way.append(caller)
        try:
            async with self._database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
                await require_budget(session, caller.tenant_id)
            said = await transcribe(self._providers, caller.tenant_id, model=config.dictation.model, audio=audio)
        finally:
            self._under_way.remove(caller)
        async with self._database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            await record_use(
                session,
                caller.tenant_id,
                purpose="transcription",
                provider=said.provider,
                model=said.model,
                input_tokens=said.input_tokens,
                output_tokens=said.output_tokens,
                estimated=not said.reported,
                agent_id=caller.agent_id,
                user_id=caller.user_id,
            )
        return said.text

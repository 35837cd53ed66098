"""`ConfigCache`: published configurations never change, so a process reads each of them once."""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from stonechat.assistant.agents import load_config
from stonechat.assistant.config import AgentConfig
from stonechat.assistant.plan_features import within_plan
from stonechat.plans.remembered import PlanFeatures
from stonechat.plans.terms import Feature

MAX_CONFIGS = 2000


class ConfigCache:
    """The `max_size` most recently used published configurations. Drafts are not kept."""

    def __init__(self, max_size: int = MAX_CONFIGS) -> None:
        self._max_size = max_size
        self._configs: OrderedDict[tuple[UUID, str, int], AgentConfig] = OrderedDict()
        self._reduced: OrderedDict[int, tuple[AgentConfig, frozenset[Feature], AgentConfig]] = OrderedDict()
        self.features = PlanFeatures()

    def __len__(self) -> int:
        return len(self._configs)

    def get(self, tenant_id: UUID, agent_id: str, version: int) -> AgentConfig | None:
        """The configuration if it is at hand, with no I/O."""
        key = (tenant_id, agent_id, version)
        config = self._configs.get(key)
        if config is not None:
            self._configs.move_to_end(key)
        return config

    def put(self, tenant_id: UUID, agent_id: str, version: int, config: AgentConfig) -> None:
        """Keep a configuration that was read or published elsewhere."""
        key = (tenant_id, agent_id, version)
        self._configs[key] = config
        self._configs.move_to_end(key)
        while len(self._configs) > self._max_size:
            self._configs.popitem(last=False)

    async def load(self, session: AsyncSession, tenant_id: UUID, *, agent_id: str, version: int) -> AgentConfig:
        """The configuration, read from the database the first time."""
        config = self.get(tenant_id, agent_id, version)
        if config is None:
            config = await load_config(session, tenant_id, agent_id=agent_id, version=version)
            self.put(tenant_id, agent_id, version, config)
        return config

    def within(self, config: AgentConfig, features: frozenset[Feature]) -> AgentConfig:
        """The configuration as far as the plan includes what it uses; one object for the same two, as agents are kept by it."""
        kept = self._reduced.get(id(config))
        if kept is not None and kept[0] is config and kept[1] == features:
            return kept[2]
        reduced = within_plan(config, features)
        if reduced is not config:
            self._reduced[id(config)] = (config, features, reduced)
            while len(self._reduced) > self._max_size:
                self._reduced.popitem(last=False)
        return reduced

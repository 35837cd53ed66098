"""Which configuration answers a caller: the published one, cached by its version, or the draft in a preview."""

from __future__ import annotations

from typing import Literal

from stonechat.assistant.agents import load_config, published_version
from stonechat.assistant.cache import ConfigCache
from stonechat.assistant.config import AgentConfig
from stonechat.db.session import Database
from stonechat.identity.caller import Caller


class PublishedConfigs:
    """Reads them. A draft is read anew each time."""

    def __init__(self, database: Database, cache: ConfigCache) -> None:
        self._database = database
        self._cache = cache

    async def now(self, caller: Caller) -> AgentConfig:
        """As it is by now."""
        return await self.at(caller, await self.version(caller))

    async def version(self, caller: Caller) -> int:
        """Which one is published; 0 for a preview."""
        if caller.preview:
            return 0
        async with self._database.tenant(caller.tenant_id) as session:
            return await published_version(session, caller.tenant_id, agent_id=caller.agent_id)

    async def at(self, caller: Caller, version: int) -> AgentConfig:
        """As it was published at that version, as far as the tenant's plan includes what it uses."""
        features = self._cache.features.get(caller.tenant_id)
        config = None if caller.preview else self._cache.get(caller.tenant_id, caller.agent_id, version)
        if config is None or features is None:
            which: int | Literal["draft"] = "draft" if caller.preview else version
            async with self._database.tenant(caller.tenant_id) as session:
                features = await self._cache.features.load(session, caller.tenant_id)
                if config is None:
                    config = await load_config(session, caller.tenant_id, agent_id=caller.agent_id, version=which)
            if not caller.preview:
                self._cache.put(caller.tenant_id, caller.agent_id, version, config)
        return self._cache.within(config, features)

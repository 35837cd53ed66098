"""How many answers one visitor has in the making: a slot for each, in memory or shared through Redis."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from redis.asyncio import Redis

LEASE_SECONDS = 15 * 60
"""A slot whose holder died is free again after this long. No answer takes longer."""
MAX_HOLDERS = 100_000


class Slots(Protocol):
    """Slots by key. `slot` is an id of its own for each use."""

    async def take(self, key: str, slot: str, *, limit: int) -> bool:
        """Whether one of `limit` slots was free and is now held."""

    async def free(self, key: str, slot: str) -> None:
        """Give a slot back; twice changes nothing."""


class LocalSlots:
    """Slots of this process."""

    def __init__(self) -> None:
        self._held: OrderedDict[str, dict[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    async def take(self, key: str, slot: str, *, limit: int) -> bool:
        now = time.monotonic()
        held = {name: until for name, until in self._held.get(key, {}).items() if until > now}
        taken = len(held) < limit
        if taken:
            held[slot] = now + LEASE_SECONDS
        self._held[key] = held
        self._held.move_to_end(key)
        while len(self._held) > MAX_HOLDERS:
            self._held.popitem(last=False)
        return taken

    async def free(self, key: str, slot: str) -> None:
        held = self._held.get(key, {})
        held.pop(slot, None)
        if not held:
            self._held.pop(key, None)


class RedisSlots:
    """Slots of all processes: a sorted set for each key, scored by when the lease ends."""

    def __init__(self, client: Redis) -> None:
        self._client = client

    async def take(self, key: str, slot: str, *, limit: int) -> bool:
        name, now = _name(key), time.time()
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(name, "-inf", now)
            pipeline.zadd(name, {slot: now + LEASE_SECONDS})
            pipeline.zcard(name)
            pipeline.expire(name, LEASE_SECONDS)
            held = (await pipeline.execute())[2]
        if held <= limit:
            return True
        # Two that come at once for the last slot may both be turned away, never both let in.
        await self._client.zrem(name, slot)
        return False

    async def free(self, key: str, slot: str) -> None:
        await self._client.zrem(_name(key), slot)


def _name(key: str) -> str:
    return f"stonechat:slots:{key}"

"""The limiter of chat messages: per address, visitor, agent and tenant, by each tenant's own rules."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol, TypeVar

from limits.aio.storage.redis import RedisStorage
from redis.asyncio import Redis
from redis.exceptions import RedisError

from stonechat import ids, metrics
from stonechat.errors import RateLimited, TooManyConcurrent
from stonechat.identity.caller import Caller
from stonechat.limits.counters import MemoryCounts
from stonechat.limits.rules import RulesCache
from stonechat.limits.slots import LocalSlots, RedisSlots, Slots
from stonechat.limits.state import LimitState, state_of
from stonechat.settings import Settings
from stonechat.web import ClientAddress

WINDOW_SECONDS = 60
UPLOADS_PER_MINUTE = 30
"""Of one visitor; how much a tenant keeps in all is bounded elsewhere."""
PRIVACY_PER_MINUTE = 4
"""Exports and erasures of one visitor."""
STORE_TIMEOUT_SECONDS = 0.25
STORE_PAUSE_SECONDS = 5.0
"""After a failure the shared store is left alone this long, so that an outage costs few requests their time."""

_log = logging.getLogger(__name__)
_SENTENCES = {
    "address": "Too many requests come from this address.",
    "visitor": "You are sending messages very quickly.",
    "agent": "This assistant is very busy.",
    "tenant": "This site's assistants are very busy.",
    "upload": "You are attaching files very quickly.",
    "privacy": "You have just asked for this.",
}

Answer = TypeVar("Answer")


class _Counts(Protocol):
    """The part of the engine's storages that is asked here, with keys of our own."""

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int) -> bool: ...

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]: ...


class _Store:
    """Where the counts are: one process's memory, or Redis for all."""

    def __init__(self, counts: _Counts, slots: Slots) -> None:
        self._counts, self.slots = counts, slots

    async def hit(self, name: str, quota: int, key: str) -> LimitState | None:
        """Count one; the limit's state if it was used up already."""
        if await self._counts.acquire_sliding_window_entry(f"{name}/{quota}/{key}", quota, WINDOW_SECONDS):
            return None
        return await self.state(name, quota, key)

    async def state(self, name: str, quota: int, key: str) -> LimitState:
        """What is left of a limit."""
        counts = await self._counts.get_sliding_window(f"{name}/{quota}/{key}", WINDOW_SECONDS)
        return state_of(name, quota=quota, window=WINDOW_SECONDS, counts=counts)


class Limiter:
    """Counts messages and answers in the making. One per process.

    With `REDIS_URL` the counts are shared between processes. While Redis does not answer, each process counts for itself:
    the limits hold per process rather than not at all, and a visitor is never turned away because of our outage.
    """

    def __init__(self, settings: Settings, *, rules: RulesCache) -> None:
        self._settings = settings
        self.rules = rules
        self._local = _Store(MemoryCounts(), LocalSlots())
        self._shared: _Store | None = None
        self._redis: Redis | None = None
        self._paused_until = 0.0
        if settings.redis_url is not None:
            self._redis = Redis.from_url(
                settings.redis_url,
                socket_timeout=STORE_TIMEOUT_SECONDS,
                socket_connect_timeout=STORE_TIMEOUT_SECONDS,
                max_connections=100,
            )
            storage = RedisStorage(
                f"async+{settings.redis_url}",
                implementation="redispy",
                key_prefix="stonechat:limits",
                connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # typed for what stands in a URL
            )
            self._shared = _Store(storage, RedisSlots(self._redis))

    async def check_message(self, caller: Caller, *, address: ClientAddress | None = None) -> LimitState:
        """Count one message; raises `RateLimited`, with `Retry-After`, once a limit is used up.

        Returns the visitor's own state, for the response's headers: how busy the site is, is not a visitor's business.
        Who is over a limit of their own uses up nothing of the limits that they share with others.
        """
        if address is not None:
            await self.check_address(address)
        rules = await self.rules.rules_of(caller.tenant_id)
        tenant, quota = caller.tenant_id.hex, rules.visitor.messages_per_minute
        visitor = f"{tenant}/{caller.user_id}"
        hits = (
            ("visitor", quota, visitor),
            ("agent", rules.agent.messages_per_minute, f"{tenant}/{caller.agent_id}"),
            ("tenant", rules.tenant.messages_per_minute, tenant),
        )

        async def count(store: _Store) -> LimitState:
            for hit in hits:
                if (refused := await store.hit(*hit)) is not None:
                    raise limited(refused)
            return await store.state("visitor", quota, visitor)

        return await self._with_store(count)

    async def check_address(self, address: ClientAddress) -> None:
        """Count one request of an address; raises `RateLimited`."""
        if not is_exempt(address, self._settings):
            await self._hit("address", self._settings.ip_requests_per_minute, address_key(address))

    async def check_upload(self, caller: Caller) -> None:
        """Count one file that is about to be attached; raises `RateLimited`."""
        await self._hit("upload", UPLOADS_PER_MINUTE, f"{caller.tenant_id.hex}/{caller.user_id}")

    async def check_privacy(self, caller: Caller) -> None:
        """Count one export or erasure; raises `RateLimited`."""
        await self._hit("privacy", PRIVACY_PER_MINUTE, f"{caller.tenant_id.hex}/{caller.user_id}")

    @asynccontextmanager
    async def answering(self, caller: Caller) -> AsyncIterator[None]:
        """Hold one of the visitor's slots for an answer in the making; raises `TooManyConcurrent`."""
        limit = (await self.rules.rules_of(caller.tenant_id)).visitor.concurrent
        key, slot = f"{caller.tenant_id.hex}:{caller.user_id}", ids.new_id("slot")
        held_by: list[Slots] = []

        async def take(store: _Store) -> bool:
            taken = await store.slots.take(key, slot, limit=limit)
            held_by.append(store.slots)
            return taken

        if not await self._with_store(take):
            metrics.LIMIT_REFUSALS.of("concurrent").add()
            raise TooManyConcurrent(
                "Wait until one of your other answers is complete.", headers={"Retry-After": "5"}, scope="visitor"
            )
        try:
            yield
        finally:
            # What cannot be given back now ends with its lease.
            with suppress(RedisError, OSError, TimeoutError):
                await held_by[-1].free(key, slot)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._redis is not None:
            await self._redis.aclose()

    async def _hit(self, name: str, quota: int, key: str) -> None:
        refused = await self._with_store(lambda store: store.hit(name, quota, key))
        if refused is not None:
            raise limited(refused)

    async def _with_store(self, operation: Callable[[_Store], Awaitable[Answer]]) -> Answer:
        if self._shared is not None and time.monotonic() >= self._paused_until:
            try:
                async with asyncio.timeout(2 * STORE_TIMEOUT_SECONDS):
                    return await operation(self._shared)
            except (RedisError, OSError, TimeoutError) as error:
                self._paused_until = time.monotonic() + STORE_PAUSE_SECONDS
                _log.warning("Redis did not answer (%s): each process counts for itself meanwhile.", error)
        return await operation(self._local)


def limited(state: LimitState) -> RateLimited:
    """The error that says which limit was used up, and when to come back."""
    wait = max(state.retry_after, 1)
    metrics.LIMIT_REFUSALS.of(state.name).add()
    return RateLimited(
        f"{_SENTENCES[state.name]} Try again in {wait} second{'s' if wait > 1 else ''}.",
        headers={"Retry-After": str(wait), **state.headers()},
        scope=state.name,
    )


def is_exempt(address: ClientAddress, settings: Settings) -> bool:
    """Whether this is the developer's own machine, and nobody asked for a limit."""
    return (
        address.is_loopback and not settings.is_production and not settings.is_set("configured_ip_requests_per_minute")
    )


@lru_cache(maxsize=4096)
def address_key(address: ClientAddress) -> str:
    """What one subscriber is counted by: an IPv4 address, or the /64 that an IPv6 host may roam in."""
    try:
        parsed = ip_address(address.host)
    except ValueError:
        return address.host
    if isinstance(parsed, IPv6Address):
        return f"{IPv6Address(int(parsed) >> 64 << 64)}/64"
    return str(parsed)

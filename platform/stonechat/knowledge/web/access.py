"""A process's way to the web for fetching sources: the guarded client, and what keeps fetching polite and fair."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import stonechat
from stonechat.knowledge.web.robots import Robots
from stonechat.outbound.client import OutboundClient

USER_AGENT = (
    f"Stonechat/{stonechat.__version__} (reads web sites for their owners' assistants; robots.txt token: Stonechat)"
)
SYNCS_AT_ONCE = 3
"""In one process, of all tenants; and one of a tenant's. The rest of the worker's hands are for everything else."""
_HOSTS = 1000
_ROBOTS = 200


@dataclass(frozen=True, slots=True)
class Pace:
    """Limits of time and size. Seconds, bytes."""

    delay: float = 0.5
    """Least time between two requests to one host."""
    longest_delay: float = 10.0
    """A site's Crawl-delay counts up to this."""
    page: float = 20.0
    """For one page, from the look-up of its host to its last byte."""
    part: float = 5.0
    """After this a job makes room for others, and goes on as the next."""
    part_pages: int = 25
    html: int = 5_000_000
    file: int = 25 * 1024 * 1024
    retry: tuple[float, float] = (2.0, 4.0)
    """How long a sync waits that finds no room: between these."""

    def delay_of(self, robots: Robots) -> float:
        """Between two requests to a site that says so."""
        return min(max(self.delay, robots.delay or 0.0), max(self.longest_delay, self.delay))


class WebAccess:
    """Make one a process, and `aclose` it. The client is opened when first needed."""

    def __init__(self, open_client: Callable[[], OutboundClient] = OutboundClient, *, pace: Pace | None = None) -> None:
        self.pace = pace or Pace()
        self._open_client = open_client
        self._client: OutboundClient | None = None
        self._at_work: set[UUID] = set()
        self._free_at: dict[str, float] = {}
        self._robots: OrderedDict[tuple[str, str], Robots] = OrderedDict()

    @property
    def client(self) -> OutboundClient:
        """The one way out."""
        if self._client is None:
            self._client = self._open_client()
        return self._client

    async def aclose(self) -> None:
        """Close the client, if it was opened."""
        if self._client is not None:
            await self._client.aclose()

    @contextmanager
    def room_for(self, tenant_id: UUID) -> Iterator[bool]:
        """Whether a sync of this tenant's may work now; it does while the context is open."""
        if tenant_id in self._at_work or len(self._at_work) >= SYNCS_AT_ONCE:
            yield False
            return
        self._at_work.add(tenant_id)
        try:
            yield True
        finally:
            self._at_work.discard(tenant_id)

    def pause(self) -> float:
        """Seconds after which to ask for room again."""
        return random.uniform(*self.pace.retry)  # noqa: S311

    def wait_for(self, host: str) -> float:
        """Seconds until `host` may be asked; 0 means now, and that nobody else may until `leave`."""
        now = asyncio.get_running_loop().time()
        free_at = self._free_at.get(host, 0.0)
        if free_at > now:
            return free_at - now
        if len(self._free_at) >= _HOSTS:
            self._free_at = {each: at for each, at in self._free_at.items() if at > now}
        # One request at a time: taken for as long as one may last, and given back by `leave`.
        self._free_at[host] = now + self.pace.page
        return 0.0

    def leave(self, host: str, *, delay: float) -> None:
        """A request to `host` has ended; the next may begin after `delay`."""
        self._free_at[host] = asyncio.get_running_loop().time() + delay

    def robots_of(self, sync_id: str, origin: str) -> Robots | None:
        """What was read in this sync. Not kept for longer, nor shared by tenants."""
        found = self._robots.get((sync_id, origin))
        if found is not None:
            self._robots.move_to_end((sync_id, origin))
        return found

    def keep_robots(self, sync_id: str, origin: str, robots: Robots) -> None:
        """For the rest of the sync, unless there are too many."""
        self._robots[sync_id, origin] = robots
        while len(self._robots) > _ROBOTS:
            self._robots.popitem(last=False)

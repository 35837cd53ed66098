"""The connections of the chat's hot path, where each phase of an answer is one SQL function and one round trip.

asyncpg's own pool spends more on lending a connection (a task, two timers and a proxy each time) than such a call costs.
Here every call is a whole transaction, so a connection that comes back needs nothing done to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import asyncpg

from stonechat import metrics

CLOSE_SECONDS = 5.0
IDLE_SECONDS = 300.0
"""One that nobody used for longer is opened anew: what stands between may have forgotten it, and says nothing."""
_BROKEN = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError)


class HotConnections:
    """At most `size` connections, opened when first needed; who finds all of them lent waits, `wait_seconds` at most.

    Every method raises what asyncpg raises, and `TimeoutError` if no connection became free.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], *, size: int, wait_seconds: float) -> None:
        self._connect = connect
        self.size = size
        self._wait_seconds = wait_seconds
        self._room = asyncio.Semaphore(size)
        self._free: list[tuple[asyncpg.Connection, float]] = []
        """With the loop time of their return, oldest first."""

    @property
    def in_use(self) -> int:
        """How many are lent."""
        return self.size - self._room._value

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """Every row."""
        async with self.acquire() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
        return rows

    async def fetchrow(self, query: str, *args: object) -> Any:
        """The first row, or None."""
        async with self.acquire() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """The first column of the first row."""
        async with self.acquire() as connection:
            return await connection.fetchval(query, *args)

    def acquire(self) -> Lent:
        """A connection of one's own for a while: `async with connections.acquire() as connection`."""
        return Lent(self)

    async def take(self) -> asyncpg.Connection:
        """A connection, to be given back."""
        if self._room.locked():
            try:
                async with asyncio.timeout(self._wait_seconds):
                    await self._room.acquire()
            except TimeoutError:
                metrics.HOT_WAITS.of("timeout").add()
                raise
            metrics.HOT_WAITS.of("served").add()
        else:
            await self._room.acquire()
        try:
            while self._free:
                connection, since = self._free.pop()
                if asyncio.get_running_loop().time() - since > IDLE_SECONDS:
                    connection.terminate()
                elif not connection.is_closed():
                    return connection
            return await self._connect()
        except BaseException:
            self._room.release()
            raise

    def give_back(self, connection: asyncpg.Connection, error: BaseException | None) -> None:
        """Lend it to the next, unless it broke, or is at a statement still that `error` interrupted."""
        statement_failed = isinstance(error, asyncpg.PostgresError) and not isinstance(error, _BROKEN)
        if error is not None and not statement_failed:
            connection.terminate()
        if not connection.is_closed():
            self._free.append((connection, asyncio.get_running_loop().time()))
        self._room.release()

    async def close(self) -> None:
        """Close every connection, lent ones as they come back, for `CLOSE_SECONDS` at most. The next use opens new ones."""
        taken = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                while taken < self.size:
                    await self._room.acquire()
                    taken += 1
        free, self._free = self._free, []
        for connection, _ in free:
            try:
                await connection.close(timeout=CLOSE_SECONDS)
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection.terminate()
        for _ in range(taken):
            self._room.release()


class Lent:
    """One loan."""

    __slots__ = ("_connection", "_connections")

    def __init__(self, connections: HotConnections) -> None:
        self._connections = connections

    async def __aenter__(self) -> asyncpg.Connection:
        self._connection = await self._connections.take()
        return self._connection

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._connections.give_back(self._connection, error)

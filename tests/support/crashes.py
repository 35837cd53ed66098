"""A process that is killed at any boundary between itself, its database and Stripe, without a process.

Each statement, each commit, and each request to Stripe before it leaves and after it was answered is a boundary. At the chosen
one everything stops: what was not committed is rolled back, as by the server when a connection dies, and nothing is written
any more until `revive`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from sqlalchemy import event

from stonechat.db.session import Database

PATIENCE_SECONDS = 30.0
"""For the double, which answers at once, however busy the machine is."""
SHORT_PATIENCE_SECONDS = 0.25
"""Where it is to answer too late."""


class Killed(BaseException):
    """`kill -9`: no handler of errors sees it."""


class Process:
    """Counts boundaries, and dies at one of them."""

    def __init__(self) -> None:
        self.passed = 0
        self.dies_at: int | None = None
        self.dead = False

    def boundary(self, *_: Any) -> None:
        if self.dead:
            raise Killed
        self.passed += 1
        if self.passed == self.dies_at:
            self.dead = True
            raise Killed

    def start(self, *, dies_at: int | None) -> None:
        """Begin to count anew."""
        self.passed, self.dies_at, self.dead = 0, dies_at, False

    def revive(self) -> None:
        """A new process, which lives."""
        self.start(dies_at=None)


@contextmanager
def mortal(database: Database, process: Process) -> Iterator[None]:
    """Let the process die at statements and commits of this database, too."""

    def statement(_connection: Any, _cursor: Any, text: str, *_rest: Any) -> None:
        if "set_config" not in text:
            process.boundary()

    def commit(_connection: Any) -> None:
        process.boundary()

    engines = [database.engine.sync_engine, database.platform_engine.sync_engine]
    for engine in engines:
        event.listen(engine, "before_cursor_execute", statement)
        event.listen(engine, "commit", commit)
    try:
        yield
    finally:
        for engine in engines:
            event.remove(engine, "before_cursor_execute", statement)
            event.remove(engine, "commit", commit)


class MortalTransport(httpx.AsyncBaseTransport):
    """The way to Stripe: the process may die before a request leaves, and after it had its effect."""

    def __init__(self, inner: httpx.AsyncBaseTransport, process: Process) -> None:
        self._inner, self._process = inner, process
        self.patience = PATIENCE_SECONDS

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._process.boundary()
        try:
            async with asyncio.timeout(self.patience):
                response = await self._inner.handle_async_request(request)
                await response.aread()
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time", request=request) from None
        self._process.boundary()
        return response

"""Traces of turns that end while others go on: written a moment later, those of many turns in one statement.

A trace is for people who look into answers, and nothing else waits for it; by itself it cost the database a seventh of a
turn. What a process that is killed had not written yet, `WAIT_SECONDS` of it, is lost; of the turns themselves nothing is.
"""

from __future__ import annotations

import asyncio
import logging

from stonechat.assistant.trace import TurnTrace
from stonechat.chat import journal
from stonechat.chat.journal import RunKey
from stonechat.db.session import Database

WAIT_SECONDS = 0.05
MAX_WAITING = 1000
BATCH = 200
ATTEMPTS = 4

_log = logging.getLogger(__name__)


class TraceLog:
    """The traces of one process that are yet to be written."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[RunKey, TurnTrace]] = []
        self._writer: asyncio.Task[None] | None = None

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < MAX_WAITING

    def add(self, key: RunKey, trace: TurnTrace) -> None:
        """Have it written soon."""
        self._waiting.append((key, trace))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())

    async def written(self) -> None:
        """Wait until there is nothing left to write."""
        while self._writer is not None and not self._writer.done():
            await asyncio.wait([self._writer])

    async def _write(self) -> None:
        failed = 0
        while self._waiting:
            await asyncio.sleep(WAIT_SECONDS * 2**failed)
            batch = self._waiting[:BATCH]
            try:
                await journal.record_traces(self._database, batch)
            except Exception:
                failed += 1
                if failed < ATTEMPTS:
                    continue
                _log.exception("the traces of %s turns could not be written", len(batch))
            failed = 0
            del self._waiting[: len(batch)]

"""The queue's own waste: its log, its statistics, and jobs that were given up long ago."""

from __future__ import annotations

import asyncpg

CRON = "41 * * * *"
"""At an odd minute, so that nobody else's schedule has the same name."""
KEEP_LOG, KEEP_HELD, KEEP_STATISTICS = "3 days", "30 days", "30 days"
BATCH = 5000
MAX_BATCHES = 200

_STALE = (
    ("pgqueuer_log", f"created < now() - interval '{KEEP_LOG}'"),
    ("pgqueuer_statistics", f"created < now() - interval '{KEEP_STATISTICS}'"),
    ("pgqueuer", f"status = 'failed' and updated < now() - interval '{KEEP_HELD}'"),
)


async def purge(pool: asyncpg.Pool) -> int:
    """Delete what nobody will ask for again, in small batches. Returns how many rows went."""
    deleted = 0
    for table, stale in _STALE:
        for _ in range(MAX_BATCHES):
            batch = f"select id from jobs.{table} where {stale} limit {BATCH}"  # noqa: S608
            status = await pool.execute(f"delete from jobs.{table} where id in ({batch})")  # noqa: S608
            rows = int(status.split()[-1])
            deleted += rows
            if rows < BATCH:
                break
    return deleted

"""The queue throws away what nobody will ask for again, and nothing else."""

from __future__ import annotations

import asyncpg

from stonechat.jobs import purge
from support.postgres import TestDatabase


async def test_old_log_rows_and_long_held_jobs_go(test_database: TestDatabase) -> None:
    pool = await asyncpg.create_pool(test_database.admin_url, min_size=1, max_size=1)
    try:
        await pool.execute("""
            insert into jobs.pgqueuer_log (created, job_id, status, priority, entrypoint)
            values (now() - interval '4 days', 1, 'successful', 0, 'purge-old'), (now(), 2, 'successful', 0, 'purge-new')
            """)
        await pool.execute("""
            insert into jobs.pgqueuer (updated, priority, status, entrypoint) values
            (now() - interval '40 days', 0, 'failed', 'purge-old'), (now() - interval '40 days', 0, 'queued', 'purge-new'),
            (now(), 0, 'failed', 'purge-new')
            """)
        assert await purge.purge(pool) >= 2
        for table, kept in (("pgqueuer_log", 1), ("pgqueuer", 2)):
            rows = await pool.fetch(f"select entrypoint from jobs.{table} where entrypoint like 'purge-%'")
            assert [row["entrypoint"] for row in rows] == ["purge-new"] * kept
    finally:
        await pool.close()

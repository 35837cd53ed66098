"""A job that kills its worker is stopped, and does not take other jobs with it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from uuid import UUID, uuid4

import stonechat
from stonechat.db.session import Database
from stonechat.jobs import enqueue
from stonechat.jobs.attempts import MAX_CRASHES
from support import poison_worker
from support.jobs import jobs_of, until
from support.postgres import TestDatabase

WORKER = Path(poison_worker.__file__)


async def test_a_job_that_kills_its_worker_is_held_and_the_others_are_done(
    database: Database, test_database: TestDatabase, tenant_id: UUID
) -> None:
    kind = f"poison-{uuid4().hex[:8]}"
    async with database.tenant(tenant_id) as session:
        await enqueue(session, tenant_id, kind, {"die": True})
        for n in range(3):
            await enqueue(session, tenant_id, kind, {"n": n})

    deaths, said = 0, ""
    while "gave up" not in said:
        assert deaths <= MAX_CRASHES, "the job goes on killing"
        code, said_now = await _work_until_it_dies_or_gives_up(test_database, kind)
        said += said_now
        deaths += code == -signal.SIGKILL

    assert deaths == MAX_CRASHES
    assert "The worker died 3 times" in said
    assert {line for line in said.splitlines() if line.startswith("done")} == {"done 0", "done 1", "done 2"}
    assert [job["status"] for job in await jobs_of(test_database.admin_url, kind)] == ["failed"]


async def _work_until_it_dies_or_gives_up(test_database: TestDatabase, kind: str) -> tuple[int | None, str]:
    async def is_written_down() -> bool:
        return [job["status"] for job in await jobs_of(test_database.admin_url, kind)] == ["failed"]

    sources = str(Path(stonechat.__file__).parent.parent)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(WORKER), test_database.web_url, kind,
        env=os.environ | {"PYTHONPATH": sources},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    said = ""
    try:
        async with asyncio.timeout(60):
            while line := (await process.stdout.readline()).decode():
                said += line
                if "gave up" in said and said.count("done") >= 3:
                    await until(is_written_down)  # a moment after it is spoken
                    process.terminate()
            return await process.wait(), said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

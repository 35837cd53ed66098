"""A sample of `make prove-index`: random changes and three kills of the worker, with a watcher that searches all the time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from support.index_storm import Storm, Worker
from support.index_worker import line_of
from support.postgres import migrated_database


async def test_index_and_postgres_agree_after_random_changes_and_kills(postgres_admin_url: str, tmp_path: Path) -> None:
    async with migrated_database(postgres_admin_url, f"stonechat_storm_{os.getpid()}") as database:
        found = await Storm(database.web_url, tmp_path, seed=5).run(steps=60, kills=3)
    assert (found.wrong_answers, found.disagreements, found.unread, found.mended) == ([], [], [], 0)
    assert (found.steps, found.kills) == (60, 3)
    assert found.mid_job > 0
    assert found.searches > 20
    assert found.passages > 50


@pytest.mark.parametrize("cut", [1, 5])
async def test_a_line_that_a_kill_cut_short_does_not_hide_the_next_worker(tmp_path: Path, cut: int) -> None:
    worker, output = Worker("", tmp_path), asyncio.StreamReader()
    output.feed_data((line_of({"number": 12, "found": []})[:-cut] + line_of({"ready": 4711})).encode())
    output.feed_eof()
    await worker._read(output)
    assert worker._pid == 4711
    assert worker._ready.is_set()

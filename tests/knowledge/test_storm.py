"""A sample of `make prove-index`: random changes and three kills of the worker, with a watcher that searches all the time."""

from __future__ import annotations

import os
from pathlib import Path

from support.index_storm import Storm
from support.postgres import migrated_database


async def test_index_and_postgres_agree_after_random_changes_and_kills(postgres_admin_url: str, tmp_path: Path) -> None:
    async with migrated_database(postgres_admin_url, f"stonechat_storm_{os.getpid()}") as database:
        found = await Storm(database.web_url, tmp_path, seed=5).run(steps=60, kills=3)
    assert (found.wrong_answers, found.disagreements, found.unread, found.mended) == ([], [], [], 0)
    assert (found.steps, found.kills) == (60, 3)
    assert found.mid_job > 0
    assert found.searches > 20
    assert found.passages > 50

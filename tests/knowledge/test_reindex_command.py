"""`stonechat reindex`: in this process where nobody owns the index, else by a job of the one who does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from stonechat import reindex
from stonechat.errors import NotFound
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.index_edge import EdgeIndex
from stonechat.local import IndexLock
from stonechat.settings import Settings
from support.knowledge import run_jobs, upload
from support.postgres import TestDatabase


@pytest.fixture
def settings(test_database: TestDatabase, tmp_path: Path) -> Settings:
    """A folder of its own, with an index that is empty."""
    changed = {"database_url": test_database.web_url, "data_dir": tmp_path / "other", "qdrant_url": None}
    return Settings().model_copy(update=changed)


async def test_it_is_done_here_where_nothing_runs(knowledge: Knowledge, tenant_id: UUID, settings: Settings) -> None:
    await upload(knowledge, tenant_id, "Some words.", filename="a.md")
    said: list[str] = []
    await reindex.reindex_all(settings, tenant_id, say=said.append)
    assert said == [f"{tenant_id}: 1 passages written"]
    index = EdgeIndex(settings.data_dir / "index")
    assert await index.count(tenant_id) == 1
    await index.close()
    with pytest.raises(NotFound):
        await reindex.reindex_all(settings, uuid4(), say=said.append)


async def test_it_is_asked_of_the_one_who_runs(
    knowledge: Knowledge, tenant_id: UUID, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "LOOK_SECONDS", 0.05)
    await upload(knowledge, tenant_id, "Some words.", filename="a.md")
    await knowledge.index.drop_tenant(tenant_id)
    said: list[str] = []
    with IndexLock(settings.data_dir):
        asking = asyncio.create_task(reindex.reindex_all(settings, tenant_id, say=said.append))
        async with asyncio.timeout(20):
            while not await run_jobs(knowledge, tenant_id):
                await asyncio.sleep(0.02)
            await asking
    assert said[-1] == f"{tenant_id}: 1 passages written"
    assert await knowledge.index.count(tenant_id) == 1
    assert not (settings.data_dir / "index").exists()

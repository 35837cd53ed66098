"""Sources are fetched again by the clock, each tenant's in its turn."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from stonechat import clock
from stonechat.accounts.actor import system
from stonechat.knowledge.web import runs, service
from support.site import Crawl, html


async def test_sources_are_synced_by_the_clock(crawl: Crawl) -> None:
    crawl.site.pages["/"] = html("Start")
    source = await crawl.crawl("http://shop.example/", "url", schedule="weekly")
    assert source.next_sync_at is not None
    assert timedelta(days=6) < source.next_sync_at - clock.now() <= timedelta(days=7)
    database = crawl.knowledge.database
    async with database.tenant(crawl.tenant_id) as session:
        (await session.merge(source)).next_sync_at = clock.now() - timedelta(minutes=1)
    crawl.site.pages["/"] = html("Start afresh")
    await service.start_due_syncs(database)
    source = await crawl.work(source.source_id)
    assert service.progress_of(source).changed == 1
    assert source.next_sync_at is not None
    assert source.next_sync_at > clock.now()
    async with database.tenant(crawl.tenant_id) as session:
        source = await service.update_source(session, system(crawl.tenant_id), source_id=source.source_id, schedule="never")  # fmt: skip
    assert source.next_sync_at is None


async def test_what_cannot_be_started_does_not_keep_others_waiting(
    crawl: Crawl, make_tenant: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database, other = crawl.knowledge.database, await make_tenant()
    broken = [await crawl.add(f"http://shop.example/{n}", "url", schedule="daily") for n in range(2)]
    well = replace(crawl, tenant_id=other)
    ours = await well.add("http://shop.example/a", "url", schedule="daily")

    async def due() -> None:
        for tenant, days in ((crawl.tenant_id, 2000), (other, 1000)):  # before whatever else is due here
            moment = f"now() - interval '{days} days'"
            async with database.tenant(tenant) as session:
                ended = "status = 'ready', sync_id = null"
                await session.execute(text(f"update sources set next_sync_at = {moment}, {ended}"))

    begin = runs.begin

    async def begun(session: Any, source: Any) -> bool:
        if source.tenant_id == crawl.tenant_id:
            raise ValueError("cannot be begun")
        return await begin(session, source)

    monkeypatch.setattr(runs, "begin", begun)
    monkeypatch.setattr(service, "MAX_DUE", 1)
    await due()
    assert [await service.start_due_syncs(database) for _ in range(3)] == [0, 0, 1]
    assert (await well.source(ours)).status == "syncing"
    assert "could not start the sync" in caplog.text
    postponed = [(await crawl.source(each)).next_sync_at for each in broken]
    assert all(at is not None and at > clock.now() for at in postponed), "tried again later"
    await due()
    monkeypatch.setattr(service, "MAX_DUE", 2)
    assert await service.start_due_syncs(database) == 1, "one of each, however many a tenant has"

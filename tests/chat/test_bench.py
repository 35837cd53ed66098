"""The benchmark measures both sides, reports what it found, and leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from stonechat.bench import run_bench
from stonechat.bench.report import table
from stonechat.bench.seed import grow_thread, prepare, tidy
from stonechat.db.session import Database
from stonechat.settings import Settings
from support.postgres import TestDatabase


@pytest.fixture
def settings(test_database: TestDatabase) -> Settings:
    return Settings().model_copy(update={"database_url": test_database.web_url, "secret_keys": (SecretStr("x" * 40),)})


async def _left_behind(settings: Settings) -> int:
    database = Database(str(settings.database_url), pool_size=2)
    try:
        async with database.platform() as session:
            return int(await session.scalar(text("select count(*) from tenants where name = 'Benchmark'")) or 0)
    finally:
        await database.close()


@pytest.mark.slow
async def test_the_benchmark_reports_both_sides(settings: Settings) -> None:
    said: list[str] = []
    report = await asyncio.to_thread(run_bench, settings, only=["agent"], rounds=1, seconds=0.3, say=said.append)
    assert report["agent"]["ratio"] > 0
    for side in ("plain", "stonechat"):
        measured = report["agent"][side]
        assert measured["turns"] > 0
        assert measured["events_per_cpu_second"] > measured["turns_per_cpu_second"] > 0
        assert measured["first_event_ms_p99"] >= measured["first_event_ms_p50"] > 0
    assert said
    assert "whole_answer_ms_p50" in table(report)
    assert await _left_behind(settings) == 0


async def test_threads_grow_as_asked_and_are_taken_away(settings: Settings) -> None:
    visitors = await prepare(settings)
    try:
        thread_id = await grow_thread(settings, visitors, items=25)
        database = Database(str(settings.database_url), pool_size=2)
        try:
            async with database.tenant(visitors.tenant_id, user_id=visitors.user_id(0)) as session:
                found = await session.scalar(
                    text("select count(*) from thread_items where thread_id = :thread"), {"thread": thread_id}
                )
        finally:
            await database.close()
        assert found == 25
    finally:
        await tidy(settings, visitors.tenant_id)
    assert await _left_behind(settings) == 0

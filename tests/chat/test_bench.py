"""The benchmark measures both sides and reports what it found."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from stonechat.bench import run_bench
from stonechat.settings import Settings
from support.postgres import TestDatabase


@pytest.mark.slow
async def test_the_benchmark_reports_both_sides(test_database: TestDatabase) -> None:
    settings = Settings().model_copy(
        update={"database_url": test_database.web_url, "secret_keys": (SecretStr("x" * 40),)}
    )
    report = await asyncio.to_thread(run_bench, settings, rounds=1, seconds=0.3, kinds=["agent"])
    assert report["agent"]["ratio"] > 0
    for side in ("plain", "stonechat"):
        measured = report["agent"][side]
        assert measured["turns"] > 0
        assert measured["first_event_ms_p99"] >= measured["first_event_ms_p50"] > 0

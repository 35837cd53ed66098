"""`stonechat serve` and `stonechat worker` as they are started: each answers Prometheus on its own port, with what it did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from stonechat import __version__
from support.postgres import migrated_database
from support.running import START_SECONDS, STONECHAT, environment, free_port


@asynccontextmanager
async def process(command: str, folder: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`stonechat <command>`; asked to end at the end, and it does."""
    with (folder / f"{command}.log").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            str(STONECHAT), command, stdout=log, stderr=log, env=environment(folder, **variables)
        )
    try:
        yield started
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), 60) == 0, (folder / f"{command}.log").read_text()[-2000:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.kill()
        await started.wait()


async def read(http: httpx.AsyncClient, port: int, running: asyncio.subprocess.Process) -> dict[str, Metric]:
    """What Prometheus reads there, as soon as it is there."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            assert running.returncode is None
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(f"http://127.0.0.1:{port}/metrics")
                assert answer.status_code == 200, answer.text
                return {family.name: family for family in text_string_to_metric_families(answer.text)}
            await asyncio.sleep(0.1)


def ours(families: dict[str, Metric]) -> Iterator[Metric]:
    return (family for name, family in families.items() if name.startswith("stonechat_"))


async def test_both_tell_prometheus_of_themselves(postgres_admin_url: str, tmp_path: Path) -> None:
    async with (
        migrated_database(postgres_admin_url, f"stonechat_metrics_{os.getpid()}") as database,
        httpx.AsyncClient(trust_env=False, timeout=30) as http,
    ):
        port, metrics_ports = free_port(), {"serve": free_port(), "worker": free_port()}
        shared = {
            "STONECHAT_ENV": "development",
            "STONECHAT_SECRET_KEYS": "x" * 40,
            "DATABASE_URL": database.web_url,
            "QDRANT_URL": "http://127.0.0.1:9",  # nothing here asks the index
            "PORT": str(port),
        }
        async with (
            process("serve", tmp_path, STONECHAT_METRICS_PORT=str(metrics_ports["serve"]), **shared) as serve,
            process("worker", tmp_path, STONECHAT_METRICS_PORT=str(metrics_ports["worker"]), **shared) as worker,
        ):
            told = {
                "serve": await read(http, metrics_ports["serve"], serve),
                "worker": await read(http, metrics_ports["worker"], worker),
            }
            assert (await http.get(f"http://127.0.0.1:{port}/api/v1/agents")).status_code == 401
            assert (await http.get(f"http://127.0.0.1:{port}/metrics")).status_code == 404
            after = await read(http, metrics_ports["serve"], serve)
        for families in told.values():
            (build,) = families["stonechat_build_info"].samples
            assert (build.labels, build.value) == ({"version": __version__}, 1)
            assert families["process_resident_memory_bytes"].samples[0].value > 0
            for family in ours(families):
                assert family.type in ("counter", "gauge", "histogram"), family.name
                assert family.documentation.endswith("."), "as HELP says"
        refused = {"route": "/api/v1/agents", "method": "GET", "status": "4xx"}
        counted = after["stonechat_http_requests"].samples
        assert [each.value for each in counted if each.labels == refused and each.name.endswith("_total")] == [1]
        assert "stonechat_meter_outbox_waiting" in told["worker"], "what only workers tell"
        assert not told["serve"].get("stonechat_meter_outbox_waiting", Metric("x", "", "gauge")).samples

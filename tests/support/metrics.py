"""A platform with a metrics port, and somebody who reads it as Prometheus would."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from stonechat.app import create_app
from stonechat.db.session import Database
from stonechat.scraping import answering_metrics
from stonechat.settings import Settings
from support.platform import Platform, platform_of
from support.postgres import TestDatabase

Sample = tuple[str, frozenset[tuple[str, str]]]


def sample(name: str, **labels: str) -> Sample:
    return name, frozenset(labels.items())


@dataclass
class Reader:
    """Reads a metrics port over the loopback."""

    http: httpx.AsyncClient

    async def text(self) -> str:
        answer = await self.http.get("/metrics")
        assert answer.status_code == 200, answer.text
        return answer.text

    async def samples(self) -> dict[Sample, float]:
        families = text_string_to_metric_families(await self.text())
        return {
            sample(each.name, **each.labels): each.value
            for family in families
            for each in family.samples
            if each.name.startswith("stonechat_")
        }


@dataclass
class Measured:
    platform: Platform
    reader: Reader


def a_port() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@asynccontextmanager
async def reading(listener: socket.socket) -> AsyncIterator[Reader]:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as http:
        yield Reader(http)


@asynccontextmanager
async def open_measured(database: TestDatabase, folder: Path, **changes: Any) -> AsyncIterator[Measured]:
    """The application as `serve` opens it, with a port for Prometheus, and a tenant."""
    settings = Settings().model_copy(
        update={
            "environment": "development",
            "secret_keys": (SecretStr("x" * 40),),
            "database_url": database.web_url,
            "data_dir": folder,
            "outbound_allowed": ("127.0.0.0/8",),
            **changes,
        }
    )
    listener = a_port()
    app = create_app(settings, metrics_port=listener)
    async with app.router.lifespan_context(app), platform_of(app) as platform, reading(listener) as reader:
        yield Measured(platform, reader)


@asynccontextmanager
async def worker_read(database: Database) -> AsyncIterator[Reader]:
    """The port of a process that does jobs."""
    listener = a_port()
    async with answering_metrics(listener, database=database, works=True), reading(listener) as reader:
        yield reader

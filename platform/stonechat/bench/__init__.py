"""`stonechat bench`: this server beside a minimal in-memory ChatKit server, measured in the same minutes.

    core     the chat core, both sides with the same scripted `respond` of fifty deltas
    agent    the whole path of an answer, both sides through the Agents SDK's Runner with the same fake model
    streams  a thousand streams at once: their memory, and whether they keep a pace of twenty events a second
    growth   an answer's time as a thread grows to 10,000 items and a tenant to a million

Each side is one process on the loopback, driven by a process of its own; rounds alternate, and a ratio is the median of
the rounds'. Ours is the whole application with Postgres, row-level security, session tokens and limits on; the other keeps
everything in dictionaries and asks nobody who they are.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from stonechat import clock
from stonechat.bench.parts import Say, measure_growth, measure_streams, measure_turns
from stonechat.bench.seed import CONNECTIONS, prepare, tidy
from stonechat.errors import Unavailable
from stonechat.settings import Settings

PARTS = ("core", "agent", "streams", "growth")
_LIBRARIES = ("openai-chatkit", "openai-agents", "uvicorn", "uvloop", "asyncpg", "pydantic")


def run_bench(
    settings: Settings,
    *,
    only: Sequence[str] = PARTS,
    rounds: int = 5,
    seconds: float = 2.0,
    streams: int = 1000,
    items: int = 1_000_000,
    long_thread: int = 10_000,
    latency_turns: int = 60,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Measure the parts named in `only`. `settings` name a migrated database and at least one secret key.

    `say` is told of the progress. What is written into the database is taken away again.
    """
    if settings.database_url is None or not settings.secret_keys:
        raise Unavailable("The benchmark needs a database and a secret key.")
    visitors = asyncio.run(prepare(settings))
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "core": lambda: measure_turns(settings, visitors, "core", rounds=rounds, seconds=seconds, say=say),
        "agent": lambda: measure_turns(settings, visitors, "agent", rounds=rounds, seconds=seconds, say=say),
        "streams": lambda: measure_streams(settings, visitors, streams=streams, say=say),
        "growth": lambda: measure_growth(
            settings, visitors, items=items, long_thread=long_thread, turns=latency_turns, say=say
        ),
    }
    loads = [os.getloadavg()[0]]
    try:
        measured = {part: measures[part]() for part in PARTS if part in only}
    finally:
        asyncio.run(tidy(settings, visitors.tenant_id))
    loads.append(os.getloadavg()[0])
    return {
        "measured_at": clock.rfc3339(clock.now()),
        "machine": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "system": platform.platform(),
            "load_before_and_after": [round(each, 2) for each in loads],
        },
        "versions": {name: version(name) for name in _LIBRARIES},
        "connections": CONNECTIONS,
        "rounds": rounds,
        "seconds_a_round": seconds,
        **measured,
    }

"""`stonechat bench`: this server beside a minimal in-memory ChatKit server, measured in the same minutes.

    core    the chat core, both sides with the same scripted `respond` of fifty deltas
    agent   the whole path of an answer, both sides through the Agents SDK's Runner with the same fake model

Each side is one process on the loopback, driven over sixteen connections by a process of its own; rounds alternate, and a
ratio is the median of the rounds'. Ours is the whole application with Postgres, row-level security, session tokens and
limits on; the other keeps everything in dictionaries and asks nobody who they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from typing import Any
from uuid import UUID

from sqlalchemy import text

from stonechat import clock, ids
from stonechat.crypto.keyring import Keyring
from stonechat.db.session import Database
from stonechat.errors import Unavailable
from stonechat.identity.caller import Caller
from stonechat.identity.tokens import SessionTokens
from stonechat.limits.rules import AgentRules, LimitRules, TenantRules, VisitorRules
from stonechat.settings import Settings

CONNECTIONS = 16
GOALS = {"core": 3.0, "agent": 1.5}
_ORIGIN = "http://127.0.0.1:8000"
_START_SECONDS = 60
_CONFIG = {"name": "Bench", "model": "scripted", "instructions": "Be helpful.", "knowledge": {"enabled": False}}
_MANY = 100_000


def run_bench(
    settings: Settings, *, rounds: int = 5, seconds: float = 3.0, kinds: Sequence[str] = tuple(GOALS)
) -> dict[str, Any]:
    """Measure the kinds on both sides. `settings` name a migrated database and at least one secret key."""
    if settings.database_url is None or not settings.secret_keys:
        raise Unavailable("The benchmark needs a database and a secret key.")
    caller = asyncio.run(_prepare(settings.database_url))
    try:
        tokens = _tokens(settings, caller)
        measured = {kind: _measure(settings, kind, tokens, rounds=rounds, seconds=seconds) for kind in kinds}
    finally:
        asyncio.run(_tidy(settings.database_url, caller.tenant_id))
    names = ("openai-chatkit", "openai-agents", "uvicorn", "uvloop", "asyncpg", "pydantic")
    return {
        "measured_at": clock.rfc3339(clock.now()),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "versions": {name: version(name) for name in names},
        "connections": CONNECTIONS,
        "rounds": rounds,
        "seconds_a_round": seconds,
        **measured,
    }


def _measure(settings: Settings, kind: str, tokens: list[str], *, rounds: int, seconds: float) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {"plain": [], "stonechat": []}
    with ExitStack() as stack:
        starting = {side: stack.enter_context(_server(settings, side, kind)) for side in found}
        ports = {side: port() for side, port in starting.items()}
        sent: dict[str, list[Any]] = {"plain": [None] * CONNECTIONS, "stonechat": tokens}
        for side, port in ports.items():  # warm up
            _load(port, sent[side], min(seconds, 1.0))
        for number in range(rounds):
            order = list(ports) if number % 2 == 0 else list(ports)[::-1]
            for side in order:
                found[side].append(_load(ports[side], sent[side], seconds))
    rates = {side: [each["turns"] / each["seconds"] for each in results] for side, results in found.items()}
    ratios = [ours / theirs for ours, theirs in zip(rates["stonechat"], rates["plain"], strict=True)]
    ratio = statistics.median(ratios)
    return {
        "ratio": round(ratio, 2),
        "ratio_by_round": [round(each, 2) for each in ratios],
        "goal": GOALS[kind],
        "reached": ratio >= GOALS[kind],
        **{side: _summary(rates[side], results) for side, results in found.items()},
    }


def _summary(rates: list[float], results: list[dict[str, Any]]) -> dict[str, float]:
    first = sorted(value for each in results for value in each["first_event"])
    whole = sorted(value for each in results for value in each["whole_answer"])
    return {
        "turns_per_second": round(statistics.median(rates), 1),
        "first_event_ms_p50": _ms(first, 0.50),
        "first_event_ms_p99": _ms(first, 0.99),
        "whole_answer_ms_p50": _ms(whole, 0.50),
        "whole_answer_ms_p99": _ms(whole, 0.99),
        "turns": len(first),
    }


def _ms(ordered: list[float], part: float) -> float:
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)] * 1000, 1)


@contextmanager
def _server(settings: Settings, side: str, kind: str) -> Iterator[Callable[[], int]]:
    """A server process; yields what waits for its port."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        environment = os.environ | {
            "STONECHAT_ENV": "development",
            "DATABASE_URL": str(settings.database_url),
            "STONECHAT_SECRET_KEYS": ",".join(key.get_secret_value() for key in settings.secret_keys),
            "STONECHAT_PUBLIC_URL": _ORIGIN,
            "STONECHAT_IP_REQUESTS_PER_MINUTE": str(10**9),  # set, so that addresses are counted as in production
            "STONECHAT_DATA_DIR": folder,
        }
        process = subprocess.Popen(  # noqa: S603  our own interpreter and module
            [sys.executable, "-W", "ignore", "-m", "stonechat.bench.server", side, kind],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

        def port() -> int:
            assert process.stdout is not None  # noqa: S101
            line = process.stdout.readline()
            if not line.strip().isdigit():
                log.seek(0)
                raise Unavailable(f"The server “{side} {kind}” did not start: {log.read()[-2000:]}")
            return int(line)

        try:
            yield port
        finally:
            process.terminate()
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _load(port: int, tokens: list[Any], seconds: float) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "stonechat.bench.load"],
        input=json.dumps({"port": port, "tokens": tokens, "seconds": seconds}),
        capture_output=True,
        text=True,
        timeout=seconds + _START_SECONDS,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"The load could not be run: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


async def _prepare(database_url: str) -> Caller:
    """A tenant with a published agent, and limits so high that they count but do not bind."""
    tenant_id, agent_id = ids.new_tenant_id(), ids.new_id("agt")
    rules = LimitRules(
        visitor=VisitorRules(messages_per_minute=_MANY, concurrent=100),
        agent=AgentRules(messages_per_minute=_MANY),
        tenant=TenantRules(messages_per_minute=_MANY),
    )
    values = {"t": tenant_id, "a": agent_id, "c": json.dumps(_CONFIG), "r": rules.model_dump_json()}
    database = Database(database_url, pool_size=2)
    try:
        async with database.tenant(tenant_id) as session:
            for statement in (
                "insert into tenants (tenant_id, name) values (:t, 'Benchmark')",
                "insert into agents (tenant_id, agent_id, name, draft, published_version) "
                "values (:t, :a, 'Bench', cast(:c as jsonb), 1)",
                "insert into agent_versions (tenant_id, agent_id, version, config, published_by) "
                "values (:t, :a, 1, cast(:c as jsonb), 'system')",
                "insert into limit_rules (tenant_id, rules) values (:t, cast(:r as jsonb))",
            ):
                await session.execute(text(statement), {key: values[key] for key in "tacr" if f":{key}" in statement})
    finally:
        await database.close()
    return Caller(tenant_id=tenant_id, user_id="usr_bench", agent_id=agent_id, origin=_ORIGIN)


async def _tidy(database_url: str, tenant_id: UUID) -> None:
    database = Database(database_url, pool_size=2)
    try:
        async with database.tenant(tenant_id) as session:
            await session.execute(text("delete from tenants where tenant_id = :t"), {"t": tenant_id})
    finally:
        await database.close()


def _tokens(settings: Settings, caller: Caller) -> list[str]:
    """A session for each connection, each of another visitor."""
    signer = SessionTokens(Keyring([key.get_secret_value() for key in settings.secret_keys]), issuer=_ORIGIN)
    return [
        signer.mint(Caller(caller.tenant_id, f"{caller.user_id}_{number}", caller.agent_id, origin=caller.origin))[0]
        for number in range(CONNECTIONS)
    ]

"""One tenant's model hangs: how much slower do other tenants' answers get?"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from sqlalchemy import text

from stonechat import ids
from stonechat.assistant.agent import Assistant
from stonechat.chat.hub import RunHub
from stonechat.chat.resume import tail
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.outbound.client import OutboundClient
from stonechat.outbound.transport import MAX_CONNECTIONS
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import FakeKnowledge, model_providers
from support.chat import caller_of, create
from support.loopback import Received
from support.postgres import admin_server, migrated_database
from support.sites import Site, open_site

ALLOWED = 1.2
WORDS = [f"word{number} " for number in range(20)]


def choose(request: Received) -> list[bytes]:
    return [host.SILENCE] if json.loads(request.body)["model"] == "hangs" else host.responses_text(*WORDS)


async def tenant(database: Database, model: str) -> Site:
    tenant_id = ids.new_tenant_id()
    async with database.tenant(tenant_id) as session:
        await session.execute(text("insert into tenants (tenant_id, name) values (:id, 'T')"), {"id": tenant_id})
    return await open_site(database, tenant_id, model=f"openai/{model}", api_key="sk-own")


async def turns(server: ChatServer, sites: Sequence[Site], *, count: int, at_once: int) -> list[float]:
    """The seconds of `count` whole turns of these tenants, a few of them at once."""
    seconds: list[float] = []
    waiting = iter(range(count))

    async def visitor() -> None:
        for number in waiting:
            site = sites[number % len(sites)]
            began = time.perf_counter()
            run = await server.start(create(), caller_of(site.tenant_id, f"usr_{number}", agent_id=site.agent_id))
            async for _ in tail(run, after=0):
                pass
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(visitor() for _ in range(at_once)))
    return seconds


def p95(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=20)[-1]


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Rounds of turns without and with hanging ones beside them, in turn, so that the machine's moods cancel out."""
    outbound = OutboundClient(allowed_networks=Settings(outbound_allowed=("127.0.0.0/8",)).outbound_networks)
    quiet: list[float] = []
    beside: list[float] = []
    ratios: list[float] = []
    stuck = 0
    with tempfile.TemporaryDirectory() as folder:
        async with (
            admin_server(Path(folder)) as admin_url,
            migrated_database(admin_url, f"stonechat_prove_{time.time_ns()}") as made,
            host.fake_openai(choose=choose) as fake,
        ):
            database = Database(made.web_url, pool_size=10)
            async with model_providers(
                database,
                openai_base_url=fake.url,
                http_client=lambda url: outbound.httpx_client(url, allow_http=True),
            ) as providers:
                assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())
                hub = RunHub(database)
                server = ChatServer(hub, assistant)
                slow, *others = [await tenant(database, "hangs"), *[await tenant(database, "quick") for _ in range(4)]]
                await turns(server, others, count=60, at_once=options.at_once)
                for _ in range(options.rounds):
                    before = await turns(server, others, count=options.turns, at_once=options.at_once)
                    hanging = [
                        await server.start(create(), caller_of(slow.tenant_id, f"usr_{number}", agent_id=slow.agent_id))
                        for number in range(options.hanging)
                    ]
                    stuck += min(options.hanging, MAX_CONNECTIONS)  # the host does not notice who leaves it
                    while fake.hanging < stuck:
                        await asyncio.sleep(0.02)
                    during = await turns(server, others, count=options.turns, at_once=options.at_once)
                    assert not any(run.finished for run in hanging), "the hanging turns must hang all the while"
                    for run in hanging:
                        run.stop("cancelled")
                    await asyncio.gather(*(run.task for run in hanging if run.task is not None))
                    quiet += before
                    beside += during
                    ratios.append(p95(during) / p95(before))
                await hub.close()
            await database.close()
    await outbound.aclose()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip(),
        "hanging_turns": options.hanging,
        "turns_each": len(quiet),
        "p50_ms": {"alone": _ms(statistics.median(quiet)), "beside_hanging": _ms(statistics.median(beside))},
        "p95_ms": {"alone": _ms(p95(quiet)), "beside_hanging": _ms(p95(beside))},
        "ratio_p95": round(p95(beside) / p95(quiet), 3),
        "ratio_p95_of_rounds": [round(ratio, 3) for ratio in ratios],
        "allowed": ALLOWED,
    }


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hanging", type=int, default=100)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=4)
    result = asyncio.run(measure(parser.parse_args()))
    print(json.dumps(result, indent=2))
    sys.exit(result["ratio_p95"] > ALLOWED)


if __name__ == "__main__":
    main()

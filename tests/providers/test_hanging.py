"""A model that hangs takes up its own tenant's room: everyone else's answers come as if it were not there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stonechat.assistant.agent import Assistant
from stonechat.chat import hub as hub_module
from stonechat.chat.hub import RunHub
from stonechat.chat.resume import tail
from stonechat.chat.runs import Run
from stonechat.chat.turns import ChatServer
from stonechat.db.session import Database
from stonechat.errors import TooManyConcurrent
from stonechat.outbound import policy
from stonechat.outbound.client import OutboundClient
from stonechat.outbound.policy import system_resolver
from stonechat.settings import Settings
from support import fake_openai as host
from support.assistant import FakeKnowledge, model_providers
from support.chat import caller_of, create, decode, spoken
from support.loopback import Received
from support.sites import Site, open_site

HANGING = 50


@pytest.fixture
async def hub(database: Database) -> AsyncIterator[RunHub]:
    opened = RunHub(database)
    yield opened
    await opened.close()


async def ask(server: ChatServer, site: Site, visitor: int = 0) -> Run:
    return await server.start(
        create("What is it?"), caller_of(site.tenant_id, f"usr_{visitor}", agent_id=site.agent_id)
    )


@pytest.mark.parametrize("key", ["own", "platform"])
async def test_answers_come_while_another_tenants_model_hangs(
    database: Database, make_tenant: Any, hub: RunHub, key: str
) -> None:
    """With keys of their own, and where both use the platform's."""

    def choose(request: Received) -> list[bytes]:
        return [host.SILENCE] if json.loads(request.body)["model"] == "hangs" else host.responses_text("Nine.")

    async with (
        host.fake_openai(choose=choose) as fake,
        model_providers(database, openai_base_url=fake.url, platform_key="sk-platform") as providers,
    ):
        own = "sk-own" if key == "own" else None
        slow = await open_site(database, await make_tenant(), model="openai/hangs", api_key=own)
        quick = await open_site(database, await make_tenant(), model="openai/quick", api_key=own)
        assistant = Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings())
        server = ChatServer(hub, assistant)
        hanging = [await ask(server, slow, number) for number in range(HANGING)]
        while fake.hanging < HANGING:
            await asyncio.sleep(0.01)
        for run in await asyncio.gather(*(ask(server, quick, number) for number in range(20))):
            events = decode(b"".join([chunk async for chunk in tail(run, after=0)]))
            assert spoken(events) == "Nine."
        assert fake.hanging == HANGING
        assert not any(run.finished for run in hanging)
        for run in hanging:
            run.stop("cancelled")


async def test_a_pool_that_is_used_up_is_the_tenants_own(
    database: Database, make_tenant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More requests hang than one client may have connections: the others wait, and nobody else does."""
    monkeypatch.setattr("stonechat.outbound.transport.MAX_CONNECTIONS", 4)
    outbound = OutboundClient(allowed_networks=Settings(outbound_allowed=("127.0.0.0/8",)).outbound_networks)

    def choose(request: Received) -> list[bytes]:
        return [host.SILENCE] if json.loads(request.body)["model"] == "hangs" else host.responses_text("Nine.")

    async with (
        host.fake_openai(choose=choose) as fake,
        model_providers(
            database,
            openai_base_url=fake.url,
            platform_key="sk-platform",
            http_client=lambda url: outbound.httpx_client(url, allow_http=True),
        ) as providers,
    ):
        slow = await open_site(database, await make_tenant(), model="openai/hangs")
        quick = await open_site(database, await make_tenant(), model="openai/quick")
        hub = RunHub(database)
        server = ChatServer(hub, Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings()))
        for number in range(8):
            await ask(server, slow, number)
        while fake.hanging < 4:
            await asyncio.sleep(0.01)
        run = await ask(server, quick)
        assert spoken(decode(b"".join([chunk async for chunk in tail(run, after=0)]))) == "Nine."
        assert fake.hanging == 4, "no more than a client's share"
        await hub.close()
    await outbound.aclose()


async def test_a_tenant_leaves_as_much_room_for_runs_as_it_takes(
    database: Database, make_tenant: Any, hub: RunHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_RUNS", 12)
    async with (
        host.fake_openai([host.SILENCE]) as fake,
        model_providers(database, openai_base_url=fake.url) as providers,
    ):
        sites = [
            await open_site(database, await make_tenant(), model="openai/hangs", api_key="sk-own") for _ in range(3)
        ]
        server = ChatServer(hub, Assistant(knowledge=FakeKnowledge(), providers=providers, settings=Settings()))

        async def fill(site: Site) -> int:
            for taken in range(13):
                try:
                    await ask(server, site, taken)
                except TooManyConcurrent:
                    return taken
            raise AssertionError("there was no bound")

        assert [await fill(site) for site in sites] == [6, 3, 2]
        assert len(hub) < 12, "there is always room for one who comes later"


async def test_a_slow_name_server_is_asked_once_for_each_host(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    release = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look_up(name: str) -> list[str]:
        asked.append(name)
        if name == "slow.example":
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)
        return ["192.0.2.1"]

    monkeypatch.setattr(policy, "_look_up", look_up)
    waiting = [asyncio.create_task(system_resolver("slow.example")) for _ in range(100)]
    assert await asyncio.wait_for(system_resolver("quick.example"), 30) == ["192.0.2.1"]
    waiting[0].cancel()
    release.set()
    assert await asyncio.gather(*waiting[1:]) == [["192.0.2.1"]] * 99
    assert sorted(asked) == ["quick.example", "slow.example"]
    await system_resolver("slow.example")
    assert len(asked) == 3, "nothing is kept: each connection looks again"

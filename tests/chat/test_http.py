"""The route: streams that hold no database connection, and visitors who hang up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from sqlalchemy import text

from stonechat import clock
from stonechat.api.dependencies import Services
from stonechat.app import create_app
from stonechat.db.session import Database
from stonechat.identity.caller import Caller
from stonechat.limits.rules import LimitRules, VisitorRules
from stonechat.settings import Settings
from support.chat import caller_of, create, decode, spoken
from support.postgres import TestDatabase
from support.responders import Gate, Scripted, speak

ORIGIN = "https://shop.example"


@dataclass
class Site:
    """A running platform, its assistant scripted."""

    url: str
    services: Services
    responder: Scripted

    def headers(self, caller: Caller) -> dict[str, str]:
        token, _ = self.services.session_tokens.mint(caller)
        return {"Authorization": f"Bearer {token}", "Origin": ORIGIN, "Content-Type": "application/json"}


@pytest.fixture
async def site(test_database: TestDatabase, tmp_path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    settings = Settings().model_copy(
        update={
            "environment": "development",
            "secret_keys": (SecretStr("x" * 40),),
            "database_url": test_database.web_url,
            "database_pool_size": 5,
            "data_dir": tmp_path,
        }
    )
    app = create_app(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
    monkeypatch.setattr(server, "install_signal_handlers", lambda: None, raising=False)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
        assert not task.done()
    services: Services = app.state.services
    responder = Scripted()
    services.chat.responder = responder
    yield Site(f"http://127.0.0.1:{listener.getsockname()[1]}", services, responder)
    await app.state.drain()
    server.should_exit = True
    await task


@pytest.fixture
async def visitor(anna: Caller, database: Database) -> Caller:
    """A visitor whose tenant lets one visitor do a lot."""
    rules = LimitRules(visitor=VisitorRules(messages_per_minute=1000, concurrent=100))
    async with database.tenant(anna.tenant_id) as session:
        await session.execute(
            text("insert into limit_rules (tenant_id, rules, updated_at) values (:t, cast(:r as jsonb), :n)"),
            {"t": anna.tenant_id, "r": rules.model_dump_json(), "n": clock.now()},
        )
    return caller_of(anna.tenant_id, agent_id=anna.agent_id, origin=ORIGIN)


async def test_two_hundred_slow_streams_leave_five_connections_to_others(site: Site, visitor: Caller) -> None:
    released = asyncio.Event()

    async def pause(number: int) -> None:
        if number:
            await released.wait()

    site.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["slow ", "done"], pause=pause)
    limits = httpx.Limits(max_connections=None)
    body = create().model_dump_json()
    speaking = 0

    async def visit(client: httpx.AsyncClient, number: int) -> str:
        nonlocal speaking
        caller = caller_of(visitor.tenant_id, f"usr_{number}", agent_id=visitor.agent_id, origin=ORIGIN)
        stream = b""
        async with client.stream("POST", "/chatkit", content=body, headers=site.headers(caller)) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for chunk in answer.aiter_bytes():
                if b"slow " in chunk:
                    speaking += 1
                stream += chunk
        return spoken(decode(stream))

    async with httpx.AsyncClient(base_url=site.url, limits=limits, timeout=60) as client:
        visits = [asyncio.create_task(visit(client, number)) for number in range(200)]
        while speaking < 200:
            await asyncio.sleep(0.05)
            assert not any(task.done() for task in visits)
        listed = {"type": "threads.list", "params": {}}
        for _ in range(20):
            answer = await client.post("/chatkit", json=listed, headers=site.headers(visitor))
            assert answer.status_code == 200, answer.text
        released.set()
        assert set(await asyncio.gather(*visits)) == {"slow done"}


async def test_hanging_up_stops_the_model_and_keeps_what_it_said(site: Site, visitor: Caller) -> None:
    gate = Gate(free=1)
    site.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["half ", "never"], pause=gate)
    async with httpx.AsyncClient(base_url=site.url) as client:
        body = create().model_dump_json()
        async with client.stream("POST", "/chatkit", content=body, headers=site.headers(visitor)) as answer:
            async for chunk in answer.aiter_bytes():
                if b"half" in chunk:
                    break
        await asyncio.wait_for(site.responder.stopped.wait(), timeout=10)
        while len(site.services.chat.hub):
            await asyncio.sleep(0.01)
        threads = await client.post(
            "/chatkit", json={"type": "threads.list", "params": {}}, headers=site.headers(visitor)
        )
        thread_id = threads.json()["data"][0]["id"]
        listed = {"type": "items.list", "params": {"thread_id": thread_id, "order": "asc"}}
        items = (await client.post("/chatkit", json=listed, headers=site.headers(visitor))).json()["data"]
        assert [item["type"] for item in items] == ["user_message", "assistant_message"]
        assert items[1]["content"][0]["text"] == "half "


async def test_a_resumable_answer_outlives_its_connection(site: Site, visitor: Caller) -> None:
    gate = Gate(free=1)
    site.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["half ", "whole"], pause=gate)
    async with httpx.AsyncClient(base_url=site.url) as client:
        headers = site.headers(visitor) | {"Stonechat-Stream": "resumable"}
        heard = b""
        async with client.stream("POST", "/chatkit", content=create().model_dump_json(), headers=headers) as answer:
            run = answer.headers["stonechat-run"]
            async for chunk in answer.aiter_bytes():
                heard += chunk
                if b"half" in chunk:
                    break
        assert not site.responder.stopped.is_set()
        gate.let(1)
        last = heard.decode().rpartition("id: ")[2].partition("\n")[0]
        headers = site.headers(visitor) | {"Last-Event-ID": last}
        rest = await client.get(f"/chatkit/runs/{run}/events", headers=headers)
        assert spoken(decode(heard + rest.content)) == "half whole"
        stranger = caller_of(visitor.tenant_id, "usr_bob", agent_id=visitor.agent_id, origin=ORIGIN)
        assert (await client.get(f"/chatkit/runs/{run}/events", headers=site.headers(stranger))).status_code == 404
        cancel = await client.post(f"/chatkit/runs/{run}/cancel", headers=site.headers(stranger))
        assert cancel.status_code == 404
        assert (await client.post(f"/chatkit/runs/{run}/cancel", headers=site.headers(visitor))).status_code == 200


async def test_a_visitors_slots_are_given_back_when_answers_end(site: Site, anna: Caller) -> None:
    caller = caller_of(anna.tenant_id, agent_id=anna.agent_id, origin=ORIGIN)
    gate = Gate()
    site.responder.script = lambda thread, new_id: speak(thread, new_id("message"), ["x"], pause=gate)
    body, headers = create().model_dump_json(), site.headers(caller)
    async with httpx.AsyncClient(base_url=site.url, timeout=20) as client:
        held = [asyncio.create_task(client.post("/chatkit", content=body, headers=headers)) for _ in range(3)]
        while len(site.services.chat.hub) < 3:
            await asyncio.sleep(0.01)
        refused = await client.post("/chatkit", content=body, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_concurrent")
        gate.let(4)
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200] * 3
        assert (await client.post("/chatkit", content=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"Authorization": ""}, 401, "invalid_session"),
        ({"Authorization": "Bearer x.y.z"}, 401, "invalid_session"),
        ({"Origin": "https://other.example"}, 403, "origin_not_allowed"),
        ({"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_media_type"),
    ],
)
async def test_what_is_wrong_is_said_before_any_stream(
    site: Site, visitor: Caller, change: dict[str, str], status: int, code: str
) -> None:
    async with httpx.AsyncClient(base_url=site.url) as client:
        headers = site.headers(visitor) | change
        answer = await client.post("/chatkit", content=create().model_dump_json(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert site.responder.histories == []


@pytest.mark.parametrize(("body", "status", "code"), [
    (b"", 400, "malformed_body"),
    (b"{", 400, "malformed_body"),
    (b'{"type":"nothing"}', 400, "malformed_body"),
    (b'"' + b"x" * (2 << 20) + b'"', 413, "payload_too_large"),
])  # fmt: skip
async def test_bad_bodies_are_problems(site: Site, visitor: Caller, body: bytes, status: int, code: str) -> None:
    async with httpx.AsyncClient(base_url=site.url) as client:
        answer = await client.post("/chatkit", content=body, headers=site.headers(visitor))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")

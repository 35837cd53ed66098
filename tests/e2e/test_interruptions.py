"""Connections that break, visitors who leave, and a server that is killed, all in the middle of an answer; and its orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.api import Tenant, message, new_tenant
from support.running import Running, start
from support.slow_model import WORDS, SlowModel, slow_model

ORIGIN = "https://slow.example"
WHOLE = "".join(word + " " for word in WORDS)
BATCH_SECONDS = 0.25
USABLE_SECONDS = 30


@dataclass
class Visit:
    """A visitor of a tenant whose model is slow."""

    running: Running
    tenant: Tenant
    headers: dict[str, str]
    model: SlowModel

    async def read(self, thread: str | None, *, until: int, resumable: bool) -> tuple[str, str, str]:
        """Ask, read `until` characters, and hang up. Returns the text, the last event id and the run id."""
        text, last = "", ""
        headers = self.headers | ({"Stonechat-Stream": "resumable"} if resumable else {})
        body = message("Tell me a long story", thread)
        url = f"{self.running.url}/chatkit"
        async with self.tenant.api.stream("POST", url, json=body, headers=headers) as stream:
            assert stream.status_code == 200, await stream.aread()
            run = stream.headers["stonechat-run"]
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    last = line[4:]
                elif line.startswith("data: "):
                    text += delta(json.loads(line[6:]))
                    if len(text) >= until:
                        return text, last, run
        raise AssertionError("the answer ended early")

    async def threads(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self.tenant.call("GET", "/conversations"))["data"]
        return listed

    async def answers(self, thread: str) -> list[str]:
        """The texts of the assistant's messages in a thread."""
        items = (await self.tenant.call("GET", f"/conversations/{thread}"))["items"]
        said = [item["content"] for item in items if item["type"] == "assistant_message"]
        return ["".join(part["text"] for part in content) for content in said]


def delta(event: dict[str, Any]) -> str:
    update = event.get("update", {})
    return str(update["delta"]) if update.get("type") == "assistant_message.content_part.text_delta" else ""


async def visit(running: Running, tenant: Tenant, model: SlowModel) -> Visit:
    provider = {"name": "slow", "kind": "openai_compatible", "base_url": model.url, "api_key": "sk-test"}
    await tenant.call("POST", "/model-providers", 201, json=provider)
    key = await tenant.domain_key(await tenant.agent(model="slow/slow", knowledge={"enabled": False}), ORIGIN)
    session = await tenant.session(key, ORIGIN)
    return Visit(running, tenant, {"Authorization": f"Bearer {session['token']}", "Origin": ORIGIN}, model)


@pytest.fixture
async def slow_visit(stonechat: Running) -> AsyncIterator[Visit]:
    with slow_model(pace=0.005) as model:
        async with new_tenant(stonechat, "Interrupted") as tenant:
            yield await visit(stonechat, tenant, model)


async def test_a_broken_connection_resumes_with_every_byte(slow_visit: Visit) -> None:
    text, last, run = await slow_visit.read(None, until=300, resumable=True)
    await asyncio.sleep(0.3)
    url = f"{slow_visit.running.url}/chatkit/runs/{run}/events"
    final = ""
    async with slow_visit.tenant.api.stream("GET", url, headers=slow_visit.headers | {"Last-Event-ID": last}) as stream:
        assert stream.status_code == 200, await stream.aread()
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line[6:])
                text += delta(event)
                if event["type"] == "thread.item.done":
                    final = "".join(part["text"] for part in event["item"]["content"])
    assert text == final == WHOLE


async def test_hanging_up_saves_what_was_said_and_stops_the_model(slow_visit: Visit) -> None:
    text, _, _ = await slow_visit.read(None, until=300, resumable=False)
    assert await asyncio.to_thread(slow_visit.model.hung_up.wait, 10), "the model goes on generating for nobody"
    (thread,) = await slow_visit.threads()
    deadline = time.monotonic() + 10
    while not (kept := await slow_visit.answers(thread["id"])):
        assert time.monotonic() < deadline, "the partial answer is lost"
        await asyncio.sleep(0.05)
    assert kept[0].startswith(text)
    assert len(kept[0]) < len(WHOLE)


async def test_a_visitor_can_stop_an_answer(slow_visit: Visit) -> None:
    _, _, run = await slow_visit.read(None, until=100, resumable=True)
    url = f"{slow_visit.running.url}/chatkit/runs/{run}/cancel"
    stopped = await slow_visit.tenant.api.post(url, headers=slow_visit.headers)
    assert stopped.is_success, stopped.text
    assert await asyncio.to_thread(slow_visit.model.hung_up.wait, 10)
    (thread,) = await slow_visit.threads()
    (kept,) = await slow_visit.answers(thread["id"])
    assert 0 < len(kept) < len(WHOLE)


@dataclass
class Spare:
    """A Stonechat that a test may kill, and starts again for the next."""

    running: Running


@pytest.fixture(scope="module")
async def spare(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Spare]:
    spare = Spare(await start(tmp_path_factory.mktemp("spare") / "data", demo=False))
    yield spare
    await spare.running.stop()


async def test_killed_in_the_middle_of_an_answer_it_keeps_what_was_streamed(spare: Spare) -> None:
    with slow_model(pace=0.01) as model:
        async with new_tenant(spare.running, "Killed") as tenant:
            slow = await visit(spare.running, tenant, model)
            text, _, _ = await slow.read(None, until=700, resumable=True)
            killed = spare.running
            killed.process.kill()
            await killed.process.wait()
            rate = 1 / model.pace
            spare.running = await start(killed.data_dir, port=httpx.URL(killed.url).port, demo=False)
            slow.running = spare.running
            (thread,) = await slow.threads()
            await _say_something(slow, thread["id"])
            kept = await slow.answers(thread["id"])
            assert len(kept) == 2
            lost = len(text) - len(kept[0])
            assert WHOLE.startswith(kept[0])
            assert lost <= BATCH_SECONDS * rate * len("word100 "), f"{lost} characters lost"


async def _say_something(slow: Visit, thread: str) -> None:
    """Ask again in the thread until it is taken, for at most half a minute."""
    slow.model.pace = 0
    deadline = time.monotonic() + USABLE_SECONDS
    url = f"{slow.running.url}/chatkit"
    while True:
        answer = await slow.tenant.api.post(url, json=message("Are you there?", thread), headers=slow.headers)
        if answer.status_code == 200:
            return
        assert answer.status_code == 409, answer.text
        assert time.monotonic() < deadline, answer.text
        await asyncio.sleep(0.25)


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of live processes that name the folder or work inside it."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            inside = os.readlink(entry / "cwd").startswith(str(data_dir))
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
        except OSError:
            continue
        if alive and (inside or str(data_dir) in line):
            found.append(line)
    return found


async def test_ctrl_c_leaves_no_process_behind(spare: Spare) -> None:
    running = spare.running
    assert processes_of(running.data_dir)
    assert await running.stop(signal.SIGINT) == 0
    deadline = time.monotonic() + 10
    while left := processes_of(running.data_dir):
        assert time.monotonic() < deadline, left
        await asyncio.sleep(0.1)

"""Kill the web process 200 times while it answers: no stuck thread, at most 250 ms of text lost, nothing twice"""

# Run as `make prove-kill`; ARGS="--kills 20" for a sample, ARGS="--afresh" to begin anew. Each kill finds `STREAMS` answers
# going on, at a random moment. After it the process is started again, as a supervisor would, and every thread is asked
# another question. Progress is kept in a file, so that a run that is interrupted goes on where it stopped.

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stonechat import clock
from stonechat.bench.load import Connection, message
from stonechat.bench.processes import server
from stonechat.bench.script import AT_ONCE, PACED, PACED_RATE, PACED_SECONDS, WORDS
from stonechat.bench.seed import Visitors, prepare, tidy
from stonechat.chat.journal import LEASE_SECONDS
from stonechat.cli import load_settings
from stonechat.db.session import Database
from stonechat.local import local_services
from stonechat.settings import Settings

STREAMS = 16
FREE_SECONDS = 30.0
LOST_MS = 250
ROOT = Path(__file__).resolve().parents[2]
KILLS_OF_A_SESSION = 30
STATE = ROOT / ".stonechat" / "prove-kill.json"
RESULT = ROOT / "docs" / "measurements" / "kill.md"
_THREAD = re.compile(rb'"thread":\{"id":"(\w+)"')
_DELTA = re.compile(rb'"type":"assistant_message\.content_part\.text_delta","content_index":0,"delta":"(.*?)"\}\}')


@dataclass
class Found:
    """What the kills so far came to."""

    kills: int = 0
    answers: int = 0
    """That were going on when the process was killed."""
    stuck: int = 0
    twice: int = 0
    wrong: int = 0
    """Threads that did not hold question, partial answer, question, answer."""
    lost_ms: list[int] = field(default_factory=list)
    """Of each answer: the time that passed between what survived and what a client had read at the kill."""
    free_seconds: list[float] = field(default_factory=list)
    """From when the new process listened until a thread answered again."""


class Listener(asyncio.Protocol):
    """One answer as a client reads it: which words came when."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.read = b""
        self.words: list[tuple[float, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.read += data
        now = time.monotonic()
        for word in _DELTA.findall(self.read)[len(self.words) :]:
            self.words.append((now, word.decode()))

    @property
    def going(self) -> bool:
        """Whether the answer had begun and was not over."""
        return self.thread_id is not None and not self.read.endswith(b"0\r\n\r\n")

    @property
    def thread_id(self) -> str | None:
        found = _THREAD.search(self.read)
        return found.group(1).decode() if found else None


@dataclass
class Killed:
    """The answers that a kill cut off, and when that was."""

    moment: float
    listeners: list[Listener]


async def _kill_once(settings: Settings, visitors: Visitors, found: Found, last: Killed | None) -> Killed:
    """Start the process anew, see what the last kill left, and kill again while it answers."""
    loop = asyncio.get_running_loop()
    with server(settings, "stonechat", "core") as process:
        port = await asyncio.to_thread(process)
        judging = asyncio.create_task(_judge_all(settings, visitors, port, last, found))
        if last is not None:  # until the leases of the last answers are over there is nothing to judge
            await asyncio.sleep(max(0.0, last.moment + LEASE_SECONDS - time.monotonic()))
        listeners: list[Listener] = []
        for number in range(STREAMS):
            listener = Listener(message(port, visitors.tokens[number], PACED))
            await loop.create_connection(lambda listener=listener: listener, "127.0.0.1", port)  # type: ignore[misc]
            listeners.append(listener)
        await asyncio.gather(judging, asyncio.sleep(random.uniform(0.1, PACED_SECONDS - 0.5)))
        await asyncio.to_thread(process.kill)
    moment = time.monotonic()
    await asyncio.sleep(0.1)  # what is on its way still arrives
    return Killed(moment, listeners)


async def _judge_all(settings: Settings, visitors: Visitors, port: int, last: Killed | None, found: Found) -> None:
    if last is None:
        return
    since = max(last.moment, time.monotonic())  # the new process listens; how long it took to start is another matter
    going = [(number, each) for number, each in enumerate(last.listeners) if each.going and each.words]
    await asyncio.gather(*(_judge(settings, visitors, port, number, each, since, found) for number, each in going))
    found.kills += 1
    found.answers += len(going)


async def _judge_last(settings: Settings, visitors: Visitors, found: Found, last: Killed) -> None:
    with server(settings, "stonechat", "core") as process:
        await _judge_all(settings, visitors, await asyncio.to_thread(process), last, found)


async def _judge(
    settings: Settings, visitors: Visitors, port: int, number: int, heard: Listener, since: float, found: Found
) -> None:
    """Ask again until the thread answers, then look at what is stored of it."""
    thread_id = heard.thread_id
    assert thread_id is not None
    loop = asyncio.get_running_loop()
    while True:
        connection: Connection = (await loop.create_connection(Connection, "127.0.0.1", port))[1]
        answer = await connection.ask(message(port, visitors.tokens[number], AT_ONCE, thread_id=thread_id))
        connection.close()
        if answer.startswith(b"HTTP/1.1 200") and len(_DELTA.findall(answer)) == len(WORDS):
            break
        if time.monotonic() - since > FREE_SECONDS:
            found.stuck += 1
            return
        await asyncio.sleep(0.2)
    took = time.monotonic() - since
    found.free_seconds.append(round(took, 1))
    if took > FREE_SECONDS:
        found.stuck += 1
    items = await _items(settings, visitors, number, thread_id)
    if len({item["id"] for item in items}) != len(items):
        found.twice += 1
    shown = [item for item in items if item["type"] in ("user_message", "assistant_message")]
    kinds = [item["type"] for item in shown]
    survived = ""
    if kinds == ["user_message", "assistant_message"] * 2:
        survived = shown[1]["content"][0]["text"]
    elif kinds != ["user_message", "user_message", "assistant_message"]:  # killed before anything was written down
        found.wrong += 1
        return
    kept, said = 0, ""
    for _, word in heard.words:
        said += word
        if not survived.startswith(said):
            break
        kept += 1
    # The clock of what is lost starts at the last word that survived, as the client's did.
    missing = heard.words[kept:]
    found.lost_ms.append(round((heard.words[-1][0] - missing[0][0]) * 1000 + 1000 / PACED_RATE) if missing else 0)


async def _items(settings: Settings, visitors: Visitors, number: int, thread_id: str) -> list[dict[str, Any]]:
    database = Database(str(settings.database_url), pool_size=2)
    try:
        rows = await database.hot.fetch(
            "with scope as materialized (select set_config('stonechat.tenant_id', $1, true),"
            " set_config('stonechat.user_id', $2, true))"
            " select i.data::text as data from scope, lateral (select data, seq from thread_items"
            " where tenant_id = $1::uuid and thread_id = $3 and user_id = $2 order by seq) i",
            str(visitors.tenant_id),
            visitors.user_id(number),
            thread_id,
        )
    finally:
        await database.close()
    return [json.loads(row["data"]) for row in rows]


def _report(found: Found, command: str) -> str:
    lost = sorted(found.lost_ms) or [0]
    free = sorted(found.free_seconds) or [0.0]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    late = sum(each > LOST_MS for each in lost)
    return f"""# Kills of the web process

Command: `{command}`, at commit {commit.strip()[:12]}, finished {clock.rfc3339(clock.now())}.
`kill -9` at a random moment of up to {STREAMS} answers of {PACED_RATE} words a second; then a new process, and another
question to every thread.

| | found | allowed |
|---|---|---|
| kills | {found.kills} | |
| answers that were going on | {found.answers} | |
| threads still busy after {FREE_SECONDS:.0f} s | {found.stuck} | 0 |
| items twice | {found.twice} | 0 |
| threads with anything else wrong | {found.wrong} | 0 |
| streamed text lost, median / most | {lost[len(lost) // 2]} / {lost[-1]} ms | {LOST_MS} ms |
| answers that lost more than that | {late} | 0 |
| from the new process to an answer in the thread, median / longest | {free[len(free) // 2]} / {free[-1]} s | {FREE_SECONDS:.0f} s |
"""


async def _kill(settings: Settings, visitors: Visitors, found: Found, *, kills: int) -> None:
    last: Killed | None = None
    while found.kills < kills:
        before = found.kills
        if before + (last is not None) < kills:
            last = await _kill_once(settings, visitors, found, last)
        else:
            assert last is not None
            await _judge_last(settings, visitors, found, last)
        if found.kills > before:
            STATE.write_text(json.dumps(asdict(found)))
            lost = max(found.lost_ms, default=0)
            print(
                f"{found.kills} of {kills}: {found.answers} answers, at most {lost} ms lost, {found.stuck} stuck",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--afresh", action="store_true", help="forget the progress of an earlier run")
    options = parser.parse_args()
    STATE.parent.mkdir(exist_ok=True)
    if options.afresh:
        STATE.unlink(missing_ok=True)
    found = Found(**json.loads(STATE.read_text())) if STATE.exists() else Found()
    with local_services(load_settings()) as settings:
        while True:
            # Sessions last a quarter of an hour, so every few kills other visitors come.
            visitors = asyncio.run(prepare(settings))
            try:
                asyncio.run(
                    _kill(settings, visitors, found, kills=min(found.kills + KILLS_OF_A_SESSION, options.kills))
                )
            finally:
                asyncio.run(tidy(settings, visitors.tenant_id))
            if found.kills >= options.kills:
                break
    command = "make prove-kill" + (f' ARGS="--kills {options.kills}"' if options.kills != 200 else "")
    RESULT.write_text(_report(found, command))
    STATE.unlink(missing_ok=True)
    good = not (found.stuck or found.twice or found.wrong) and max(found.lost_ms, default=0) <= LOST_MS
    print(RESULT.read_text())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())

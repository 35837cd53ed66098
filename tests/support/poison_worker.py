"""A worker process for tests: `poison_worker.py URL KIND`. A job whose payload says `die` kills it, as a crash would."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID

from stonechat.jobs import JobRunner


async def main(url: str, kind: str) -> None:
    async def handle(_tenant: UUID, payload: dict[str, Any]) -> None:
        if payload.get("die"):
            await asyncio.sleep(0.05)  # the others of its batch have started too
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.2)
        print("done", payload["n"], flush=True)

    async def give_up(_tenant: UUID, _payload: dict[str, Any], reason: str) -> None:
        print("gave up", reason, flush=True)

    heartbeat, poll = timedelta(seconds=1), timedelta(seconds=0.2)
    runner = JobRunner(url, {kind: handle}, on_give_up={kind: give_up}, heartbeat=heartbeat, poll=poll)
    await runner.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

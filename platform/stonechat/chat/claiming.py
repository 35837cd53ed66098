"""Claiming a thread for a run: one at a time, and who comes second waits a little."""

from __future__ import annotations

import asyncio

from chatkit.types import ThreadItem, ThreadMetadata

from stonechat.chat import journal
from stonechat.chat.hub import RunHub
from stonechat.chat.journal import Begun, Held, ItemChange, RunKey
from stonechat.chat.runs import Run
from stonechat.chat.sweeper import close_crashed_run
from stonechat.db.session import Database
from stonechat.errors import ThreadBusy
from stonechat.identity.caller import Caller

BUSY_SECONDS = 2.0


async def claim(
    hub: RunHub,
    key: RunKey,
    caller: Caller,
    *,
    new_thread: ThreadMetadata | None,
    item: ThreadItem | None,
    resumable: bool,
    history: int,
) -> Begun:
    """Claim the thread, waiting a little for an answer that is about to end, and closing one that died.

    Raises `ThreadBusy` if it does not end in `BUSY_SECONDS`, and whatever `journal.begin` does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BUSY_SECONDS
    while True:
        begun = await journal.begin(
            hub.database,
            key,
            agent_id=caller.agent_id,
            draft=caller.preview,
            new_thread=new_thread,
            item=item,
            process_id=hub.process_id,
            resumable=resumable,
            history=history,
        )
        if isinstance(begun, Begun):
            return begun
        left = deadline - loop.time()
        if left <= 0:
            raise ThreadBusy(
                "The assistant is still answering in this conversation. Wait for it to finish, or stop it.",
                headers={"Retry-After": "1"},
                run=begun.run_id,
            )
        await _wait_for(hub, begun, key, seconds=min(left, 0.5))


async def abandon(database: Database, run: Run, *, sent: ThreadItem | None = None) -> None:
    """End a run that holds its thread and cannot begin. What the visitor sent is taken back: they are told to send again."""
    changes = [ItemChange("remove", sent.id)] if sent is not None else []
    await journal.finish(database, run.key, status="failed", changes=changes, trace=run.trace_until_now("failed"))


async def _wait_for(hub: RunHub, held: Held, key: RunKey, *, seconds: float) -> None:
    if held.expired and await close_crashed_run(hub.database, key.tenant_id, run_id=held.run_id):
        return
    run = hub.get(held.run_id)
    if run is not None and run.task is not None:
        await asyncio.wait([run.task], timeout=seconds)
    else:
        await asyncio.sleep(min(seconds, 0.1))

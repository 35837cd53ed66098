"""Listening to a run: from its beginning or from where a client left off, here or in another process, alive or over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from sqlalchemy import select, update

from stonechat import clock
from stonechat.chat import models
from stonechat.chat.codec import HIDDEN_KINDS, parse_item, storable_id
from stonechat.chat.events import INTERRUPTED, PING, frames_after, parse_event_id, replacement
from stonechat.chat.hub import RUN_SECONDS, RunHub
from stonechat.chat.runs import PING_SECONDS, Run
from stonechat.chat.sweeper import close_crashed_run, stored_batches
from stonechat.db.session import Database
from stonechat.errors import BadRequest, NotFound
from stonechat.identity.caller import Caller

POLL_SECONDS = 0.2


async def tail(run: Run, *, after: int = 0) -> AsyncIterator[bytes]:
    """The run's events above number `after`, all that happened in one turn of the loop together, until its end."""
    with run.listen(after) as listener:
        while True:
            await run.wait(listener.seen)
            if heard := listener.take():
                yield heard
            elif run.finished:
                return
            else:
                yield PING


async def resume(hub: RunHub, caller: Caller, *, run_id: str, last_event_id: str) -> AsyncIterator[bytes]:
    """Every event after `last_event_id` of the caller's own run. Raises `NotFound`, `BadRequest` before the first.

    A client that is ahead of what survived a crash, or that would miss something, is told the final items instead
    (`thread.item.replaced`), so that it never shows a gap.
    """
    run = hub.get(run_id)
    if run is not None and not _is_of(run, caller):
        run = None
    elif run is not None:
        return _catch_up(hub.database, run, after=min(_number(last_event_id, run_id), len(run.frames)))
    await _load(hub.database, caller, run_id)
    return _from_database(hub.database, caller, run_id, _number(last_event_id, run_id))


async def _catch_up(database: Database, run: Run, *, after: int) -> AsyncIterator[bytes]:
    """The run's events above number `after`: from the database what memory has forgotten, then as they happen."""
    key, seen = run.key, after
    while seen < run.frames.forgotten:
        async with database.tenant(key.tenant_id, user_id=key.user_id) as session:
            batches = await stored_batches(session, key.tenant_id, run_id=key.run_id, after=seen)
        frames, seen = _in_order(batches, after=seen)
        if not frames:  # deleted with its thread
            return
        yield b"".join(frames)
    async for chunk in tail(run, after=seen):
        yield chunk


async def cancel_run(hub: RunHub, caller: Caller, *, run_id: str) -> None:
    """Stop the caller's own run, wherever it goes on. Raises `NotFound`; stopping what is over changes nothing."""
    run = hub.get(run_id)
    if run is not None and _is_of(run, caller):
        run.stop("cancelled")
        return
    await _load(hub.database, caller, run_id)
    row = models.RunRow
    async with hub.database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
        await session.execute(
            update(row)
            .where(row.tenant_id == caller.tenant_id, row.user_id == caller.user_id, row.run_id == run_id)
            .where(row.status == "running")
            .values(cancel_requested=True)
        )


def _is_of(run: Run, caller: Caller) -> bool:
    mine = (caller.tenant_id, caller.user_id, caller.agent_id)
    return (run.key.tenant_id, run.key.user_id, run.agent_id) == mine


def _number(last_event_id: str, run_id: str) -> int:
    number = parse_event_id(last_event_id, run_id)
    if number is None:
        raise BadRequest("The Last-Event-ID is not one of this run.")
    return number


async def _load(database: Database, caller: Caller, run_id: str) -> models.RunRow:
    row = models.RunRow
    if storable_id(run_id):
        async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            found: models.RunRow | None = await session.scalar(
                select(row).where(
                    row.tenant_id == caller.tenant_id,
                    row.user_id == caller.user_id,
                    row.agent_id == caller.agent_id,
                    row.run_id == run_id,
                )
            )
        if found is not None:
            return found
    raise NotFound("There is no such run.")


async def _from_database(database: Database, caller: Caller, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Poll what another process stores, until the run is over; the state is read before the events it must cover."""
    loop = asyncio.get_running_loop()
    seen, deadline, spoke = after, loop.time() + RUN_SECONDS + 60, loop.time()
    while True:
        try:
            run = await _load(database, caller, run_id)
        except NotFound:  # deleted with its thread
            return
        async with database.tenant(caller.tenant_id, user_id=caller.user_id) as session:
            batches = await stored_batches(session, caller.tenant_id, run_id=run_id, after=seen)
        frames, seen = _in_order(batches, after=seen)
        if frames:
            spoke = loop.time()
            yield b"".join(frames)
        if run.status != "running":
            break
        if run.lease_expires_at < clock.now() and await close_crashed_run(database, caller.tenant_id, run_id=run_id):
            continue
        if loop.time() > deadline:
            return
        if loop.time() - spoke > PING_SECONDS:
            spoke = loop.time()
            yield PING
        await asyncio.sleep(POLL_SECONDS)
    if run.status == "crashed" or seen != run.last_seq:
        for data in await _items_of(database, caller.tenant_id, run):
            yield replacement(parse_item(data))
    if run.status == "crashed":
        yield INTERRUPTED


def _in_order(batches: Sequence[tuple[int, int, bytes]], *, after: int) -> tuple[list[bytes], int]:
    """The frames after number `after` up to the first gap, behind which nothing makes sense, and the last number."""
    frames: list[bytes] = []
    for first_seq, last_seq, payload in batches:
        if first_seq > after + 1:
            break
        frames += frames_after(payload, first_seq=first_seq, after=after)
        after = max(after, last_seq)
    return frames, after


async def _items_of(database: Database, tenant_id: UUID, run: models.RunRow) -> list[str]:
    row = models.ThreadItem
    async with database.tenant(tenant_id, user_id=run.user_id) as session:
        return list(
            await session.scalars(
                select(row.data)
                .where(
                    row.tenant_id == tenant_id,
                    row.user_id == run.user_id,
                    row.thread_id == run.thread_id,
                    row.run_id == run.run_id,
                    row.kind.not_in(HIDDEN_KINDS),
                )
                .order_by(row.seq)
            )
        )

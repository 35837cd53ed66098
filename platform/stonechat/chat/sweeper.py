"""Runs whose process died: found by their expired leases, closed with the text that was streamed."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from chatkit.types import (
    ThreadItem,
    ThreadItemAddedEvent,
    ThreadItemDoneEvent,
    ThreadItemRemovedEvent,
    ThreadItemReplacedEvent,
    ThreadItemUpdatedEvent,
    ThreadStreamEvent,
    WidgetComponentUpdated,
    WidgetRootUpdated,
)
from chatkit.widgets import DynamicWidgetComponent, DynamicWidgetRoot
from pydantic import TypeAdapter
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.assistant.trace_store import record_crash
from stonechat.chat import events, models
from stonechat.chat.codec import aware, item_json, parse_item
from stonechat.chat.journal import LEASE_SECONDS
from stonechat.chat.pending import Pending, pending_of
from stonechat.chat.settlement import crashed_entries, left_entries
from stonechat.db.session import Database
from stonechat.usage.ledger import UsageLedgerRow, settle

SWEEP_RUNS = 200
"""At most so many are closed in one go."""
LEFT_FOR = timedelta(minutes=1)
"""A process that lives has noticed by then that its thread is gone, and settled."""

_log = logging.getLogger(__name__)
_events: TypeAdapter[ThreadStreamEvent] = TypeAdapter(ThreadStreamEvent)


async def sweep_crashed_runs(database: Database) -> int:
    """Close every run whose lease has expired, each under its own tenant. Returns how many it closed."""
    run = models.RunRow
    async with database.platform() as session:
        found = await session.execute(
            select(run.tenant_id, run.run_id)
            .where(run.status == "running", run.lease_expires_at < func.clock_timestamp())
            .order_by(run.lease_expires_at)
            .limit(SWEEP_RUNS)
        )
        expired = found.all()
    closed = 0
    for tenant_id, run_id in expired:
        try:
            closed += await close_crashed_run(database, tenant_id, run_id=run_id)
        except Exception:
            _log.exception("could not close the crashed run %s", run_id)
    return closed


async def settle_left_runs(database: Database) -> int:
    """Count what runs used whose thread was deleted and whose process did not count it. Returns how many it looked at."""
    left = models.RunLeft
    async with database.platform() as session:
        found = await session.execute(
            select(left.tenant_id, left.run_id)
            .where(left.deleted_at < func.clock_timestamp() - LEFT_FOR)
            .order_by(left.deleted_at)
            .limit(SWEEP_RUNS)
        )
        waiting = found.all()
    for tenant_id, run_id in waiting:
        try:
            await _settle_left(database, tenant_id, run_id)
        except Exception:
            _log.exception("could not settle the run %s", run_id)
    return len(waiting)


async def _settle_left(database: Database, tenant_id: UUID, run_id: str) -> None:
    left, entry = models.RunLeft, UsageLedgerRow
    async with database.tenant(tenant_id) as session:
        gone = delete(left).where(left.tenant_id == tenant_id, left.run_id == run_id).returning(left)
        run = await session.scalar(gone)
        counted = select(1).where(entry.tenant_id == tenant_id, entry.run_id == run_id).limit(1)
        if run is None or await session.scalar(counted) is not None:
            return  # another sweeper was here, or the process lived and settled itself
        await settle(session, tenant_id, run_id=run_id, entries=left_entries(run))


async def purge_run_events(database: Database) -> int:
    """Forget the events of runs that ended over an hour ago; their items stay. Returns how many batches went."""
    async with database.directory() as session:
        return await session.scalar(text("select stonechat_purge_run_events()")) or 0


async def close_crashed_run(database: Database, tenant_id: UUID, *, run_id: str) -> bool:
    """Save what a dead run streamed and free its thread. False if it is alive, closed, or being closed elsewhere."""
    run = models.RunRow
    async with database.tenant(tenant_id) as session:
        row = await session.scalar(
            select(run)
            .where(
                run.tenant_id == tenant_id,
                run.run_id == run_id,
                run.status == "running",
                run.lease_expires_at < func.clock_timestamp(),
            )
            .with_for_update(skip_locked=True)
        )
        if row is None:
            return False
        said = await _unfinished_items(session, tenant_id, row)
        for item in said:
            await _save_if_missing(session, tenant_id, row, item)
        used = await crashed_entries(session, tenant_id, run=row, said=said)
        await settle(session, tenant_id, run_id=run_id, entries=used)
        await session.execute(
            update(run)
            .where(run.tenant_id == tenant_id, run.run_id == run_id)
            .values(status="crashed", finished_at=clock.now())
        )
        await record_crash(
            session,
            tenant_id,
            run_id=run_id,
            thread_id=row.thread_id,
            user_id=row.user_id,
            agent_id=row.agent_id,
            agent_version=row.agent_version,
            started_at=row.started_at,
            ended_at=max(row.started_at, row.lease_expires_at - timedelta(seconds=LEASE_SECONDS)),
        )
    _log.warning("closed run %s, whose process died", run_id)
    return True


async def stored_batches(session: AsyncSession, tenant_id: UUID, *, run_id: str, after: int) -> list[Any]:
    """Rows (first_seq, last_seq, payload) of the events above `after`, in order."""
    batch = models.RunEvents
    rows = await session.execute(
        select(batch.first_seq, batch.last_seq, batch.payload)
        .where(batch.tenant_id == tenant_id, batch.run_id == run_id, batch.last_seq > after)
        .order_by(batch.first_seq, batch.last_seq)
    )
    return list(rows.all())


async def _unfinished_items(session: AsyncSession, tenant_id: UUID, run: models.RunRow) -> list[ThreadItem]:
    """Items that were being written, as far as the stored events go, and those that were done but not yet stored."""
    pending: dict[str, Pending] = {}
    done: dict[str, ThreadItem] = {}
    seen = 0
    for first_seq, last_seq, payload in await stored_batches(session, tenant_id, run_id=run.run_id, after=0):
        for frame in events.frames_after(payload, first_seq=first_seq, after=seen):
            _replay(_event(events.event_data(frame)), pending, done)
        seen = max(seen, last_seq)
    partial = [unfinished.so_far() for unfinished in pending.values()]
    return [*done.values(), *(item for item in partial if item is not None)]


def _event(data: dict[str, Any]) -> ThreadStreamEvent:
    """The event, with whatever a widget in it has that this version does not know."""
    event = _events.validate_python(data)
    match event:
        case ThreadItemAddedEvent() | ThreadItemDoneEvent() | ThreadItemReplacedEvent():
            event.item = parse_item(json.dumps(data["item"]))
        case ThreadItemUpdatedEvent(update=WidgetRootUpdated() as update):
            update.widget = DynamicWidgetRoot.model_validate(data["update"]["widget"])
        case ThreadItemUpdatedEvent(update=WidgetComponentUpdated() as update):
            update.component = DynamicWidgetComponent.model_validate(data["update"]["component"])
        case _:
            pass
    return event


def _replay(event: ThreadStreamEvent, pending: dict[str, Pending], done: dict[str, ThreadItem]) -> None:
    match event:
        case ThreadItemAddedEvent(item=item):
            pending[item.id] = pending_of(item)
        case ThreadItemUpdatedEvent():
            if (unfinished := pending.get(event.item_id)) is not None:
                unfinished.update(event.update)
        case ThreadItemDoneEvent(item=item) | ThreadItemReplacedEvent(item=item):
            pending.pop(item.id, None)
            if item.type != "user_message":  # stored before the run began
                done[item.id] = item
        case ThreadItemRemovedEvent():
            pending.pop(event.item_id, None)
            done.pop(event.item_id, None)
        case _:
            pass


async def _save_if_missing(session: AsyncSession, tenant_id: UUID, run: models.RunRow, item: ThreadItem) -> None:
    created_at: datetime = aware(item.created_at)
    await session.execute(
        insert(models.ThreadItem)
        .values(
            tenant_id=tenant_id,
            thread_id=run.thread_id,
            item_id=item.id,
            user_id=run.user_id,
            kind=item.type,
            data=item_json(item),
            run_id=run.run_id,
            created_at=created_at,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "thread_id", "item_id"])
    )

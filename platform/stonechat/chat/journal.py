"""What the database is told of a run: one function call, one round trip, at its beginning, at checkpoints, at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from chatkit.types import ThreadItem, ThreadMetadata

from stonechat.assistant.trace import TurnTrace
from stonechat.chat.codec import aware, item_json, parse_item, status_json, thread_metadata, without_nul
from stonechat.chat.models import Handling
from stonechat.db.session import Database
from stonechat.errors import AgentNotPublished, NotFound, ThreadLocked
from stonechat.usage.ledger import LedgerEntry, entries_json
from stonechat.usage.quota import Refusal

LEASE_SECONDS = 5.0
_LEASE_MS = int(LEASE_SECONDS * 1000)

_BEGIN = "select * from chat_begin_turn($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15)"
_WRITE = "select chat_write_items($1,$2,$3,$4,$5,$6,$7,$8,$9)"
_CHECKPOINT = "select * from chat_checkpoint_runs($1,$2,$3,$4,$5,$6,$7,$8)"
_TRACES = "select chat_record_traces($1,$2,$3,$4,$5)"
_FINISH = "select chat_finish_turn($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17,$18,$19,$20,$21)"


class RunKey(NamedTuple):
    """Whose run, and which."""

    tenant_id: UUID
    user_id: str
    thread_id: str
    run_id: str


class ItemChange(NamedTuple):
    """What an event means for a stored item. `verb`: add, save, remove."""

    verb: str
    item_id: str
    kind: str | None = None
    data: str | None = None
    created_at: datetime | None = None


def changed(verb: str, item: ThreadItem) -> ItemChange:
    """The change that adds or saves the item."""
    return ItemChange(verb, item.id, item.type, item_json(item), aware(item.created_at))


@dataclass(frozen=True, slots=True)
class Begun:
    """A run that holds its thread."""

    agent_version: int
    thread: ThreadMetadata
    history: list[ThreadItem]
    """The newest items before the turn, oldest first, hidden ones included."""
    handling: Handling = "open"
    refusal: Refusal | None = None
    """Why no model is to be asked: the tenant's budget is used up."""


@dataclass(frozen=True, slots=True)
class Held:
    """Another run holds the thread; `expired` if it seems to have died."""

    run_id: str
    expired: bool


async def begin(
    database: Database,
    key: RunKey,
    *,
    agent_id: str,
    draft: bool,
    new_thread: ThreadMetadata | None,
    item: ThreadItem | None,
    process_id: str,
    resumable: bool,
    history: int,
) -> Begun | Held:
    """Claim the thread for a run, store the new message and read what came before it.

    Raises `NotFound` for the thread or the agent, `AgentNotPublished`, `ThreadLocked`; nothing is written then.
    """
    change = changed("add", item) if item is not None else ItemChange("add", "")
    try:
        row = await database.hot.fetchrow(
            _BEGIN,
            key.tenant_id,
            key.user_id,
            agent_id,
            draft,
            key.thread_id,
            aware(new_thread.created_at) if new_thread else None,
            change.item_id or None,
            change.kind,
            change.data,
            change.created_at,
            key.run_id,
            process_id,
            resumable,
            _LEASE_MS,
            history,
        )
    except asyncpg.ForeignKeyViolationError:  # deleted in this very moment
        raise NotFound("This conversation does not exist.") from None
    match row["outcome"]:
        case "ok":
            thread = new_thread or _thread(key.thread_id, row)
            return Begun(
                row["agent_version"],
                thread,
                [parse_item(data) for data in row["history"] or ()],
                row["handling"],
                Refusal.of(row["refused"], row["refusal_message"]),
            )
        case "busy" | "expired" as held:
            return Held(row["running_run"], held == "expired")
        case "no_thread":
            raise NotFound("This conversation does not exist.")
        case "no_agent":
            raise NotFound("This assistant does not exist any more.")
        case "not_published":
            raise AgentNotPublished("This assistant has not been published yet.")
        case _:
            raise locked(_thread(key.thread_id, row))


def locked(thread: ThreadMetadata) -> ThreadLocked:
    """The refusal of a thread that is locked or closed, with the reason that was given for it."""
    reason = getattr(thread.status, "reason", None)
    return ThreadLocked(
        reason or f"This conversation is {thread.status.type}.", thread_status=thread.status.type, reason=reason
    )


async def write_items(database: Database, key: RunKey, changes: Sequence[ItemChange]) -> None:
    """Store changes of items while the run goes on."""
    await database.hot.fetch(_WRITE, *_scope(key), key.run_id, *_columns(changes))


class Batch(NamedTuple):
    """What to store of one run at a checkpoint; without payload its lease is renewed."""

    key: RunKey
    first_seq: int
    last_seq: int
    payload: bytes | None
    uses: str | None = None
    """Ledger entries of what the run used so far, if that changed."""


async def checkpoint(database: Database, batches: Sequence[Batch]) -> dict[str, str]:
    """Store batches of any tenants' runs and renew their leases, all in one transaction.

    Returns run id → `cancel` (someone asked for it) or `lost` (closed by a sweeper), for those that need it.
    """
    rows = await database.hot.fetch(
        _CHECKPOINT,
        _LEASE_MS,
        [batch.key.tenant_id for batch in batches],
        [batch.key.user_id for batch in batches],
        [batch.key.run_id for batch in batches],
        [batch.first_seq for batch in batches],
        [batch.last_seq for batch in batches],
        [batch.payload for batch in batches],
        [batch.uses for batch in batches],
    )
    return {row["run_id"]: row["state"] for row in rows}


async def finish(
    database: Database,
    key: RunKey,
    *,
    status: str,
    changes: Sequence[ItemChange] = (),
    first_seq: int = 0,
    last_seq: int = 0,
    payload: bytes | None = None,
    thread: ThreadMetadata | None = None,
    keep_status: bool = False,
    propose_title: bool = False,
    usage: Sequence[LedgerEntry] = (),
    trace: TurnTrace | None = None,
) -> bool:
    """End a run and free its thread. `thread` only if it changed. False, with nothing written, if it was not running.

    `keep_status` leaves the thread's status as it is by now; `propose_title` sets the title only if there is none by now.
    """
    columns: tuple[Any, ...] = (None, None, None, None)
    if thread is not None:
        columns = (
            None if thread.title is None else without_nul(thread.title),
            status_json(thread.status),
            json.dumps(thread.metadata),
            thread.allowed_image_domains,
        )
    done: bool = await database.hot.fetchval(
        _FINISH,
        keep_status,
        propose_title,
        *_scope(key),
        key.run_id,
        status,
        *_columns(changes),
        first_seq,
        last_seq,
        payload,
        *columns,
        entries_json(usage) if usage else None,
        None if trace is None else trace.columns_json(),
    )
    return done


async def record_traces(database: Database, traces: Sequence[tuple[RunKey, TurnTrace]]) -> None:
    """Store traces of any tenants' turns that ended; of a thread that is gone by now, nothing."""
    await database.hot.fetch(
        _TRACES,
        [key.tenant_id for key, _ in traces],
        [key.user_id for key, _ in traces],
        [key.thread_id for key, _ in traces],
        [key.run_id for key, _ in traces],
        [trace.columns_json() for _, trace in traces],
    )


def _scope(key: RunKey) -> tuple[UUID, str, str]:
    return key.tenant_id, key.user_id, key.thread_id


def _columns(changes: Sequence[ItemChange]) -> tuple[list[Any], ...]:
    return tuple([change[field] for change in changes] for field in range(5))


def _thread(thread_id: str, row: Any) -> ThreadMetadata:
    return thread_metadata(
        thread_id,
        title=row["title"],
        status=row["status"],
        metadata=row["metadata"],
        domains=row["domains"],
        created_at=row["created_at"],
    )

"""The audit log as a file, a page at a time: CSV, or a line of JSON an entry."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, assert_never

from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import AuditView, list_audit
from stonechat.db.session import Database
from stonechat.web.csv_files import csv_text
from stonechat.web.paging import MAX_PAGE

Format = Literal["csv", "jsonl"]
MAX_ENTRIES = 100_000
"""Of one file. For what is older, ask again with `until` at the last entry's time."""
COLUMNS = ("id", "occurred_at", "actor_kind", "actor_id", "actor_name", "action", "subject_id", "detail")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries: see `list_audit`."""

    actor_id: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def export_audit(database: Database, actor: Actor, *, wanted: Wanted, form: Format) -> AsyncIterator[bytes]:
    """The entries, newest first, in pieces. No connection is held between two pieces. Raises `ScopeMissing` at once."""
    actor.require("admin")
    return _pieces(database, actor, wanted, form)


async def _pieces(database: Database, actor: Actor, wanted: Wanted, form: Format) -> AsyncIterator[bytes]:
    write: Callable[[Sequence[AuditView]], str]
    match form:
        case "csv":
            write = _as_csv
            yield csv_text((), headings=COLUMNS).encode()
        case "jsonl":
            write = _as_lines
        case _:
            assert_never(form)
    cursor: str | None = None
    for _ in range(MAX_ENTRIES // MAX_PAGE):
        async with database.tenant(actor.tenant_id) as session:
            page = await list_audit(
                session,
                actor,
                actor_id=wanted.actor_id,
                action=wanted.action,
                since=wanted.since,
                until=wanted.until,
                limit=MAX_PAGE,
                cursor=cursor,
            )
        if page.data:
            yield write(page.data).encode("utf-8", "replace")
        cursor = page.next_cursor
        if cursor is None:
            return


def _as_lines(entries: Sequence[AuditView]) -> str:
    return "".join(entry.model_dump_json() + "\n" for entry in entries)


def _as_csv(entries: Sequence[AuditView]) -> str:
    """Rows without their headings, which stand at the top of the file once."""
    return csv_text([*told.values(), json.dumps(detail, ensure_ascii=False)] for told, detail in map(_told, entries))


def _told(entry: AuditView) -> tuple[dict[str, Any], dict[str, Any]]:
    return {name: getattr(entry, name) for name in COLUMNS[:-1]}, entry.detail

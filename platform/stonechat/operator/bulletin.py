"""What the platform tells people in the console: announcements, and that a tenant is about to be deleted."""

from __future__ import annotations

import asyncio
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.db.session import Database
from stonechat.errors import Conflict, InvalidInput, NotFound
from stonechat.operator.models import AnnouncementRow, TenantDeletionRow
from stonechat.operator.operators import Operator, record

Kind = Literal["info", "warning"]
KNOWN_FOR_SECONDS = 10.0
MAX_TITLE, MAX_BODY = 120, 1000
MAX_SHOWN = 3
MAX_DELETIONS = 1000
LISTED, MAX_EXPORTED = 100, 5000
MAX_LIVE = 100
"""Announcements that are shown or to come."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A line above every page of the console."""

    kind: Kind
    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Announcement:
    """An announcement, as operators see it."""

    id: str
    kind: Kind
    title: str
    body: str
    starts_at: datetime
    ends_at: datetime | None
    created_by: str
    withdrawn_at: datetime | None
    is_shown: bool


class Bulletin:
    """What stands above the console's pages, as it was ten seconds ago at most. One per process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all: tuple[AnnouncementRow, ...] = ()
        self._deletions: dict[UUID, datetime] = {}
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def notices(self, tenant_id: UUID) -> tuple[Notice, ...]:
        """What this tenant's people are told now, the most important first."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._read_at >= KNOWN_FOR_SECONDS:
            async with self._lock:
                if loop.time() - self._read_at >= KNOWN_FOR_SECONDS:
                    # In a context of its own: it is nobody's request in particular.
                    await asyncio.create_task(self._read(), context=Context())
                    self._read_at = loop.time()
        now = clock.now()
        told: list[Notice] = []
        if (due := self._deletions.get(tenant_id)) is not None:
            when = f"{due.day} {due:%B %Y}"
            told.append(Notice("warning", f"This workspace will be deleted on {when}.", "Export what you need before."))
        shown = [row for row in self._all if is_shown(row, now)]
        shown.sort(key=lambda row: (row.kind != "warning", row.starts_at))
        told += [Notice(_kind(row), row.title, row.body) for row in shown[:MAX_SHOWN]]
        return tuple(told)

    def forget(self) -> None:
        """Read anew next time: something was changed in this process."""
        self._read_at = float("-inf")

    async def _read(self) -> None:
        row, gone = AnnouncementRow, TenantDeletionRow
        soon = row.starts_at <= clock.now() + timedelta(seconds=2 * KNOWN_FOR_SECONDS)
        async with self._database.directory() as session:
            # In the order in which they are shown, so that none to come takes the place of one that holds.
            first = (row.kind != "warning", row.starts_at, row.announcement_id)
            self._all = tuple(await session.scalars(select(row).where(_live(), soon).order_by(*first).limit(LISTED)))
            due = select(gone.tenant_id, gone.due_at).where(gone.done_at.is_(None)).limit(MAX_DELETIONS)
            self._deletions = {tenant_id: at for tenant_id, at in await session.execute(due)}  # noqa: C416


async def announce(
    session: AsyncSession,
    operator: Operator,
    *,
    kind: Kind,
    title: str,
    body: str,
    starts_at: datetime | None = None,
    ends_at: datetime | None = None,
) -> Announcement:
    """Tell everybody in the console, from now or from `starts_at` on. Raises `InvalidInput`, and `Conflict` for too many."""
    title, body = " ".join(title.split()), body.strip()
    errors = []
    if not 1 <= len(title) <= MAX_TITLE or "\x00" in title:
        errors.append({"field": "title", "message": f"A title has 1 to {MAX_TITLE} characters."})
    if len(body) > MAX_BODY or "\x00" in body:
        errors.append({"field": "body", "message": f"Write at most {MAX_BODY} characters."})
    if kind not in ("info", "warning"):
        errors.append({"field": "kind", "message": "Choose one of the kinds."})
    now = clock.now()
    starts_at = starts_at or now
    if ends_at is not None and (ends_at <= starts_at or ends_at <= now):
        errors.append({"field": "ends_at", "message": "The end lies after the beginning, and after now."})
    if errors:
        raise InvalidInput(errors[0]["message"] if len(errors) == 1 else "Correct what is marked.", errors=errors)
    await session.execute(text("select pg_advisory_xact_lock(hashtext('announcements'))"))
    if (await session.scalar(select(func.count()).select_from(AnnouncementRow).where(_live())) or 0) >= MAX_LIVE:
        raise Conflict(f"At most {MAX_LIVE} announcements are shown or to come. Withdraw one first.")
    row = AnnouncementRow(
        announcement_id=ids.new_id("ann"),
        kind=kind,
        title=title,
        body=body,
        starts_at=starts_at,
        ends_at=ends_at,
        created_by=operator.email,
        created_at=now,
        withdrawn_at=None,
    )
    session.add(row)
    await record(session, operator, "announcement.create", subject_id=row.announcement_id, detail={"title": title})
    return _view(row, now)


async def withdraw(session: AsyncSession, operator: Operator, *, announcement_id: str) -> None:
    """Show it no more. Twice changes nothing; raises `NotFound`."""
    row = AnnouncementRow
    mine = row.announcement_id == announcement_id
    if "\x00" in announcement_id or await session.scalar(select(row.announcement_id).where(mine)) is None:
        raise NotFound("There is no such announcement.")
    changed = update(row).where(mine, row.withdrawn_at.is_(None)).values(withdrawn_at=clock.now())
    if await session.scalar(changed.returning(row.announcement_id)) is not None:
        await record(session, operator, "announcement.withdraw", subject_id=announcement_id)


async def list_announcements(
    session: AsyncSession, *, before: str = "", limit: int = LISTED
) -> tuple[list[Announcement], str | None]:
    """Newest first, and the `before` of the next page."""
    row, now, limit = AnnouncementRow, clock.now(), min(limit, MAX_EXPORTED)
    chosen = select(row).order_by(row.announcement_id.desc()).limit(limit + 1)
    if before and "\x00" not in before:
        chosen = chosen.where(row.announcement_id < before)
    found = [_view(each, now) for each in await session.scalars(chosen)]
    return found[:limit], found[limit - 1].id if len(found) > limit else None


def is_shown(row: AnnouncementRow, now: datetime) -> bool:
    """Whether the console shows it at that moment."""
    return row.withdrawn_at is None and row.starts_at <= now and (row.ends_at is None or row.ends_at > now)


def _live() -> ColumnElement[bool]:
    """Neither withdrawn nor over: shown, or to come."""
    row = AnnouncementRow
    return and_(row.withdrawn_at.is_(None), or_(row.ends_at.is_(None), row.ends_at > clock.now()))


def _kind(row: AnnouncementRow) -> Kind:
    return "warning" if row.kind == "warning" else "info"


def _view(row: AnnouncementRow, now: datetime) -> Announcement:
    return Announcement(
        id=row.announcement_id,
        kind=_kind(row),
        title=row.title,
        body=row.body,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        created_by=row.created_by,
        withdrawn_at=row.withdrawn_at,
        is_shown=is_shown(row, now),
    )

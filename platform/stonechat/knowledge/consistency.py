"""Looking, a slice at a time, for what Postgres, the index and the file store do not agree about, and mending it.

Postgres is right. A point without its passage is removed, a passage without its point is written, a file without its row
is deleted, a document whose file is gone says so, and one that waits without a job gets one. Passages and points have the
same ids and sort alike, so both sides are read in that order and compared as in a merge; nothing is ever read whole.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence, Set
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.models import Tenant
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.generations import point_of, vouched
from stonechat.knowledge.index import MAX_HELD, IndexPoint
from stonechat.knowledge.ingest import held_points, locked, remove_orphans
from stonechat.knowledge.layouts import places_of
from stonechat.knowledge.models import Chunk, Document, IndexState, KnowledgeCheck
from stonechat.knowledge.service import replaced_original

SLICE = 5000
"""Passages compared in one call; and as many files."""
TENANTS = 200
"""Looked at in one round of the clock, those first that were looked at longest ago."""
ROUND = timedelta(minutes=5)
YOUNG = timedelta(hours=1)
"""A file is stored before its row is written: one younger than this may still get it."""
LOST = "original_lost"
_FOLDER = "documents"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """What was compared and mended."""

    compared: int = 0
    """Passages and points."""
    orphans: int = 0
    """Points without a passage, removed."""
    gaps: int = 0
    """Passages without a point, written."""
    stray_files: int = 0
    """Originals that no document tells of, deleted."""
    lost_files: int = 0
    """Documents without their original: they answer, and say that they cannot be read again."""
    complete: bool = False
    """Whether everything was compared since the round began."""

    def __add__(self, other: Findings) -> Findings:
        mine, theirs = asdict(self), asdict(other)
        return Findings(**{name: mine[name] + theirs[name] for name in mine if name != "complete"})

    @property
    def mended(self) -> dict[str, int]:
        """What was wrong, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "complete"}


async def check_consistency(knowledge: Knowledge, tenant_id: UUID, *, most: int = SLICE) -> Findings:
    """Compare the next `most` passages, and files, of a tenant and mend what is wrong; goes on where the last call ended."""
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(insert(KnowledgeCheck).values(tenant_id=tenant_id).on_conflict_do_nothing())
        row = await session.get_one(KnowledgeCheck, tenant_id)
        passages_after, files_after = row.passages_after, row.files_after
        before = Findings(**row.repaired) if passages_after or files_after else Findings()
    # A side that is through begins with the round again only when the other is through, too.
    found, passages_after = await _passages(knowledge, tenant_id, after=passages_after, most=most)
    more, files_after = await _files(knowledge, tenant_id, after=files_after, most=most)
    found = found + more
    complete, total = passages_after is None and files_after is None, before + found
    now = clock.now()
    values: dict[str, object] = {
        "passages_after": passages_after,
        "files_after": files_after,
        "checked_at": now,
        "repaired": total.mended,
    }
    if complete:
        values |= {"completed_at": now, "found": total.mended, "repaired": {}}
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(update(KnowledgeCheck).where(KnowledgeCheck.tenant_id == tenant_id).values(values))
    wrong = {name: number for name, number in found.mended.items() if number and name != "compared"}
    if wrong:
        _log.warning("The index and the files of tenant %s were mended: %s", tenant_id, wrong)
    return Findings(**found.mended, complete=complete)


async def check_some(knowledge: Knowledge, *, tenants: int = TENANTS, at_most: timedelta = ROUND) -> Findings:
    """A slice of each of the tenants that were looked at longest ago."""
    async with knowledge.database.platform() as session:
        chosen = (
            select(Tenant.tenant_id)
            .outerjoin(KnowledgeCheck, KnowledgeCheck.tenant_id == Tenant.tenant_id)
            .order_by(KnowledgeCheck.checked_at.asc().nulls_first())
            .limit(tenants)
        )
        indexed = select(IndexState.tenant_id).where(IndexState.tenant_id == Tenant.tenant_id).exists()
        waiting = list(await session.scalars(chosen.where(indexed)))
        # Those without an index have at most files whose transaction failed, and keep none of the others waiting.
        waiting += await session.scalars(chosen.where(~indexed))
    total, until = Findings(), clock.now() + at_most
    for tenant_id in waiting:
        if clock.now() >= until:
            break
        try:
            total += await check_consistency(knowledge, tenant_id)
        except Exception:
            _log.warning("The index of tenant %s could not be checked.", tenant_id, exc_info=True)
    return total


async def last_rounds(session: AsyncSession) -> tuple[int, datetime | None, dict[str, int]]:
    """Across tenants: how many were ever compared whole, the oldest such time, and what those rounds found."""
    tenants, oldest = (
        await session.execute(select(func.count(KnowledgeCheck.completed_at), func.min(KnowledgeCheck.completed_at)))
    ).one()
    total = Findings()
    rows = await session.scalars(
        select(KnowledgeCheck.found).where(KnowledgeCheck.completed_at.is_not(None)).limit(10_000)
    )
    for found in rows:
        total += Findings(**found)
    return tenants, oldest, total.mended


async def write_points(knowledge: Knowledge, tenant_id: UUID, points: Sequence[IndexPoint]) -> None:
    """Write passages, then see that none of their documents went or changed meanwhile."""
    await knowledge.index.upsert(tenant_id, points)
    chunk_ids = [point.chunk_id for point in points]
    async with knowledge.database.tenant(tenant_id) as session:
        kept = vouched(tenant_id).where(Chunk.chunk_id.in_(chunk_ids)).with_only_columns(Chunk.chunk_id)
        gone = set(chunk_ids) - set(await session.scalars(kept))
    if gone:
        await _remove(
            knowledge, tenant_id, {point.chunk_id: point.document_id for point in points if point.chunk_id in gone}
        )


async def _passages(
    knowledge: Knowledge, tenant_id: UUID, *, after: str | None, most: int
) -> tuple[Findings, str | None]:
    total, compared = Findings(), 0
    while compared < most:
        async with knowledge.database.tenant(tenant_id) as session:
            place = (await places_of(session, tenant_id)).live.place
        held = {each.chunk_id: each.document_id for each in await knowledge.index.held(place, after=after)}
        async with knowledge.database.tenant(tenant_id) as session:
            page = vouched(tenant_id).with_only_columns(Chunk.chunk_id).order_by(Chunk.chunk_id).limit(MAX_HELD)
            rows = list(await session.scalars(page if after is None else page.where(Chunk.chunk_id > after)))
        # Of the side that has more to come, only what lies before its last is known.
        ends = [max(side) for side in (held, rows) if len(side) >= MAX_HELD]
        after = min(ends, default=None)
        known = {chunk_id: of for chunk_id, of in held.items() if after is None or chunk_id <= after}
        wanted = {chunk_id for chunk_id in rows if after is None or chunk_id <= after}
        orphans = await _remove(knowledge, tenant_id, {key: of for key, of in known.items() if key not in wanted})
        gaps = await _fill(knowledge, tenant_id, sorted(wanted - known.keys()))
        compared += max(len(known), len(wanted))
        total += Findings(compared=max(len(known), len(wanted)), orphans=orphans, gaps=gaps)
        if after is None:
            break
    return total, after


async def _remove(knowledge: Knowledge, tenant_id: UUID, orphans: dict[str, str]) -> int:
    """Remove points (chunk id → document). What a reading under way wrote is left to it."""
    by_document: defaultdict[str, list[str]] = defaultdict(list)
    for chunk_id, document_id in orphans.items():
        by_document[document_id].append(chunk_id)
    if not by_document:
        return 0
    async with knowledge.database.tenant(tenant_id) as session:
        living = set(
            await session.scalars(
                select(Document.document_id).where(
                    Document.tenant_id == tenant_id,
                    Document.document_id.in_(list(by_document)),
                    Document.deleted_at.is_(None),
                )
            )
        )
    removed = 0
    for document_id, chunk_ids in by_document.items():
        if document_id in living:
            removed += await remove_orphans(knowledge, tenant_id, document_id=document_id)
        else:
            await knowledge.index.delete_points(tenant_id, chunk_ids)
            removed += len(chunk_ids)
    return removed


async def _fill(knowledge: Knowledge, tenant_id: UUID, chunk_ids: Sequence[str]) -> int:
    """Write passages that the index lacks."""
    if not chunk_ids:
        return 0
    async with knowledge.database.tenant(tenant_id) as session:
        rows = await session.execute(
            vouched(tenant_id).where(Chunk.chunk_id.in_(chunk_ids), Document.reading.is_(None))
        )
        points = [point_of(chunk, document) for chunk, document in rows]
    # What got ready since the index was asked is no gap.
    there: set[str] = set()
    for document_id in {point.document_id for point in points}:
        there |= await held_points(knowledge, tenant_id, document_id=document_id)
    points = [point for point in points if point.chunk_id not in there]
    if points:
        await write_points(knowledge, tenant_id, points)
    return len(points)


async def _files(knowledge: Knowledge, tenant_id: UUID, *, after: str | None, most: int) -> tuple[Findings, str | None]:
    total, compared = Findings(), 0
    while compared < most:
        # Rows first: of a document that is there, the file was there before.
        async with knowledge.database.tenant(tenant_id) as session:
            page = select(Document.document_id, Document.sha256, Document.deleted_at)
            page = page.where(Document.tenant_id == tenant_id).order_by(Document.document_id).limit(MAX_HELD)
            found = (await session.execute(page if after is None else page.where(Document.document_id > after))).all()
        names = await knowledge.files.names(tenant_id, _FOLDER, after=f"{after}.~" if after else "")
        ends = [found[-1].document_id] if len(found) >= MAX_HELD else []
        if len(names) >= MAX_HELD:  # of the last one there may be more
            ends.append(sorted({_document_of(name) for name in names})[-2:][0])
        after = min(ends, default=None)
        held = {name for name in names if after is None or _document_of(name) <= after}
        rows = {row.document_id: row for row in found if after is None or row.document_id <= after}
        stray = await _delete_strays(knowledge, tenant_id, [name for name in held if _document_of(name) not in rows])
        lost, stale = [], defaultdict(list)
        for document_id, row in rows.items():
            of_it = {name for name in (document_id, _replaced(document_id, row.sha256)) if name in held}
            if row.deleted_at is None and not of_it:
                lost.append(document_id)
        for name in held:
            told = rows.get(_document_of(name))
            if told is not None and told.deleted_at is None and not _is_current(name, told.sha256, held):
                stale[told.document_id].append(name)
        for document_id, old in stale.items():
            stray += await _delete_replaced(knowledge, tenant_id, document_id, old)
        compared += max(len(held), len(rows))
        total += Findings(stray_files=stray, lost_files=await _mark_lost(knowledge, tenant_id, lost))
        if after is None:
            break
    return total, after


def _document_of(name: str) -> str:
    return name.partition(".")[0]


def _replaced(document_id: str, digest: bytes) -> str:
    return replaced_original(document_id, digest).removeprefix(f"{_FOLDER}/")


def _is_current(name: str, digest: bytes, held: Set[str]) -> bool:
    """Whether this is the file that `stored_bytes` reads."""
    newest = _replaced(_document_of(name), digest)
    return name == newest or ("." not in name and newest not in held)


async def _delete_replaced(knowledge: Knowledge, tenant_id: UUID, document_id: str, names: Sequence[str]) -> int:
    """Delete what the document's row does not tell of, or no longer. Who replaces the bytes holds the row: one of us waits."""
    async with knowledge.database.tenant(tenant_id) as session:
        document = await locked(session, tenant_id, document_id)
        if document is None:
            return 0
        newest = _replaced(document_id, document.sha256)
        held = await knowledge.files.names(tenant_id, _FOLDER, after=newest[:-1], limit=1)
        old = [name for name in names if not _is_current(name, document.sha256, set(held))]
        for name in old:
            await knowledge.files.delete(tenant_id, f"{_FOLDER}/{name}")
    return len(old)


async def _delete_strays(knowledge: Knowledge, tenant_id: UUID, names: Iterable[str]) -> int:
    before = clock.now() - YOUNG
    strays = [n for n in sorted(names) if (made := ids.made_at(_document_of(n))) is not None and made < before]
    for name in strays:
        await knowledge.files.delete(tenant_id, f"{_FOLDER}/{name}")
    return len(strays)


async def _mark_lost(knowledge: Knowledge, tenant_id: UUID, document_ids: Sequence[str]) -> int:
    if not document_ids:
        return 0
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(
            update(Document)
            .where(
                Document.tenant_id == tenant_id,
                Document.document_id.in_(document_ids),
                Document.status == "ready",
                Document.error.is_(None),
            )
            .values(
                error_code=LOST,
                error="The original file is gone. This document answers, but cannot be read again: upload it anew.",
            )
        )
    return len(document_ids)

"""A sync's beginning and end, as a source's row tells them."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal, cast

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.jobs import enqueue
from stonechat.knowledge.models import Schedule, Source
from stonechat.knowledge.web import frontier
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.progress import Bounds, Progress
from stonechat.knowledge.web.retire import bury_documents
from stonechat.knowledge.web.urls import Scope
from stonechat.webhooks.fan_out import tell

SYNC = "knowledge.sync"
_INTERVALS: dict[Schedule, timedelta] = {
    "daily": timedelta(days=1),
    "weekly": timedelta(days=7),
    "monthly": timedelta(days=30),
}
_NOTHING = "The site has no page in it that could be read. Check the address, and what is left out."


def scope_of(source: Source) -> Scope:
    """What belongs to a web source."""
    kind = cast("Literal['url', 'sitemap', 'site']", source.kind)
    return Scope.of(kind, source.url or "", exclude=Bounds.of(source).exclude)


def plan(source: Source) -> None:
    """Set when the source is fetched next, from now on."""
    interval = _INTERVALS.get(cast("Schedule", source.schedule))
    source.next_sync_at = clock.now() + interval if interval is not None else None


async def begin(session: AsyncSession, source: Source) -> bool:
    """Start a sync of a source whose row is locked; False if one is at work already."""
    plan(source)
    if source.status == "syncing" and source.sync_id is not None:
        return False
    source.status, source.error_code, source.error = "syncing", None, None
    source.sync_id, source.sync_started_at = ids.new_id("syn"), clock.now()
    await session.flush()
    progress = await frontier.begin(session, source, sync_id=source.sync_id)
    source.progress = progress.model_dump()
    await session.flush()
    await enqueue(
        session,
        source.tenant_id,
        SYNC,
        {"source_id": source.source_id, "sync_id": source.sync_id, "part": 0},
        dedupe_key=f"{source.sync_id}:0",
    )
    return True


async def cancel(session: AsyncSession, source: Source) -> bool:
    """End the sync at work, if there is one: its jobs find nothing to do. What was read so far stays."""
    if source.status != "syncing":
        return False
    source.status, source.sync_id = "cancelled", None
    await frontier.nothing_due(session, source.tenant_id, source.source_id)
    return True


async def finish(
    session: AsyncSession, source: Source, progress: Progress, *, failure: tuple[str, str] | None = None
) -> None:
    """End the sync: drop what is no longer at the source, and say how it went."""
    if failure is None and source.kind != "site" and not (progress.sitemap_failed or progress.notes):
        await _drop_unlisted(session, source, progress)
    await frontier.nothing_due(session, source.tenant_id, source.source_id)
    if failure is None:
        failure = await _failure(session, source, progress)
        progress.done = progress.found
    if failure is None:
        source.status, source.error_code, source.error, source.synced_at = "ready", None, None, clock.now()
    else:
        source.status, (source.error_code, source.error) = "failed", failure
    source.sync_id = None
    source.progress = progress.model_dump()
    await session.flush()
    told = {"source_id": source.source_id, "name": source.name, "url": source.url}
    if failure is None:
        counts = {"documents": progress.documents, "removed": progress.removed}
        await tell(session, source.tenant_id, "source.synced", told | counts)
    else:
        await tell(session, source.tenant_id, "source.failed", told | {"code": failure[0], "error": failure[1]})


async def _drop_unlisted(session: AsyncSession, source: Source, progress: Progress) -> None:
    if await _of_the_start(session, source, "failed") is not None:
        return
    pages = await frontier.unlisted(session, source)
    documents = [page.document_id for page in pages if page.document_id is not None]
    if documents:
        progress.removed += await bury_documents(session, source.tenant_id, document_ids=documents)
        progress.documents -= len(documents)
    if pages:
        await session.execute(
            delete(SourcePage)
            .where(
                SourcePage.tenant_id == source.tenant_id,
                SourcePage.source_id == source.source_id,
                SourcePage.kind == "page",
                SourcePage.seen_in.is_distinct_from(source.sync_id),
            )
            .execution_options(synchronize_session=False)
        )


async def _failure(session: AsyncSession, source: Source, progress: Progress) -> tuple[str, str] | None:
    """Code and sentence, if the sync brought nothing, or did not get past where the source begins."""
    failed = await _of_the_start(session, source, "failed", *(() if progress.documents else ("gone", "skipped")))
    if failed is None and progress.documents:
        return None
    if failed is None:
        failed = await session.scalar(
            select(SourcePage)
            .where(
                SourcePage.tenant_id == source.tenant_id,
                SourcePage.source_id == source.source_id,
                SourcePage.state.in_(["failed", "gone", "skipped"]),
            )
            .order_by(SourcePage.depth, SourcePage.page_id)
            .limit(1)
        )
    if failed is None or failed.reason is None:
        return "source_empty", _NOTHING
    return failed.code or "source_empty", failed.reason


async def _of_the_start(session: AsyncSession, source: Source, *states: str) -> SourcePage | None:
    """Where the source begins, if it is in one of these states."""
    start = await frontier.find(session, source, url=source.url or "")
    return start if start is not None and start.state in states else None

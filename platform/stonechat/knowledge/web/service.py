"""What people and the clock do with web sources: add, sync, cancel, schedule, look at their pages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock, ids
from stonechat.accounts.actor import Actor
from stonechat.accounts.audit import record_audit
from stonechat.accounts.suspension import SuspendedTenantRow
from stonechat.db.session import Database
from stonechat.errors import InvalidInput, NotFound, TooManySources, UpstreamFailed, UpstreamTimedOut
from stonechat.knowledge.models import Schedule, Source
from stonechat.knowledge.quota import require_source
from stonechat.knowledge.schemas import WebSourceIn
from stonechat.knowledge.service import MAX_PAGE
from stonechat.knowledge.web import runs
from stonechat.knowledge.web.access import WebAccess
from stonechat.knowledge.web.models import PageState, SourcePage
from stonechat.knowledge.web.progress import Bounds, Progress
from stonechat.knowledge.web.urls import normalise
from stonechat.plans.entitlements import entitlements, require_feature
from stonechat.plans.terms import Feature
from stonechat.web.paging import decode_cursor, encode_cursor

WEB = frozenset({"url", "sitemap", "site"})
MAX_SOURCES = 100
"""Web sources of a tenant."""
MAX_TENANT_PAGES = 20_000
"""Pages that they may hold together."""
MAX_DUE = 200
"""Sources that the clock starts in one go."""
TRIED_AGAIN = timedelta(hours=1)
"""When a source is tried again whose sync could not even be started."""
_log = logging.getLogger(__name__)


async def create_web_source(session: AsyncSession, actor: Actor, *, web: WebAccess, source: WebSourceIn) -> Source:
    """Add a page, a sitemap or a site, and start to fetch it.

    Raises `InvalidInput` for what is no address, `TargetNotAllowed` for one that is not of the public internet, and
    `TooManySources`, `PlanLimitReached` or `FeatureNotInPlan`. A host that does not answer now is no reason to refuse: the sync tries, and says so.
    """
    actor.require("write")
    await require_feature(session, actor.tenant_id, *_features(source.schedule))
    typed = source.url if "://" in source.url else f"https://{source.url}"
    url = normalise(typed)
    if url is None:
        raise InvalidInput(
            "This is not the address of a web page. Copy it from the browser; it begins with https://.",
            errors=[{"field": "url", "message": "not a web address"}],
        )
    try:
        await web.client.check(url, allow_http=True)
    except (UpstreamFailed, UpstreamTimedOut):
        _log.debug("a new source's host does not resolve")
    await _check_room(session, actor, pages=1 if source.type == "url" else source.max_pages)
    await require_source(session, actor.tenant_id)
    bounds = Bounds(
        max_pages=1 if source.type == "url" else source.max_pages,
        max_depth=source.max_depth,
        exclude=tuple(source.exclude),
    )
    row = Source(
        tenant_id=actor.tenant_id,
        source_id=ids.new_id("src"),
        kind=source.type,
        name=source.name or url.removeprefix("https://").removeprefix("http://").rstrip("/")[:300],
        settings=bounds.model_dump(mode="json"),
        url=url,
        status="ready",
        schedule=source.schedule,
        progress={},
        created_at=clock.now(),
    )
    session.add(row)
    await session.flush()
    await runs.begin(session, row)
    await record_audit(
        session, actor, "source.create", subject_id=row.source_id, detail={"type": source.type, "url": url}
    )
    return row


def _features(schedule: Schedule) -> tuple[Feature, ...]:
    return (Feature.WEB_SOURCES,) if schedule == "never" else (Feature.WEB_SOURCES, Feature.SCHEDULED_SYNC)


async def _check_room(session: AsyncSession, actor: Actor, *, pages: int, besides: str | None = None) -> None:
    rows = await session.scalars(
        select(Source).where(Source.tenant_id == actor.tenant_id, Source.kind.in_(WEB)).limit(MAX_SOURCES)
    )
    held = [Bounds.of(source).max_pages for source in rows if source.source_id != besides]
    if len(held) >= MAX_SOURCES:
        raise TooManySources(f"There may be at most {MAX_SOURCES} web sources. Delete one that is no longer needed.")
    if sum(held) + pages > MAX_TENANT_PAGES:
        raise TooManySources(
            f"Web sources may hold at most {MAX_TENANT_PAGES:,} pages together. Allow this one fewer, or delete another."
        )


async def _locked(session: AsyncSession, actor: Actor, source_id: str) -> Source:
    source: Source | None = await session.scalar(
        select(Source).where(Source.tenant_id == actor.tenant_id, Source.source_id == source_id).with_for_update()
    )
    if source is None:
        raise NotFound("There is no such source.")
    return source


async def sync_source(session: AsyncSession, actor: Actor, *, source_id: str) -> Source:
    """Fetch a web source again, from now on. One that is being fetched, or was written here, stays as it is.

    Raises `FeatureNotInPlan`, `NotFound`.
    """
    actor.require("write")
    source = await _locked(session, actor, source_id)
    if source.kind in WEB:
        await require_feature(session, actor.tenant_id, *_features("never"))
        if await runs.begin(session, source):
            await record_audit(session, actor, "source.sync", subject_id=source_id)
    return source


async def cancel_sync(session: AsyncSession, actor: Actor, *, source_id: str) -> Source:
    """Stop fetching. What was read so far stays and answers. Does nothing where nothing is fetched."""
    actor.require("write")
    source = await _locked(session, actor, source_id)
    if await runs.cancel(session, source):
        await record_audit(session, actor, "source.cancel", subject_id=source_id)
    return source


async def update_source(
    session: AsyncSession,
    actor: Actor,
    *,
    source_id: str,
    name: str | None = None,
    schedule: Schedule | None = None,
    bounds: Bounds | None = None,
) -> Source:
    """Rename a source, say how often it is fetched again, or what of a site belongs to it from the next sync on.

    Raises `InvalidInput` to schedule or bound what was written here, `TooManySources`, `FeatureNotInPlan`, `NotFound`.
    """
    actor.require("write")
    source = await _locked(session, actor, source_id)
    if (schedule is not None or bounds is not None) and source.kind not in WEB:
        raise InvalidInput(
            "What was written here is not fetched, so it has no schedule.",
            errors=[{"field": "schedule", "message": "only for web sources"}],
        )
    if name is not None:
        source.name = name
    if schedule is not None and schedule != source.schedule:
        if schedule != "never":
            await require_feature(session, actor.tenant_id, *_features(schedule))
        source.schedule = schedule
        runs.plan(source)
    if bounds is not None and bounds != Bounds.of(source):
        await _check_room(session, actor, pages=bounds.max_pages, besides=source_id)
        source.settings = bounds.model_dump(mode="json")
    await record_audit(session, actor, "source.update", subject_id=source_id)
    return source


async def list_pages(
    session: AsyncSession,
    actor: Actor,
    *,
    source: Source,
    state: PageState | Sequence[PageState] | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> tuple[list[SourcePage], str | None]:
    """A page of a source's addresses in the order they were found, and the cursor of the next page or None."""
    actor.require("read")
    limit = max(1, min(limit, MAX_PAGE))
    chosen = select(SourcePage).where(SourcePage.tenant_id == actor.tenant_id, SourcePage.source_id == source.source_id)
    if state is not None:
        chosen = chosen.where(SourcePage.state.in_([state] if isinstance(state, str) else state))
    if cursor is not None:
        chosen = chosen.where(SourcePage.page_id > decode_cursor(cursor, str)[0])
    found = list(await session.scalars(chosen.order_by(SourcePage.page_id).limit(limit + 1)))
    following = encode_cursor(found[limit - 1].page_id) if len(found) > limit else None
    return found[:limit], following


async def recent_failures(session: AsyncSession, actor: Actor, *, source: Source, limit: int = 20) -> list[SourcePage]:
    """The pages that failed last, newest first; also those that will be tried again in the sync at work."""
    actor.require("read")
    chosen = (
        select(SourcePage)
        .where(
            SourcePage.tenant_id == actor.tenant_id,
            SourcePage.source_id == source.source_id,
            (SourcePage.state == "failed") | ((SourcePage.state == "waiting") & SourcePage.reason.is_not(None)),
        )
        .order_by(SourcePage.fetched_at.desc().nulls_last(), SourcePage.page_id)
        .limit(limit)
    )
    return list(await session.scalars(chosen))


async def list_web_sources(session: AsyncSession, actor: Actor) -> list[Source]:
    """All web sources, newest first; there are at most `MAX_SOURCES`."""
    actor.require("read")
    chosen = select(Source).where(Source.tenant_id == actor.tenant_id, Source.kind.in_(WEB))
    return list(await session.scalars(chosen.order_by(Source.source_id.desc()).limit(MAX_SOURCES)))


async def start_due_syncs(database: Database) -> int:
    """Start the sync of every source whose time has come, each under its own tenant; one that fails holds up no other.

    Returns how many were started.
    """
    # Each tenant's first, then each one's second: no tenant's sources keep another's waiting.
    turn = func.row_number().over(partition_by=Source.tenant_id, order_by=(Source.next_sync_at, Source.source_id))
    async with database.platform() as session:
        rows = await session.execute(
            select(Source.tenant_id, Source.source_id)
            .where(Source.next_sync_at <= func.now(), Source.tenant_id.not_in(select(SuspendedTenantRow.tenant_id)))
            .order_by(turn, Source.next_sync_at)
            .limit(MAX_DUE)
        )
        due = [(row.tenant_id, row.source_id) for row in rows]
    started = 0
    for tenant_id, source_id in due:
        try:
            started += await _start_due(database, tenant_id, source_id)
        except Exception:
            _log.exception("could not start the sync of a source", extra={"tenant_id": str(tenant_id)})
            await _postpone(database, tenant_id, source_id)
    return started


async def _postpone(database: Database, tenant_id: UUID, source_id: str) -> None:
    """What cannot be started goes behind those that wait: else the same few would be tried for ever, and nothing else."""
    mine = (Source.tenant_id == tenant_id, Source.source_id == source_id, Source.next_sync_at <= func.now())
    try:
        async with database.tenant(tenant_id) as session:
            await session.execute(update(Source).where(*mine).values(next_sync_at=clock.now() + TRIED_AGAIN))
    except Exception:
        _log.warning("could not postpone the sync of a source", exc_info=True, extra={"tenant_id": str(tenant_id)})


async def _start_due(database: Database, tenant_id: UUID, source_id: str) -> bool:
    async with database.tenant(tenant_id) as session:
        source = await session.scalar(
            select(Source)
            .where(Source.tenant_id == tenant_id, Source.source_id == source_id, Source.next_sync_at <= func.now())
            .with_for_update(skip_locked=True)
        )
        if source is None:
            return False
        held = await entitlements(session, tenant_id)
        if not all(held.has(feature) for feature in _features("daily")):
            runs.plan(source)  # until the plan has it again
            return False
        return await runs.begin(session, source)


def progress_of(source: Source) -> Progress:
    """How far its present, or last, sync has come."""
    return Progress.of(source)

"""One sync of a source, as a chain of short jobs, so that nobody waits long for a worker, and a crash loses one page.

A job works on for a few seconds, writes each page down as it goes, and hands over to the next. Jobs are fenced by the
sync's id and the number of the part: whatever is left of a cancelled or an older sync, or runs twice, stops at once.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.jobs import enqueue
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.models import Source
from stonechat.knowledge.web import frontier
from stonechat.knowledge.web.fetch import RobotsUnreachable, fetch_robots
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.progress import MAX_RUN_BYTES, MAX_RUN_HOURS, Bounds, Progress
from stonechat.knowledge.web.record import Recorder
from stonechat.knowledge.web.robots import Robots
from stonechat.knowledge.web.runs import SYNC, finish, scope_of
from stonechat.knowledge.web.urls import normalise
from stonechat.knowledge.web.visit import Address, Visit, visit

MAX_STREAK = 10
"""After so many failures of the site in a row it is left alone."""
PATIENCE = 1.0
"""Seconds that a job waits for a host; longer waits are for the next."""
WRITTEN_EVERY = 0.5
"""Seconds of visits that a crash may lose, and that a cancelled job may still go on for; or so many:"""
WRITTEN_AT_ONCE = 10
LONGEST_PAUSE = 300.0
BUSY_PAUSE = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """Which job this is."""

    tenant_id: UUID
    source_id: str
    sync_id: str
    number: int

    def payload(self, number: int) -> dict[str, Any]:
        return {"source_id": self.source_id, "sync_id": self.sync_id, "part": number}


@dataclass(frozen=True, slots=True)
class _Visited:
    """A visit that is not written down yet."""

    page_id: str
    found: Visit
    robots: Robots


async def sync_part(knowledge: Knowledge, tenant_id: UUID, *, source_id: str, sync_id: str, part: int) -> None:
    """Visit what is due, for a few seconds."""
    job = _Job(knowledge, Part(tenant_id, source_id, sync_id, part))
    with knowledge.web.room_for(tenant_id) as room:
        if room:
            await job.work()
        else:
            await job.hand_over(part, pause=knowledge.web.pause())


class _Job:
    def __init__(self, knowledge: Knowledge, part: Part) -> None:
        self._knowledge = knowledge
        self._web = knowledge.web
        self._part = part

    async def work(self) -> None:
        now = asyncio.get_running_loop().time
        ends = now() + self._web.pace.part
        left, pause = self._web.pace.part_pages, 0.0
        pages = await self._first()
        while pages and left > 0 and not pause and now() < ends:
            try:
                visited, pause = await self._visit_some(pages[:left])
            except RobotsUnreachable as error:
                await self._stop(error)
                return
            if visited:
                left -= len(visited)
                pages = await self._record(visited)
        if pages:
            await self.hand_over(self._part.number + 1, pause=pause)

    async def _visit_some(self, pages: list[SourcePage]) -> tuple[list[_Visited], float]:
        """Visit these, as far as that goes without waiting; and how long the host wants to be left alone then."""
        now = asyncio.get_running_loop().time
        ends = now() + WRITTEN_EVERY
        visited: list[_Visited] = []
        for page in pages:
            try:
                robots = await self._robots(page.url)
            except RobotsUnreachable:
                if visited:
                    break
                raise
            host = urlsplit(page.url).netloc
            pause = self._web.wait_for(host)
            if pause and visited:
                break
            if 0 < pause <= PATIENCE:
                await asyncio.sleep(pause)
                pause = self._web.wait_for(host)
            if pause:
                return visited, pause
            try:
                found = await self._visit(page, robots)
            finally:
                self._web.leave(host, delay=self._web.pace.delay_of(robots))
            visited.append(_Visited(page.page_id, found, robots))
            if found.retry_after is not None or found.status == 429:
                return visited, min(found.retry_after or BUSY_PAUSE, LONGEST_PAUSE)
            if now() >= ends:
                break
        return visited, 0.0

    async def _visit(self, page: SourcePage, robots: Robots) -> Visit:
        if not robots.allows(page.url):
            reason = "The site's robots.txt asks robots to leave this page alone. To let us in, allow the user agent “Stonechat” there."
            return Visit("skipped", "robots", reason)
        fresh = page.state == "kept" and page.document_id is not None
        return await visit(
            self._web,
            Address(
                page.url,
                self._scope,
                sitemap=page.kind == "sitemap",
                redirects=page.redirects,
                etag=page.etag if fresh else None,
                last_modified=page.last_modified if fresh else None,
            ),
        )

    async def _robots(self, url: str) -> Robots:
        parts = urlsplit(url)
        origin = f"{parts.scheme}://{parts.netloc}"
        found = self._web.robots_of(self._part.sync_id, origin)
        if found is None:
            read = await fetch_robots(self._web, origin)
            sitemaps = tuple(filter(None, (normalise(each, base=origin) for each in read.sitemaps)))
            found = Robots(read.rules, read.delay, sitemaps)
            self._web.keep_robots(self._part.sync_id, origin, found)
        return found

    async def _first(self) -> list[SourcePage]:
        async with self._knowledge.database.tenant(self._part.tenant_id) as session:
            source = await self._locked(session)
            if source is None:
                return []
            self._scope = scope_of(source)
            pages = await frontier.next_due(session, source, limit=WRITTEN_AT_ONCE)
            if not pages:
                await finish(session, source, Progress.of(source))
            return pages

    async def _record(self, visited: list[_Visited]) -> list[SourcePage]:
        """Write it down, and take the next pages; none if there are none, or if this is not the job's any more."""
        knowledge = self._knowledge
        async with knowledge.database.tenant(self._part.tenant_id) as session:
            source = await self._locked(session)
            if source is None:
                return []
            progress = Progress.of(source)
            pages = await frontier.pages_of(session, source, page_ids=[each.page_id for each in visited])
            for each in visited:
                page = pages[each.page_id]
                if page.due:
                    recorder = Recorder(session, knowledge.files, source, progress, self._scope, each.robots)
                    await recorder.record(page, each.found)
                    await session.flush()
            source.progress = progress.model_dump()
            if progress.streak >= MAX_STREAK:
                last = visited[-1].found.reason
                reason = f"The site stopped answering: {last} Try again later; what was read before keeps answering."
                await finish(session, source, progress, failure=("site_failing", reason))
                return []
            following = await frontier.next_due(session, source, limit=WRITTEN_AT_ONCE)
            if following and (bound := _bound_reached(source, progress)):
                progress.note(bound)
                following = []
            if not following:
                await finish(session, source, progress)
            return following

    async def _stop(self, error: RobotsUnreachable) -> None:
        async with self._knowledge.database.tenant(self._part.tenant_id) as session:
            source = await self._locked(session)
            if source is not None:
                reason = (
                    f"The site's robots.txt could not be read, so nothing was fetched: {error} "
                    "Check the address, and try again; a site without a robots.txt must answer 404."
                )
                await finish(session, source, Progress.of(source), failure=("robots_unreachable", reason))

    async def hand_over(self, number: int, *, pause: float) -> None:
        """Let the part `number` go on after `pause` seconds."""
        async with self._knowledge.database.tenant(self._part.tenant_id) as session:
            source = await self._locked(session)
            if source is None:
                return
            source.progress = source.progress | {"part": number}
            await session.flush()
            await enqueue(
                session,
                self._part.tenant_id,
                SYNC,
                self._part.payload(number),
                dedupe_key=f"{self._part.sync_id}:{number}",
                delay=timedelta(seconds=pause),
            )

    async def _locked(self, session: AsyncSession) -> Source | None:
        """The source, if this job is the one that works on it."""
        source: Source | None = await session.scalar(
            select(Source)
            .where(
                Source.tenant_id == self._part.tenant_id,
                Source.source_id == self._part.source_id,
                Source.sync_id == self._part.sync_id,
            )
            .with_for_update()
        )
        return source if source is not None and Progress.of(source).part == self._part.number else None


async def fail_sync(knowledge: Knowledge, tenant_id: UUID, *, source_id: str, sync_id: str) -> None:
    """The job was given up: say so."""
    async with knowledge.database.tenant(tenant_id) as session:
        source = await session.scalar(
            select(Source)
            .where(Source.tenant_id == tenant_id, Source.source_id == source_id, Source.sync_id == sync_id)
            .with_for_update()
        )
        if source is not None:
            reason = "Something on our side kept this source from being fetched to the end. Sync it again."
            await finish(session, source, Progress.of(source), failure=("sync_failed", reason))


def _bound_reached(source: Source, progress: Progress) -> str | None:
    if progress.visits >= Bounds.of(source).max_visits:
        return "The site made us look at more addresses than one sync may. Narrow the source down."
    if progress.bytes >= MAX_RUN_BYTES:
        return "The site sent more than 2 GB, the most that one sync takes. Narrow the source down."
    if source.sync_started_at and clock.now() - source.sync_started_at > timedelta(hours=MAX_RUN_HOURS):
        return "The sync took longer than a day and was ended. Allow fewer pages, or ask the site for a shorter Crawl-delay."
    return None

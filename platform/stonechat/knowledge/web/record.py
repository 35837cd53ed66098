"""Writing down what came of a visit: the page's row, its document, and what it leads to. In one transaction each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import clock
from stonechat.errors import StorageFull
from stonechat.files import FileStore
from stonechat.jobs import enqueue
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.models import Document, Source
from stonechat.knowledge.service import INGEST, add_document, bury, replaced_original
from stonechat.knowledge.web import frontier
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.progress import MAX_FILES, Bounds, Progress
from stonechat.knowledge.web.robots import Robots
from stonechat.knowledge.web.urls import Scope, same_page
from stonechat.knowledge.web.visit import Visit

MAX_TRIES = 2
_STATES = {"moved": "moved", "skipped": "skipped", "failed": "failed", "gone": "gone"}


@dataclass(frozen=True, slots=True)
class Recorder:
    """What one source's visits are written down with."""

    session: AsyncSession
    files: FileStore
    source: Source
    progress: Progress
    scope: Scope
    robots: Robots

    async def record(self, page: SourcePage, visit: Visit) -> None:
        """Settle a page that was due; or leave it due, if trying again may help."""
        progress = self.progress
        page.status, page.fetched_at = visit.status, clock.now()
        progress.visits += 1
        progress.bytes += len(visit.body)
        progress.streak = progress.streak + 1 if visit.temporary else 0
        if visit.temporary and page.tries + 1 < MAX_TRIES:
            page.tries += 1
            page.code, page.reason = visit.code, visit.reason
            return
        page.due = False
        progress.done += 1
        match visit.outcome:
            case "read":
                await self._read(page, visit)
            case "unchanged":
                page.state, page.code, page.reason = "kept", None, None
                progress.unchanged += 1
            case "listed":
                page.state, page.code, page.reason = "kept", None, None
            case "moved" | "skipped" | "failed" | "gone":
                await self._not_kept(page, visit)
        await self._lead_on(page, visit)

    async def _not_kept(self, page: SourcePage, visit: Visit) -> None:
        page.state, page.code, page.reason = _STATES[visit.outcome], visit.code, visit.reason
        if page.kind == "sitemap":
            self.progress.sitemap_failed = True
        if visit.outcome == "failed" or (visit.outcome == "gone" and page.kind == "sitemap"):
            self.progress.failed += 1
            if page.kind == "sitemap":
                page.state = "failed"
            return  # what was read before keeps answering
        if visit.outcome != "gone":
            self.progress.skipped += 1
        await self.release(page)

    async def _read(self, page: SourcePage, visit: Visit) -> None:
        digest = visit.digest or hashlib.sha256(visit.body).digest()
        original = await self._original_of(page, visit, digest)
        if original is not None:
            page.state, page.same_as, page.code = "duplicate", original, "duplicate"
            page.reason = f"It is a copy of {original}, which is kept in its place."
            self.progress.skipped += 1
            await self.release(page)
            self.progress.copies += 1
            return
        document = await self._document_of(page)
        if document is not None and page.digest == digest:
            self.progress.unchanged += 1
        elif document is not None:
            await self._replace(document, visit)
            self.progress.changed += 1
        elif not await self._add(page, visit):
            return
        changed = page.digest is not None and page.digest != digest
        page.state, page.code, page.reason, page.same_as = "kept", None, None, None
        page.etag, page.last_modified, page.digest = visit.etag, visit.last_modified, digest
        if changed:
            await self.session.flush()
            await frontier.visit_copies(self.session, self.source, self.progress, url=page.url)

    async def _original_of(self, page: SourcePage, visit: Visit, digest: bytes) -> str | None:
        """The address of the page that this one is a copy of, by its own word or by its text."""
        canonical = visit.canonical
        if canonical is not None and self._is_plausible(page, canonical):
            known = await frontier.find(self.session, self.source, url=canonical)
            # A canonical address that turned out to be none (broken, or a copy itself) is not believed.
            if known is None or known.due or known.document_id is not None or known.seen_in != self.source.sync_id:
                await self._add_urls([canonical], depth=page.depth)
                return canonical
        twin = await frontier.twin_of(self.session, page, digest=digest)
        return twin.url if twin is not None else None

    def _is_plausible(self, page: SourcePage, canonical: str) -> bool:
        if self.source.kind == "url" or same_page(canonical, page.url) or not self.scope.holds(canonical):
            return False
        # Templates that name the home page as everything's canonical address are a common mistake.
        return urlsplit(canonical).path != "/" or urlsplit(page.url).path == "/"

    async def _document_of(self, page: SourcePage) -> Document | None:
        if page.document_id is None:
            return None
        document: Document | None = await self.session.scalar(
            select(Document)
            .where(
                Document.tenant_id == page.tenant_id,
                Document.document_id == page.document_id,
                Document.deleted_at.is_(None),
            )
            .with_for_update()
        )
        if document is None:  # deleted by hand
            page.document_id = None
            self.progress.documents -= 1
        return document

    async def _add(self, page: SourcePage, visit: Visit) -> bool:
        progress = self.progress
        is_file = visit.media_type is not MediaType.HTML
        most = Bounds.of(self.source).max_pages
        if progress.documents >= most:
            return self._without_room(page, "source_full", f"This source holds {most} pages already, the most it may.")
        if is_file and progress.files >= MAX_FILES:
            reason = f"At most {MAX_FILES} files that are no web pages are read from one source."
            return self._without_room(page, "source_full", reason)
        try:
            document = await add_document(
                self.session,
                page.tenant_id,
                files=self.files,
                data=visit.body,
                media_type=visit.media_type,
                filename=visit.filename,
                title=visit.title,
                url=page.url,
                source_id=page.source_id,
            )
        except StorageFull as error:
            return self._without_room(page, error.code, error.detail or error.title)
        document.title_given = False
        page.document_id = document.document_id
        progress.documents += 1
        progress.added += 1
        progress.files += is_file
        return True

    def _without_room(self, page: SourcePage, code: str, reason: str) -> bool:
        page.state, page.code, page.reason = "skipped", code, reason
        self.progress.skipped += 1
        self.progress.note(reason)
        return False

    async def _replace(self, document: Document, visit: Visit) -> None:
        """New bytes for a document; what was read of the old ones answers until the new ones are read."""
        digest = hashlib.sha256(visit.body).digest()
        await self.files.put(document.tenant_id, replaced_original(document.document_id, digest), data=visit.body)
        document.sha256, document.bytes = digest, len(visit.body)
        document.media_type, document.filename = visit.media_type.value, visit.filename
        document.status, document.error_code, document.error = "pending", None, None
        document.reading, document.progress_stage = None, None  # whoever reads the old bytes just now reads in vain
        document.updated_at = clock.now()
        await self.session.flush()
        await enqueue(
            self.session,
            document.tenant_id,
            INGEST,
            {"document_id": document.document_id},
            dedupe_key=document.document_id,
        )

    async def release(self, page: SourcePage) -> None:
        """Let the page's document go, and have its copies looked at, one of which may stand in for it."""
        document = await self._document_of(page)
        page.document_id = page.digest = page.etag = page.last_modified = None
        if document is not None:
            await bury(self.session, document)
            self.progress.documents -= 1
            self.progress.removed += 1
        await self.session.flush()
        await frontier.visit_copies(self.session, self.source, self.progress, url=page.url)

    async def _lead_on(self, page: SourcePage, visit: Visit) -> None:
        if visit.target is not None:
            await self._add_urls([visit.target], depth=page.depth, redirects=page.redirects + 1)
        if visit.outcome == "listed":
            if page.depth < -1:
                await self._add_urls(visit.sitemaps, depth=page.depth + 1)
            await self._add_urls(visit.links, depth=0)
        elif self.source.kind == "site":
            if page.url == self.source.url:
                await self._add_urls(
                    [url for url in self.robots.sitemaps if Scope(self.scope.host, "/").holds(url)],
                    depth=frontier.SITEMAP_DEPTH,
                )
            if page.depth < Bounds.of(self.source).max_depth:
                await self._add_urls(visit.links, depth=page.depth + 1)

    async def _add_urls(self, urls: list[str] | tuple[str, ...], *, depth: int, redirects: int = 0) -> None:
        if urls:
            await frontier.add(
                self.session,
                self.source,
                self.progress,
                urls,
                sync_id=self.source.sync_id or "",
                depth=depth,
                redirects=redirects,
                robots=self.robots,
            )

"""Which addresses of a source are known, and which of them are still to be visited in the sync at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from stonechat import ids
from stonechat.knowledge.models import Source
from stonechat.knowledge.web.models import SourcePage
from stonechat.knowledge.web.progress import Bounds, Progress
from stonechat.knowledge.web.robots import Robots
from stonechat.knowledge.web.urls import leads_astray, without_query

SITEMAP_DEPTH = -3
"""Of a sitemap that is named first; one that it names is at -2, and so on up to -1."""
MAX_SITEMAPS = 100
MAX_VARIANTS = 200
"""Addresses that differ only in what follows the question mark."""
_TOO_MANY = "The site has more addresses than this source may look at, so some were left out. Narrow it down, or allow more pages."
_VARIANTS = "Some pages have very many variants after a question mark; the first 200 of each were looked at."


async def begin(session: AsyncSession, source: Source, *, sync_id: str) -> Progress:
    """Make due what the sync is to visit; of a site everything that is known, otherwise where it begins."""
    mine = (SourcePage.tenant_id == source.tenant_id, SourcePage.source_id == source.source_id)
    await session.execute(delete(SourcePage).where(*mine, SourcePage.state == "gone", SourcePage.document_id.is_(None)))
    everything = source.kind == "site"
    await session.execute(
        update(SourcePage).where(*mine).values(due=everything, tries=0, **({"seen_in": sync_id} if everything else {}))
    )
    found, documents = (
        await session.execute(select(func.count(), func.count(SourcePage.document_id)).where(*mine))
    ).one()
    progress = Progress(found=found if everything else 0, documents=documents)
    await add(
        session,
        source,
        progress,
        [source.url or ""],
        sync_id=sync_id,
        depth=SITEMAP_DEPTH if source.kind == "sitemap" else 0,
    )
    return progress


async def add(
    session: AsyncSession,
    source: Source,
    progress: Progress,
    urls: Iterable[str],
    *,
    sync_id: str,
    depth: int,
    redirects: int = 0,
    robots: Robots | None = None,
) -> None:
    """Make addresses due that the sync has not seen yet, as many as its bounds let in. A negative depth is a sitemap's."""
    wanted = [url for url in dict.fromkeys(urls) if not leads_astray(url)]
    room = Bounds.of(source).max_visits - progress.found
    wanted = await _few_variants(session, source, progress, wanted)
    if depth < 0:
        room = min(room, MAX_SITEMAPS)
    if not wanted:
        return
    for start in range(0, len(wanted), 500):
        some = [url for url in wanted[start : start + 500] if robots is None or robots.allows(url)][: max(0, room)]
        rows = [
            {
                "tenant_id": source.tenant_id,
                "page_id": page_id,
                "source_id": source.source_id,
                "url": url,
                "kind": "sitemap" if depth < 0 else "page",
                "depth": depth,
                "redirects": redirects,
                "seen_in": sync_id,
            }
            # Ids of one moment are in no order of their own.
            for page_id, url in zip(sorted(ids.new_id("pag") for _ in some), some, strict=True)
        ]
        if not rows:
            break
        statement = insert(SourcePage).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["tenant_id", "source_id", "url"],
            set_={"due": True, "seen_in": sync_id, "depth": statement.excluded.depth, "redirects": redirects},
            where=SourcePage.seen_in.is_distinct_from(sync_id),
        )
        added = len((await session.execute(statement.returning(SourcePage.page_id))).all())
        progress.found += added
        room -= added
    if room <= 0:
        progress.note(_TOO_MANY)


async def _few_variants(session: AsyncSession, source: Source, progress: Progress, urls: list[str]) -> list[str]:
    paths = {without_query(url) for url in urls if "?" in url}
    if not paths:
        return urls
    path = func.split_part(SourcePage.url, "?", 1)
    rows = await session.execute(
        select(path.label("path"), func.count().label("held"))
        .where(
            SourcePage.tenant_id == source.tenant_id, SourcePage.source_id == source.source_id, path.in_(sorted(paths))
        )
        .group_by(path)
    )
    held = Counter({row.path: row.held for row in rows})
    kept = []
    for url in urls:
        if "?" in url:
            held[without_query(url)] += 1
            if held[without_query(url)] > MAX_VARIANTS:
                progress.note(_VARIANTS)
                continue
        kept.append(url)
    return kept


async def next_due(session: AsyncSession, source: Source, *, limit: int) -> list[SourcePage]:
    """The pages to visit next: sitemaps, then those nearest to where the source begins, then what failed once."""
    chosen = (
        select(SourcePage)
        .where(SourcePage.tenant_id == source.tenant_id, SourcePage.source_id == source.source_id, SourcePage.due)
        .order_by(SourcePage.tries, SourcePage.depth, SourcePage.page_id)
        .limit(limit)
    )
    return list(await session.scalars(chosen))


async def pages_of(session: AsyncSession, source: Source, *, page_ids: list[str]) -> dict[str, SourcePage]:
    """These pages of a source's, locked."""
    chosen = select(SourcePage).where(
        SourcePage.tenant_id == source.tenant_id,
        SourcePage.source_id == source.source_id,
        SourcePage.page_id.in_(page_ids),
    )
    return {page.page_id: page for page in await session.scalars(chosen.order_by(SourcePage.page_id).with_for_update())}


async def find(session: AsyncSession, source: Source, *, url: str) -> SourcePage | None:
    """What is known of an address."""
    page: SourcePage | None = await session.scalar(
        select(SourcePage).where(
            SourcePage.tenant_id == source.tenant_id, SourcePage.source_id == source.source_id, SourcePage.url == url
        )
    )
    return page


async def twin_of(session: AsyncSession, page: SourcePage, *, digest: bytes) -> SourcePage | None:
    """Another page of the source with the same text, that answers."""
    twin: SourcePage | None = await session.scalar(
        select(SourcePage)
        .where(
            SourcePage.tenant_id == page.tenant_id,
            SourcePage.source_id == page.source_id,
            SourcePage.digest == digest,
            SourcePage.document_id.is_not(None),
            SourcePage.page_id != page.page_id,
        )
        .order_by(SourcePage.page_id)
        .limit(1)
    )
    return twin


async def visit_copies(session: AsyncSession, source: Source, progress: Progress, *, url: str) -> None:
    """The page at `url` answers no more, or with other words: its copies may have to stand in for it."""
    if not progress.copies:
        return
    copies = await session.execute(
        update(SourcePage)
        .where(
            SourcePage.tenant_id == source.tenant_id,
            SourcePage.source_id == source.source_id,
            SourcePage.same_as == url,
            SourcePage.state == "duplicate",
            SourcePage.due.is_(False),
            SourcePage.seen_in == source.sync_id,
        )
        .values(due=True)
        .returning(SourcePage.page_id)
    )
    progress.done -= len(copies.all())


async def unlisted(session: AsyncSession, source: Source) -> list[SourcePage]:
    """Pages that this sync has not come across."""
    chosen = select(SourcePage).where(
        SourcePage.tenant_id == source.tenant_id,
        SourcePage.source_id == source.source_id,
        SourcePage.kind == "page",
        SourcePage.seen_in.is_distinct_from(source.sync_id),
    )
    return list(await session.scalars(chosen))


async def nothing_due(session: AsyncSession, tenant_id: UUID, source_id: str) -> None:
    """Give up what was still to be visited."""
    await session.execute(
        update(SourcePage)
        .where(SourcePage.tenant_id == tenant_id, SourcePage.source_id == source_id, SourcePage.due)
        .values(due=False)
    )

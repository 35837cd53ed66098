"""How documents are searched, and where they come from. Files that were uploaded are data, not configuration."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, select

from stonechat.configuration.document import MAX_SOURCES as MAX_ENTRIES
from stonechat.configuration.document import FaqEntry, KnowledgeEntry, SourceEntry, TextEntry, WebEntry
from stonechat.configuration.plan import Work, differing, paired
from stonechat.errors import Conflict, NotFound
from stonechat.files import FileStore
from stonechat.knowledge import sources as written
from stonechat.knowledge import tuning
from stonechat.knowledge.editing import Rewriting, read_written, rewrite_source
from stonechat.knowledge.models import Document, Source
from stonechat.knowledge.schemas import FaqSourceIn, TextSourceIn, WebSourceIn
from stonechat.knowledge.tuning import SearchSettings
from stonechat.knowledge.web import service as web
from stonechat.knowledge.web.progress import Bounds
from stonechat.knowledge.web.urls import normalise

MAX_CONTENT = 4 * 1024 * 1024
"""Characters of texts and answers in one document."""
MAX_TEXTS = 500
"""Sources with their texts in one document: each is a file to be read."""


async def read_knowledge(work: Work) -> KnowledgeEntry:
    """The search's settings and the sources; with `work.content`, what was written here as well."""
    return KnowledgeEntry(search=await _read_search(work), sources=await _read_sources(work))


async def apply_knowledge(work: Work, wanted: KnowledgeEntry) -> None:
    """Change how documents are searched, and make and change sources."""
    if wanted.search is not None:
        await _apply_search(work, wanted.search)
    if wanted.sources is not None:
        await _apply_sources(work, wanted.sources)


async def _read_search(work: Work) -> SearchSettings:
    row = await tuning.settings_row(work.session, work.actor)
    return (
        SearchSettings() if row is None else SearchSettings(**{n: getattr(row, n) for n in SearchSettings.model_fields})
    )


async def _apply_search(work: Work, wanted: SearchSettings) -> None:
    before = await _read_search(work)
    if before == wanted:
        work.same()
        return
    if wanted.embedding_provider in work.waiting_providers:
        work.ask("knowledge.search", f"The search is changed once “{wanted.embedding_provider}” has its key.")
        return
    with work.at("knowledge.search"):
        layout = work.means.settings.index_layout
        await tuning.put_settings(work.session, work.actor, settings=wanted, layout=layout)
    changed = differing(before.model_dump(), wanted.model_dump())
    work.done("change", "search", "", path="knowledge.search", fields=changed)


async def _rows(work: Work) -> list[tuple[Source, str | None]]:
    """Sources in the order in which they were made, with the address that their document is cited by."""
    document = and_(
        Document.tenant_id == Source.tenant_id,
        Document.source_id == Source.source_id,
        Document.deleted_at.is_(None),
        Source.kind.in_(("text", "faq")),
    )
    chosen = (
        select(Source, Document.url)
        .outerjoin(Document, document)
        .where(Source.tenant_id == work.actor.tenant_id)
        .order_by(Source.source_id)
        .limit(MAX_ENTRIES + 1)
        .execution_options(populate_existing=True)
    )
    rows = [(source, url) for source, url in await work.session.execute(chosen)]
    if len(rows) > MAX_ENTRIES:
        raise Conflict(f"There are more than {MAX_ENTRIES:,} sources, which is more than one document holds.")
    return rows


async def _read_sources(work: Work) -> list[SourceEntry]:
    entries, characters, texts = [], 0, 0
    for row, url in await _rows(work):
        entry = _entry(row, url)
        if work.content and not isinstance(entry, WebEntry):
            entry = await _with_content(work, entry, row)
            characters, texts = characters + len(entry.model_dump_json()), texts + 1
            if characters > MAX_CONTENT or texts > MAX_TEXTS:
                raise Conflict("What was written here is too much for one document. Export it without the texts.")
        entries.append(entry)
    return entries


def _entry(row: Source, url: str | None) -> SourceEntry:
    if row.kind == "text":
        return TextEntry(type="text", id=row.source_id, name=row.name, url=url)
    if row.kind == "faq":
        return FaqEntry(type="faq", id=row.source_id, name=row.name, url=url)
    bounds = Bounds.of(row)
    return WebEntry.model_validate(
        {
            "type": row.kind,
            "id": row.source_id,
            "url": row.url,
            "name": row.name,
            "schedule": row.schedule,
            "max_pages": bounds.max_pages,
            "max_depth": bounds.max_depth,
            "exclude": list(bounds.exclude),
        }
    )


async def _with_content(work: Work, entry: TextEntry | FaqEntry, row: Source) -> TextEntry | FaqEntry:
    try:
        held = await read_written(work.session, work.actor, files=work.means.files, source_id=row.source_id)
    except NotFound:  # its document was deleted by itself
        return entry
    if isinstance(entry, TextEntry):
        return entry.model_copy(update={"text": held.text})
    return entry.model_copy(update={"pairs": list(held.pairs)})


async def _apply_sources(work: Work, entries: Sequence[SourceEntry]) -> None:
    rows = await _rows(work)
    found, others = paired(
        entries,
        rows,
        path="knowledge.sources",
        entry_id=lambda entry: entry.id,
        row_id=lambda row: row[0].source_id,
        entry_name=_entry_name,
        row_name=lambda row: (row[0].kind, row[0].url or row[0].name),
        fits=lambda entry, row: entry.type == row[0].kind,
    )
    for row, _ in others:
        if work.left_over("source", row.name):
            await written.delete_source(work.session, work.actor, source_id=row.source_id)
    for number, (entry, held) in enumerate(zip(entries, found, strict=True)):
        path = f"knowledge.sources.{number}"
        with work.at(path):
            if isinstance(entry, WebEntry):
                await (_make_web(work, entry, path) if held is None else _change_web(work, entry, held[0], path))
            elif held is None:
                await _write(work, entry, path)
            else:
                await _rewrite(work, entry, *held, path=path)


def _entry_name(entry: SourceEntry) -> tuple[str, str]:
    if not isinstance(entry, WebEntry):
        return entry.type, entry.name
    typed = entry.url if "://" in entry.url else f"https://{entry.url}"
    return entry.type, normalise(typed) or entry.url


async def _make_web(work: Work, entry: WebEntry, path: str) -> None:
    work.require_flag("web_sources")
    new = WebSourceIn(**entry.model_dump(exclude={"id"}))
    row = await web.create_web_source(work.session, work.actor, web=work.means.web, source=new)
    work.done("create", "source", row.name, path=path)


async def _change_web(work: Work, entry: WebEntry, row: Source, path: str) -> None:
    if _entry_name(entry)[1] != row.url:
        raise Conflict("A source's address does not change. Give the new address as a source without an id.")
    name = entry.name or row.name
    bounds = Bounds(
        max_pages=1 if entry.type == "url" else entry.max_pages,
        max_depth=entry.max_depth,
        exclude=tuple(entry.exclude),
    )
    before = {"name": row.name, "schedule": row.schedule} | Bounds.of(row).model_dump()
    changed = differing(before, {"name": name, "schedule": entry.schedule} | bounds.model_dump())
    if not changed:
        work.same()
        return
    await web.update_source(
        work.session, work.actor, source_id=row.source_id, name=name, schedule=entry.schedule, bounds=bounds
    )
    work.done("change", "source", name, path=path, fields=changed)


async def _write(work: Work, entry: TextEntry | FaqEntry, path: str) -> None:
    work.require_flag("uploads")
    new: TextSourceIn | FaqSourceIn
    if isinstance(entry, TextEntry) and entry.text is not None:
        new = TextSourceIn(type="text", name=entry.name, text=entry.text, url=entry.url)
    elif isinstance(entry, FaqEntry) and entry.pairs is not None:
        new = FaqSourceIn(type="faq", name=entry.name, pairs=entry.pairs, url=entry.url)
    else:
        what = "text" if isinstance(entry, TextEntry) else "pairs"
        work.ask(
            path, f"“{entry.name}” is not there, and the document holds no {what} of it: write them, or export them."
        )
        return
    await written.create_source(work.session, work.actor, files=_files(work), source=new)
    work.done("create", "source", entry.name, path=path)


async def _rewrite(work: Work, entry: TextEntry | FaqEntry, row: Source, url: str | None, *, path: str) -> None:
    changed = [name for name, differs in (("name", entry.name != row.name), ("url", entry.url != url)) if differs]
    text = entry.text if isinstance(entry, TextEntry) else None
    pairs = entry.pairs if isinstance(entry, FaqEntry) else None
    if text is not None or pairs is not None:
        held = await read_written(work.session, work.actor, files=_files(work), source_id=row.source_id)
        # Stored without the space around it, as everywhere where it is written.
        if text is not None and text.strip() != held.text:
            changed.append("text")
        if pairs is not None and tuple(pairs) != held.pairs:
            changed.append("pairs")
    if not changed:
        work.same()
        return
    change = Rewriting(name=entry.name, text=text, pairs=pairs, url=entry.url or "")
    await rewrite_source(work.session, work.actor, files=_files(work), source_id=row.source_id, change=change)
    work.done("change", "source", entry.name, path=path, fields=changed)


def _files(work: Work) -> FileStore:
    return work.means.files

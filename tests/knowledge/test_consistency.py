"""What Postgres, the index and the file store do not agree about is found and mended, a slice at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from stonechat import clock, ids
from stonechat.accounts.actor import system
from stonechat.knowledge import consistency, service, sources
from stonechat.knowledge.consistency import Findings, check_consistency, check_some, last_rounds
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.editing import Rewriting, read_written, rewrite_source
from stonechat.knowledge.index import points_of
from stonechat.knowledge.reindex import ask_reindex, reindex_state, reindex_tenant, tenants_with_knowledge
from stonechat.knowledge.schemas import TextSourceIn
from stonechat.knowledge.search import search
from support.consistency import agreement
from support.knowledge import fetch, run_jobs, upload
from support.postgres import TestDatabase

PARTS = "\n\n".join(f"# Part {n}\n\n" + f"Topic{n} is explained here at some length. " * 30 for n in range(12))


async def chunk_ids(knowledge: Knowledge, tenant_id: UUID, document_id: str) -> list[str]:
    async with knowledge.database.tenant(tenant_id) as session:
        passages = await service.list_passages(session, system(tenant_id), document_id=document_id)
    return [passage.chunk_id for passage in passages]


async def test_where_all_agree_nothing_is_done(knowledge: Knowledge, tenant_id: UUID) -> None:
    await upload(knowledge, tenant_id, PARTS, filename="a.md")
    assert await check_consistency(knowledge, tenant_id) == Findings(compared=12, complete=True)
    assert await agreement(knowledge, tenant_id) == []


@pytest.mark.parametrize("page", [3, 1000])
async def test_orphans_and_gaps_are_mended(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(consistency, "MAX_HELD", page)
    held = knowledge.index.held

    async def short(at: Any, **options: Any) -> Any:
        return await held(at, **{"limit": page} | options)

    monkeypatch.setattr(knowledge.index, "held", short)
    document = await upload(knowledge, tenant_id, PARTS, filename="a.md")
    lost = (await chunk_ids(knowledge, tenant_id, document.document_id))[2:7]
    await knowledge.index.delete_points(tenant_id, lost)
    strays = points_of(tenant_id, document.document_id, ["words of an old version", "and more"], language="en")
    strays += points_of(tenant_id, ids.new_id("doc"), ["words of a document that is gone"], language="en")
    await knowledge.index.upsert(tenant_id, strays)
    assert len(await agreement(knowledge, tenant_id)) == 8

    found = await check_consistency(knowledge, tenant_id)
    assert (found.orphans, found.gaps, found.complete) == (3, 5, True)
    assert await agreement(knowledge, tenant_id) == []
    assert {hit.chunk_id for hit in await search(knowledge, tenant_id, "topic3")} & set(lost)
    assert (await check_consistency(knowledge, tenant_id)).mended == Findings(compared=12).mended


async def test_what_a_reading_under_way_wrote_is_left_to_it(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, PARTS, filename="a.md")
    fresh = points_of(tenant_id, document.document_id, ["not yet switched"], language="en")
    await knowledge.index.upsert(tenant_id, fresh)
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(text("update documents set status = 'processing', reading = 'somebody'"))
    assert (await check_consistency(knowledge, tenant_id)).orphans == 0
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(text("update documents set status = 'ready', reading = null"))
    assert (await check_consistency(knowledge, tenant_id)).orphans == 1


async def test_a_check_goes_on_where_it_stopped(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consistency, "MAX_HELD", 5)
    held = knowledge.index.held

    async def short(at: Any, **options: Any) -> Any:
        return await held(at, **{"limit": 5} | options)

    monkeypatch.setattr(knowledge.index, "held", short)
    document = await upload(knowledge, tenant_id, PARTS, filename="a.md")
    await knowledge.index.delete_points(tenant_id, await chunk_ids(knowledge, tenant_id, document.document_id))
    rounds = []
    while not rounds or not rounds[-1].complete:
        rounds.append(await check_consistency(knowledge, tenant_id, most=5))
    assert len(rounds) == 3
    assert sum(found.gaps for found in rounds) == 12
    async with knowledge.database.tenant(tenant_id) as session:
        state = await reindex_state(session, tenant_id)
    assert state is not None
    assert (state.found["gaps"], state.passages_after) == (12, None)


async def test_files_and_rows_are_compared(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = await upload(knowledge, tenant_id, "These words answer.", filename="a.md")
    kept = await upload(knowledge, tenant_id, "Others, too.", filename="b.md")
    await knowledge.files.delete(tenant_id, service.original_of(lost.document_id))
    stray = ids.new_id("doc")
    await knowledge.files.put(tenant_id, service.original_of(stray), data=b"uploaded, and never committed")
    await knowledge.files.put(tenant_id, "documents/README.txt", data=b"not ours to judge")

    found = await check_consistency(knowledge, tenant_id)
    assert (found.stray_files, found.lost_files) == (0, 1)  # it may be about to get its row
    document = await fetch(knowledge, system(tenant_id), lost.document_id)
    assert (document.status, document.error_code) == ("ready", "original_lost")
    assert "upload it anew" in (document.error or "")
    assert len(await search(knowledge, tenant_id, "words")) == 1

    later = clock.now() + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert (await check_consistency(knowledge, tenant_id)).stray_files == 1
    names = await knowledge.files.names(tenant_id, "documents")
    assert names == sorted(["README.txt", kept.document_id])


async def test_the_clock_takes_those_first_that_it_saw_longest_ago(
    knowledge: Knowledge, test_database: TestDatabase, make_tenant: Any
) -> None:
    tenants = [await make_tenant() for _ in range(3)]
    for tenant_id in tenants:
        await upload(knowledge, tenant_id, "Some words.", filename="a.md")
    connection = await asyncpg.connect(test_database.admin_url)
    try:  # other tests' tenants were seen just now
        await connection.execute(
            "insert into knowledge_checks (tenant_id, checked_at) select tenant_id, now() from knowledge_indexes "
            "where tenant_id <> all($1) on conflict (tenant_id) do update set checked_at = now()",
            tenants,
        )
        seen = []
        for _ in range(2):
            await check_some(knowledge, tenants=2)
            seen.append(
                await connection.fetchval(
                    "select count(*) from knowledge_checks where tenant_id = any($1) and completed_at is not null",
                    tenants,
                )
            )
    finally:
        await connection.close()
    assert seen == [2, 3]
    async with knowledge.database.platform() as session:
        rounds, oldest, found = await last_rounds(session)
    assert rounds >= 3
    assert oldest is not None
    assert found["compared"] >= 3


async def test_an_index_that_was_lost_is_written_anew_without_the_originals(
    knowledge: Knowledge, tenant_id: UUID, make_tenant: Any
) -> None:
    table = "# Prices\n\n" + "\n".join(
        ["| Article | Price |", "|---|---|", *(f"| Part{n} | {n} EUR |" for n in range(300))]
    )
    document = await upload(knowledge, tenant_id, table, filename="a.md", title="List of prices")
    other = await make_tenant()
    await upload(knowledge, other, "Of somebody else.", filename="b.md")
    before = await search(knowledge, tenant_id, "price of part77")
    assert document.chunks > 2
    await knowledge.index.drop_tenant(tenant_id)
    await knowledge.files.delete(tenant_id, service.original_of(document.document_id))
    assert await search(knowledge, tenant_id, "price of part77") == []
    stray = points_of(tenant_id, ids.new_id("doc"), ["words of a document that is gone"], language="en")
    await knowledge.index.upsert(tenant_id, stray)

    assert {tenant_id, other} <= set(await tenants_with_knowledge(knowledge))
    async with knowledge.database.tenant(tenant_id) as session:
        asked = await ask_reindex(session, tenant_id)
    assert await run_jobs(knowledge, tenant_id) == ["knowledge.reindex"]
    after = await search(knowledge, tenant_id, "price of part77")
    assert [passage.chunk_id for passage in after] == [passage.chunk_id for passage in before]
    assert await agreement(knowledge, tenant_id) == []
    async with knowledge.database.tenant(tenant_id) as session:
        state = await reindex_state(session, tenant_id)
    assert state is not None
    assert state.reindexed_at is not None
    assert state.reindexed_at >= asked
    assert (state.reindex_done, state.reindex_total) == (document.chunks, document.chunks)
    assert await knowledge.index.count(other) == 1


async def test_a_reindex_goes_on_after_a_crash(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stonechat.knowledge.reindex.BATCH", 5)
    await upload(knowledge, tenant_id, PARTS, filename="a.md")
    await knowledge.index.drop_tenant(tenant_id)
    told: list[tuple[int, int]] = []

    async def die(done: int, total: int) -> None:
        told.append((done, total))
        if len(told) == 1:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await reindex_tenant(knowledge, tenant_id, told=die)
    assert await reindex_tenant(knowledge, tenant_id, told=die) == 12
    assert told == [(5, 12), (10, 12), (12, 12)]
    assert await agreement(knowledge, tenant_id) == []


def test_ids_tell_when_they_were_made() -> None:
    made = ids.made_at(ids.new_id("doc"))
    assert made is not None
    assert abs(made - clock.now()) < timedelta(minutes=1)
    assert [ids.made_at(strange) for strange in ("", "doc_", "README.txt", "doc_" + "z" * 26, "doc_" + "u" * 26)] == [
        None
    ] * 5


class Undone(Exception):
    """Undoes a transaction."""


async def files_of(knowledge: Knowledge, tenant_id: UUID) -> list[str]:
    return await knowledge.files.names(tenant_id, "documents")


async def written(knowledge: Knowledge, tenant_id: UUID, words: str) -> tuple[str, str]:
    """A text; its source and its document."""
    async with knowledge.database.tenant(tenant_id) as session:
        body = TextSourceIn(type="text", name="Hours", text=words)
        source = await sources.create_source(session, system(tenant_id), files=knowledge.files, source=body)
        found = await read_written(session, system(tenant_id), files=knowledge.files, source_id=source.source_id)
    return source.source_id, found.document_id


async def test_a_change_that_is_undone_leaves_the_text_as_it_was(knowledge: Knowledge, tenant_id: UUID) -> None:
    actor, files = system(tenant_id), knowledge.files
    source_id, document_id = await written(knowledge, tenant_id, "From nine to five.")

    async def change(words: str, *, undo: bool = False) -> None:
        async with knowledge.database.tenant(tenant_id) as session:
            await rewrite_source(session, actor, files=files, source_id=source_id, change=Rewriting(text=words))
            if undo:
                raise Undone

    async def says() -> str | None:
        async with knowledge.database.tenant(tenant_id) as session:
            return (await read_written(session, actor, files=files, source_id=source_id)).text

    for words in ("From nine to five.", "From ten to four."):
        with pytest.raises(Undone):  # the file is stored, and its transaction fails
            await change("Never.", undo=True)
        assert await says() == words
        assert len(await files_of(knowledge, tenant_id)) == 2
        assert (await check_consistency(knowledge, tenant_id)).stray_files == 1
        assert await says() == words
        if words.startswith("From nine"):
            await change("From ten to four.")
            assert await says() == "From ten to four."
            # What was there before goes; what holds stays.
            assert (await check_consistency(knowledge, tenant_id)).stray_files == 1
    await run_jobs(knowledge, tenant_id)
    assert len(await search(knowledge, tenant_id, "ten four")) == 1
    await change("From nine to five.")  # as at first
    assert await says() == "From nine to five."
    await run_jobs(knowledge, tenant_id)
    assert (await check_consistency(knowledge, tenant_id)).mended == {
        "compared": 1, "orphans": 0, "gaps": 0, "stray_files": 1, "lost_files": 0,
    }  # fmt: skip
    async with knowledge.database.tenant(tenant_id) as session:
        await service.delete_document(session, actor, document_id=document_id)
    await run_jobs(knowledge, tenant_id)
    assert await files_of(knowledge, tenant_id) == []


async def test_a_file_whose_row_never_came_goes_where_nothing_was_ever_indexed(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def upload_in_vain() -> None:
        async with knowledge.database.tenant(tenant_id) as session:
            await service.create_document(
                session, system(tenant_id), files=knowledge.files, data=b"Words.", filename="a.txt"
            )
            raise Undone

    with pytest.raises(Undone):
        await upload_in_vain()
    (stray,) = await files_of(knowledge, tenant_id)
    seen: list[UUID] = []

    async def looked_at(knowledge: Knowledge, tenant: UUID) -> Findings:
        seen.append(tenant)
        return await check_consistency(knowledge, tenant) if tenant == tenant_id else Findings()

    monkeypatch.setattr(consistency, "check_consistency", looked_at)
    await check_some(knowledge, tenants=100_000)
    assert tenant_id in seen
    assert await files_of(knowledge, tenant_id) == [stray], "it may be about to get its row"
    later = clock.now() + timedelta(hours=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    await check_some(knowledge, tenants=100_000)
    assert await files_of(knowledge, tenant_id) == []


@pytest.mark.parametrize("page", [1, 2, 3])
async def test_however_short_the_pages_no_file_that_holds_goes(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    actor, files = system(tenant_id), knowledge.files
    made = [await written(knowledge, tenant_id, f"Text {n}.") for n in range(4)]
    for source_id, _ in made[:3]:
        for words in ("Another.", "A third."):
            async with knowledge.database.tenant(tenant_id) as session:
                await rewrite_source(session, actor, files=files, source_id=source_id, change=Rewriting(text=words))
    monkeypatch.setattr(consistency, "MAX_HELD", 4 * page)
    names = files.names

    async def short(tenant: UUID, folder: str, *, after: str = "", limit: int = 4 * page) -> list[str]:
        return await names(tenant, folder, after=after, limit=min(limit, 4 * page))

    monkeypatch.setattr(files, "names", short)
    for _ in range(2):
        assert (await check_consistency(knowledge, tenant_id)).lost_files == 0
    monkeypatch.undo()
    async with knowledge.database.tenant(tenant_id) as session:
        texts = [(await read_written(session, actor, files=files, source_id=source_id)).text for source_id, _ in made]
    assert texts == ["A third."] * 3 + ["Text 3."]
    assert len(await files_of(knowledge, tenant_id)) < 10, "and what was replaced does"

"""Reading documents: only what changed is written, it can be followed and cancelled, and nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from stonechat.accounts.actor import system
from stonechat.errors import Conflict, NotFound, StorageFull, Unavailable
from stonechat.jobs import enqueue, pending_count
from stonechat.knowledge import progress, quota, service
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.extraction import Reading, read_document
from stonechat.knowledge.index import BATCH, IndexPoint
from stonechat.knowledge.ingest import ingest_document
from stonechat.knowledge.media import MediaType
from stonechat.knowledge.search import search
from stonechat.knowledge.stuck import revive_stuck
from support.knowledge import fetch, run_jobs, upload

PARTS = [f"# Part {n}\n\n" + f"Topic{n} is explained here at some length. " * 30 for n in range(12)]


@pytest.fixture
def written(knowledge: Knowledge, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunk ids that are written to the index, as they are."""
    seen: list[str] = []
    write = knowledge.index.upsert

    async def watch(at: Any, points: Sequence[IndexPoint]) -> str | None:
        seen.extend(point.chunk_id for point in points)
        return await write(at, points)

    monkeypatch.setattr(knowledge.index, "upsert", watch)
    return seen


async def replace(knowledge: Knowledge, tenant_id: UUID, document_id: str, content: str) -> None:
    """Put other bytes in a document's place, and have it read again."""
    await knowledge.files.put(tenant_id, service.original_of(document_id), data=content.encode())
    async with knowledge.database.tenant(tenant_id) as session:
        await service.reprocess_document(session, system(tenant_id), document_id=document_id)


async def add(knowledge: Knowledge, tenant_id: UUID, content: str = "Plain words only.") -> str:
    async with knowledge.database.tenant(tenant_id) as session:
        made = await service.create_document(
            session, system(tenant_id), files=knowledge.files, data=content.encode(), filename="a.md", title="Title"
        )
    return made.document_id


async def cancel(knowledge: Knowledge, tenant_id: UUID, document_id: str) -> None:
    async with knowledge.database.tenant(tenant_id) as session:
        await progress.cancel_reading(session, system(tenant_id), document_id=document_id)


async def test_only_what_changed_is_written_again(knowledge: Knowledge, tenant_id: UUID, written: list[str]) -> None:
    document = await upload(knowledge, tenant_id, "\n\n".join(PARTS), filename="a.md", title="Title")
    assert document.chunks == 12
    assert len(written) == 12
    first = set(written)
    written.clear()

    # One at the front, one changed in the middle, one gone: everything else moved, and was not touched.
    changed = ["# Preface\n\n" + "New words in front of all the others. " * 30, *PARTS[:5]]
    changed += [PARTS[5].replace("explained", "described"), *PARTS[6:11]]
    await replace(knowledge, tenant_id, document.document_id, "\n\n".join(changed))
    await run_jobs(knowledge, tenant_id)
    assert len(written) == 2
    assert not first & set(written)
    after = await fetch(knowledge, system(tenant_id), document.document_id)
    assert (after.status, after.version, after.chunks) == ("ready", 2, 12)
    assert await knowledge.index.count(tenant_id) == 12
    async with knowledge.database.tenant(tenant_id) as session:
        passages = await service.list_passages(session, system(tenant_id), document_id=document.document_id)
    reading = await read_document("\n\n".join(changed).encode(), MediaType.MARKDOWN)
    assert [(each.text, each.start_offset, each.end_offset, each.ordinal) for each in passages] == [
        (piece.text, piece.start, piece.end, ordinal) for ordinal, piece in enumerate(reading.pieces)
    ]
    assert "Topic11" not in " ".join(passage.text for passage in await search(knowledge, tenant_id, "topic11"))
    assert (await search(knowledge, tenant_id, "topic7"))[0].chunk_id in first

    written.clear()
    await replace(knowledge, tenant_id, document.document_id, "\n\n".join(changed))
    await run_jobs(knowledge, tenant_id)
    assert written == []


async def test_cancelled_before_it_begins_it_is_never_read(knowledge: Knowledge, tenant_id: UUID) -> None:
    document_id = await add(knowledge, tenant_id)
    await cancel(knowledge, tenant_id, document_id)
    await run_jobs(knowledge, tenant_id)
    document = await fetch(knowledge, system(tenant_id), document_id)
    assert (document.status, document.error_code, document.chunks) == ("failed", "reading_cancelled", 0)
    assert await knowledge.index.count(tenant_id) == 0
    with pytest.raises(Conflict, match="nothing to cancel"):
        await cancel(knowledge, tenant_id, document_id)
    # And it can be asked for again.
    await replace(knowledge, tenant_id, document_id, "Plain words only.")
    await run_jobs(knowledge, tenant_id)
    assert (await fetch(knowledge, system(tenant_id), document_id)).status == "ready"


async def test_cancelled_while_it_is_read_the_old_version_keeps_answering(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WATCH_SECONDS", 0.02)
    document = await upload(knowledge, tenant_id, "The old price is 12 EUR.", filename="a.md")
    await replace(knowledge, tenant_id, document.document_id, "The new price is 13 EUR.")
    began, ended = asyncio.Event(), asyncio.Event()

    async def long(*_: object) -> Reading:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    monkeypatch.setattr("stonechat.knowledge.ingest.read_document", long)
    job = asyncio.create_task(ingest_document(knowledge, tenant_id, document_id=document.document_id))
    await began.wait()
    await cancel(knowledge, tenant_id, document.document_id)
    await asyncio.wait_for(job, 10)
    assert ended.is_set()  # the reader did not go on for nobody
    after = await fetch(knowledge, system(tenant_id), document.document_id)
    assert (after.status, after.version, after.error) == ("ready", 1, None)
    [passage] = await search(knowledge, tenant_id, "price")
    assert "12 EUR" in passage.text


async def test_cancelled_while_it_is_written_nothing_of_it_stays(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    document_id = await add(knowledge, tenant_id, "\n\n".join(PARTS))
    write = knowledge.index.upsert

    async def cancel_meanwhile(at: Any, points: Sequence[IndexPoint]) -> str | None:
        note = await write(at, points)
        await cancel(knowledge, tenant_id, document_id)
        return note

    monkeypatch.setattr(knowledge.index, "upsert", cancel_meanwhile)
    await run_jobs(knowledge, tenant_id)
    assert (await fetch(knowledge, system(tenant_id), document_id)).status == "failed"
    assert await knowledge.index.count(tenant_id) == 0
    assert await search(knowledge, tenant_id, "topic3") == []


async def test_of_two_attempts_at_once_the_later_counts(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that was thought dead goes on; what it read is not what stands there now."""
    document_id = await add(knowledge, tenant_id, "The old price is 12 EUR.")
    write, first = knowledge.index.upsert, True

    async def overtake(at: Any, points: Sequence[IndexPoint]) -> str | None:
        nonlocal first
        note = await write(at, points)
        if first:
            first = False
            await replace(knowledge, tenant_id, document_id, "The new price is 13 EUR.")
            await ingest_document(knowledge, tenant_id, document_id=document_id)
        return note

    monkeypatch.setattr(knowledge.index, "upsert", overtake)
    await ingest_document(knowledge, tenant_id, document_id=document_id)
    document = await fetch(knowledge, system(tenant_id), document_id)
    assert (document.status, document.version) == ("ready", 1)
    [passage] = await search(knowledge, tenant_id, "price")
    assert "13 EUR" in passage.text
    assert await knowledge.index.count(tenant_id) == 1


async def test_how_far_it_is_can_be_seen(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stonechat.knowledge.ingest.BATCH", 5)
    monkeypatch.setattr(progress, "REPORT_SECONDS", 0)
    document_id = await add(knowledge, tenant_id, "\n\n".join(PARTS))
    write = knowledge.index.upsert
    seen: list[tuple[str, str | None, int, int]] = []

    async def look(at: Any, points: Sequence[IndexPoint]) -> str | None:
        document = await fetch(knowledge, system(tenant_id), document_id)
        seen.append((document.status, document.progress_stage, document.progress_done, document.progress_total))
        return await write(at, points)

    monkeypatch.setattr(knowledge.index, "upsert", look)
    await run_jobs(knowledge, tenant_id)
    assert seen == [
        ("processing", None, 0, 0),
        ("processing", "passages", 5, 12),
        ("processing", "passages", 10, 12),
    ]
    assert (await fetch(knowledge, system(tenant_id), document_id)).progress_stage is None
    assert BATCH > 12  # a document of ordinary length needs no report at all


async def test_a_place_in_the_line_counts_ones_own_documents_only(
    knowledge: Knowledge, tenant_id: UUID, make_tenant: Any
) -> None:
    other = await make_tenant()
    await add(knowledge, other)
    made = [await add(knowledge, tenant_id) for _ in range(3)]
    documents = [await fetch(knowledge, system(tenant_id), document_id) for document_id in made]
    async with knowledge.database.tenant(tenant_id) as session:
        places = await progress.places_in_line(session, system(tenant_id), documents=documents[1:])
        assert places == {made[1]: 1, made[2]: 2}
        assert await progress.places_in_line(session, system(tenant_id), documents=[]) == {}


@pytest.mark.parametrize("version", [0, 1])
async def test_what_passes_by_itself_is_tried_again_and_at_last_given_up(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    document_id = await add(knowledge, tenant_id, "The old price is 12 EUR.")
    if version:
        await run_jobs(knowledge, tenant_id)
        await replace(knowledge, tenant_id, document_id, "The new price is 13 EUR.")

    async def away(*_: object) -> None:
        raise Unavailable("The search index cannot be reached.")

    with monkeypatch.context() as patch:
        patch.setattr(knowledge.index, "upsert", away)
        with pytest.raises(Unavailable):
            await ingest_document(knowledge, tenant_id, document_id=document_id)
    document = await fetch(knowledge, system(tenant_id), document_id)
    assert (document.status, document.reading) == ("pending", None)
    assert document.error == "The search index cannot be reached. It will be tried again by itself."

    await progress.give_up(knowledge.database, tenant_id, document_id=document_id)
    document = await fetch(knowledge, system(tenant_id), document_id)
    assert document.status == ("ready" if version else "failed")
    assert document.error is not None
    assert document.error.startswith("The search index cannot be reached. It was tried many times.")
    assert "read again in a while" in document.error
    assert len(await search(knowledge, tenant_id, "price")) == version
    await progress.give_up(knowledge.database, tenant_id, document_id=document_id)  # again: nothing
    assert (await fetch(knowledge, system(tenant_id), document_id)).error == document.error


async def test_a_document_without_a_job_gets_one(knowledge: Knowledge, tenant_id: UUID) -> None:
    waiting, reading, fine = [await add(knowledge, tenant_id, f"Words of number{n}.") for n in range(3)]
    async with knowledge.database.directory() as session:
        await session.execute(
            text("delete from jobs.pgqueuer where convert_from(payload, 'UTF8')::jsonb->>'document_id' = any(:ids)"),
            {"ids": [waiting, reading]},
        )
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(
            text("update documents set status = 'processing', reading = 'dead' where document_id = :id"),
            {"id": reading},
        )
    assert await revive_stuck(knowledge.database) == 0  # they changed just now
    assert await revive_stuck(knowledge.database, quiet=timedelta(0)) >= 2
    assert await run_jobs(knowledge, tenant_id) == ["knowledge.ingest"] * 3
    for document_id in (waiting, reading, fine):
        assert (await fetch(knowledge, system(tenant_id), document_id)).status == "ready"


async def test_a_document_whose_job_was_given_up_says_so(knowledge: Knowledge, tenant_id: UUID) -> None:
    document_id = await add(knowledge, tenant_id)
    async with knowledge.database.directory() as session:
        await session.execute(
            text("update jobs.pgqueuer set status = 'failed' where headers->>'tenant' = :tenant"),
            {"tenant": str(tenant_id)},
        )
    await revive_stuck(knowledge.database, quiet=timedelta(0))
    document = await fetch(knowledge, system(tenant_id), document_id)
    assert document.status == "failed"
    assert "read again" in (document.error or "")
    async with knowledge.database.directory() as session:
        await session.execute(
            text("delete from jobs.pgqueuer where headers->>'tenant' = :tenant"), {"tenant": str(tenant_id)}
        )


async def test_a_tenant_may_keep_so_much_and_no_more(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await add(knowledge, tenant_id, "x" * 600)
    with monkeypatch.context() as patch:
        patch.setattr(quota, "MAX_BYTES", 1000)
        with pytest.raises(StorageFull, match="Delete some"):
            await add(knowledge, tenant_id, "y" * 600)
    names = await knowledge.files.names(tenant_id, "documents")
    assert names == [first]  # nothing stays of what was refused
    with monkeypatch.context() as patch:
        patch.setattr(quota, "MAX_DOCUMENTS", 1)
        with pytest.raises(StorageFull, match="1 documents"):
            await add(knowledge, tenant_id)
    monkeypatch.setattr(quota, "MAX_CHUNKS", 3)
    many = await add(knowledge, tenant_id, "\n\n".join(PARTS))
    await run_jobs(knowledge, tenant_id)
    document = await fetch(knowledge, system(tenant_id), many)
    assert (document.status, document.error_code) == ("failed", "storage_full")
    assert (await fetch(knowledge, system(tenant_id), first)).status == "ready"
    await replace(knowledge, tenant_id, first, "x" * 500)
    await run_jobs(knowledge, tenant_id)
    assert (await fetch(knowledge, system(tenant_id), first)).status == "ready"


async def test_another_tenants_reading_cannot_be_cancelled(
    knowledge: Knowledge, tenant_id: UUID, make_tenant: Any
) -> None:
    document_id = await add(knowledge, tenant_id)
    other = await make_tenant()
    with pytest.raises(NotFound):
        await cancel(knowledge, other, document_id)
    assert (await fetch(knowledge, system(tenant_id), document_id)).status == "pending"


@pytest.mark.parametrize("pending", [1, 40, 1100])
async def test_one_file_is_among_the_next_however_many_another_tenant_uploaded(
    knowledge: Knowledge, tenant_id: UUID, make_tenant: Any, pending: int
) -> None:
    """The queue's own order, as a worker takes jobs from it."""
    busy = await make_tenant()
    async with knowledge.database.tenant(busy) as session:
        for number in range(pending):
            await enqueue(session, busy, service.INGEST, {"document_id": f"doc_{number}"})
    document_id = await add(knowledge, tenant_id)
    async with knowledge.database.directory() as session:
        assert await pending_count(session) > 0
        order = list(
            await session.scalars(
                text(
                    "select headers->>'tenant' from jobs.pgqueuer where status = 'queued' "
                    "and headers->>'tenant' = any(:tenants) order by priority desc, id limit 3"
                ),
                {"tenants": [str(busy), str(tenant_id)]},
            )
        )
        await session.execute(text("delete from jobs.pgqueuer where headers->>'tenant' = :busy"), {"busy": str(busy)})
    assert str(tenant_id) in order
    await run_jobs(knowledge, tenant_id)
    assert (await fetch(knowledge, system(tenant_id), document_id)).status == "ready"

"""A document uploaded is read, answers, and once deleted never answers again."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy import func, select, text

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.errors import InvalidCursor, InvalidInput, NotFound, ScopeMissing
from stonechat.knowledge import service, sources
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.ingest import ingest_document, purge_document
from stonechat.knowledge.models import Chunk, Document
from stonechat.knowledge.schemas import DocumentOut, FaqSourceIn, Pair, PassageOut, TextSourceIn
from stonechat.knowledge.search import search
from support.knowledge import fetch, run_jobs, upload

RETURNS = """# Returns

You may send goods back within 30 days of delivery. The refund reaches your account after five working days.

# Shipping

Parcels to Norway take seven days and cost 12 EUR.
"""


async def test_an_upload_becomes_ready_and_answers(knowledge: Knowledge, tenant_id: UUID) -> None:
    async with knowledge.database.tenant(tenant_id) as session:
        made = await service.create_document(
            session, system(tenant_id), files=knowledge.files, data=RETURNS.encode(), filename="shop_policy.md",
            url="https://shop.example/policy",
        )  # fmt: skip
    assert made.status == "pending"
    assert await search(knowledge, tenant_id, "refund") == []

    assert await run_jobs(knowledge, tenant_id) == ["knowledge.ingest"]
    document = await fetch(knowledge, system(tenant_id), made.document_id)
    assert (document.status, document.title, document.language) == ("ready", "Returns", "en")
    assert document.chunks == 1
    [passage] = await search(knowledge, tenant_id, "How long do refunds take?")
    assert passage.url == "https://shop.example/policy"
    assert "five working days" in passage.text
    assert passage.document_id == made.document_id
    assert PassageOut.of(passage).title == "Returns"
    shown = DocumentOut.of(document)
    assert (shown.id, shown.bytes, shown.error) == (made.document_id, len(RETURNS), None)


async def test_a_given_title_is_kept(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md", title="Our\npolicies\x00")
    assert document.title == "Our policies"


async def test_without_a_heading_the_file_name_is_the_title(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, "Plain words only.", filename="C:\\notes\\opening_hours-2024.txt")
    assert (document.title, document.filename) == ("opening hours 2024", "opening_hours-2024.txt")


async def test_reading_twice_changes_nothing(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    before = await search(knowledge, tenant_id, "refund")
    await ingest_document(knowledge, tenant_id, document_id=document.document_id)
    assert await search(knowledge, tenant_id, "refund") == before
    assert await knowledge.index.count(tenant_id) == document.chunks


async def test_a_crash_before_the_switch_is_repaired_by_the_next_run(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    changed = RETURNS.replace("five working days", "six working days").encode()
    await knowledge.files.put(tenant_id, service.original_of(document.document_id), data=changed)
    async with knowledge.database.tenant(tenant_id) as session:
        await service.reprocess_document(session, system(tenant_id), document_id=document.document_id)

    def die(*_: object, **__: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr("stonechat.knowledge.ingest._switch", die)
        with pytest.raises(ConnectionResetError):
            await ingest_document(knowledge, tenant_id, document_id=document.document_id)
    assert await knowledge.index.count(tenant_id) == 2  # the old version's point, and the new one's
    [passage] = await search(knowledge, tenant_id, "refund")
    assert "five working days" in passage.text  # the old version answers meanwhile

    await run_jobs(knowledge, tenant_id)
    after = await fetch(knowledge, system(tenant_id), document.document_id)
    assert (after.status, after.version) == ("ready", 2)
    assert await knowledge.index.count(tenant_id) == 1
    [passage] = await search(knowledge, tenant_id, "refund")
    assert "six working days" in passage.text


async def test_a_deleted_document_never_answers_again(knowledge: Knowledge, tenant_id: UUID) -> None:
    actor = system(tenant_id)
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    async with knowledge.database.tenant(tenant_id) as session:
        await service.delete_document(session, actor, document_id=document.document_id)
    # The index still holds its points, and yet:
    assert await knowledge.index.count(tenant_id) == 1
    assert await search(knowledge, tenant_id, "refund") == []
    with pytest.raises(NotFound):
        await fetch(knowledge, actor, document.document_id)

    assert await run_jobs(knowledge, tenant_id) == ["knowledge.purge"]
    assert await knowledge.index.count(tenant_id) == 0
    with pytest.raises(NotFound):
        await knowledge.files.get(tenant_id, service.original_of(document.document_id))
    async with knowledge.database.tenant(tenant_id) as session:
        assert await session.scalar(select(func.count()).select_from(Document)) == 0
        assert await session.scalar(select(func.count()).select_from(Chunk)) == 0
    await purge_document(knowledge, tenant_id, document_id=document.document_id)  # again: nothing


async def test_a_reading_that_outlives_its_document_leaves_nothing(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deleted, and purged, while its passages were being written."""
    actor = system(tenant_id)
    async with knowledge.database.tenant(tenant_id) as session:
        made = await service.create_document(session, actor, files=knowledge.files, data=RETURNS.encode())
    write = knowledge.index.upsert

    async def delete_meanwhile(*arguments: object) -> None:
        async with knowledge.database.tenant(tenant_id) as session:
            await service.delete_document(session, actor, document_id=made.document_id)
        await purge_document(knowledge, tenant_id, document_id=made.document_id)
        await write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(knowledge.index, "upsert", delete_meanwhile)
    await ingest_document(knowledge, tenant_id, document_id=made.document_id)
    assert await knowledge.index.count(tenant_id) == 0
    assert await search(knowledge, tenant_id, "refund") == []


async def test_purging_a_living_document_does_nothing(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    await purge_document(knowledge, tenant_id, document_id=document.document_id)
    assert len(await search(knowledge, tenant_id, "refund")) == 1


async def test_an_orphan_in_the_index_does_not_answer(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    async with knowledge.database.tenant(tenant_id) as session:
        await session.execute(text("delete from chunks where document_id = :id"), {"id": document.document_id})
    assert await search(knowledge, tenant_id, "refund") == []


async def test_a_document_that_cannot_be_read_says_why_and_does_not_answer(
    knowledge: Knowledge, tenant_id: UUID
) -> None:
    document = await upload(knowledge, tenant_id, b"%PDF-1.7\nnot really", filename="a.pdf")
    assert (document.status, document.error_code) == ("failed", "document_unreadable")
    assert document.error is not None
    assert "damaged" in document.error
    assert await search(knowledge, tenant_id, "really") == []


async def test_a_lost_original_fails_with_what_to_do(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    await knowledge.files.delete(tenant_id, service.original_of(document.document_id))
    async with knowledge.database.tenant(tenant_id) as session:
        await service.reprocess_document(session, system(tenant_id), document_id=document.document_id)
    await run_jobs(knowledge, tenant_id)
    after = await fetch(knowledge, system(tenant_id), document.document_id)
    assert after.status == "failed"
    assert "upload it again" in (after.error or "")
    assert await search(knowledge, tenant_id, "refund") == []


async def test_another_tenants_document_is_not_found(knowledge: Knowledge, tenant_id: UUID, make_tenant) -> None:
    document = await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    other = await make_tenant()
    actor = system(other)
    async with knowledge.database.tenant(other) as session:
        for verb in (service.get_document, service.delete_document, service.reprocess_document, service.list_passages):
            with pytest.raises(NotFound):
                await verb(session, actor, document_id=document.document_id)
        assert await service.list_documents(session, actor) == ([], None)
    assert await search(knowledge, other, "refund") == []
    assert len(await search(knowledge, tenant_id, "refund")) == 1


async def test_lists_are_paged_newest_first(knowledge: Knowledge, tenant_id: UUID) -> None:
    actor = system(tenant_id)
    made = [await upload(knowledge, tenant_id, f"Text number {n}", filename=f"{n}.txt") for n in range(3)]
    async with knowledge.database.tenant(tenant_id) as session:
        first, cursor = await service.list_documents(session, actor, limit=2)
        rest, end = await service.list_documents(session, actor, limit=2, cursor=cursor)
        assert await service.list_documents(session, actor, status="failed") == ([], None)
        assert len((await service.list_documents(session, actor, status="ready"))[0]) == 3
        with pytest.raises(InvalidCursor):
            await service.list_documents(session, actor, cursor="nonsense")
    assert [d.document_id for d in first + rest] == sorted((d.document_id for d in made), reverse=True)
    assert end is None


async def test_scopes_are_asked_for(knowledge: Knowledge, tenant_id: UUID) -> None:
    reader = Actor(tenant_id, "api_key", "key_1", frozenset({"read"}))
    async with knowledge.database.tenant(tenant_id) as session:
        with pytest.raises(ScopeMissing):
            await service.create_document(session, reader, files=knowledge.files, data=b"text")
        assert await service.list_documents(session, reader) == ([], None)


@pytest.mark.parametrize(
    "url",
    ["javascript:alert(1)", "ftp://a.example/x", "//a.example", "https://", "https://u:p@a.example", "http://a b"],
)
async def test_addresses_that_a_citation_may_not_lead_to(knowledge: Knowledge, tenant_id: UUID, url: str) -> None:
    async with knowledge.database.tenant(tenant_id) as session:
        with pytest.raises(InvalidInput):
            await service.create_document(session, system(tenant_id), files=knowledge.files, data=b"text", url=url)


async def test_a_text_and_an_faq_are_sources_and_go_with_all_they_brought(
    knowledge: Knowledge, tenant_id: UUID
) -> None:
    actor = system(tenant_id)
    faq = FaqSourceIn(
        type="faq",
        name="Questions",
        pairs=[
            Pair(question="Do you gift-wrap?", answer="Yes, for **3 EUR**."),
            Pair(question="Where is the shop?", answer="Harbour Street 4."),
        ],
    )
    async with knowledge.database.tenant(tenant_id) as session:
        written = TextSourceIn(type="text", name="Hours", text="We open at nine.")
        await sources.create_source(session, actor, files=knowledge.files, source=written)
        pairs = await sources.create_source(session, actor, files=knowledge.files, source=faq)
    await run_jobs(knowledge, tenant_id)
    best = (await search(knowledge, tenant_id, "gift wrap"))[0]
    assert best.headings == ("Do you gift-wrap?",)
    assert best.text.endswith("Yes, for 3 EUR.")
    assert "Harbour" not in best.text
    assert (await search(knowledge, tenant_id, "when do you open"))[0].title == "Hours"

    async with knowledge.database.tenant(tenant_id) as session:
        assert len((await sources.list_sources(session, actor))[0]) == 2
        await sources.delete_source(session, actor, source_id=pairs.source_id)
    assert await search(knowledge, tenant_id, "gift wrap") == []
    await run_jobs(knowledge, tenant_id)
    assert await knowledge.index.count(tenant_id) == 1
    async with knowledge.database.tenant(tenant_id) as session:
        with pytest.raises(NotFound):
            await sources.get_source(session, actor, source_id=pairs.source_id)


async def test_neighbours_widen_a_passage(knowledge: Knowledge, tenant_id: UUID) -> None:
    long = "\n\n".join(f"# Part {n}\n\n" + f"Filler about topic{n}. " * 60 for n in range(3))
    await upload(knowledge, tenant_id, long, filename="a.md")
    [alone] = await search(knowledge, tenant_id, "topic1", limit=1)
    [wide] = await search(knowledge, tenant_id, "topic1", limit=1, neighbours=1)
    assert alone.chunk_id == wide.chunk_id
    assert alone.text in wide.text
    assert "topic0" in wide.text
    assert "topic2" in wide.text
    assert wide.start_offset < alone.start_offset < alone.end_offset < wide.end_offset


async def test_no_connection_is_held_while_the_index_searches(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upload(knowledge, tenant_id, RETURNS, filename="a.md")
    held: list[int] = []
    find = knowledge.index.search

    async def watch(*arguments: object, **options: object) -> object:
        held.append(knowledge.database.engine.pool.checkedout())  # type: ignore[attr-defined]
        return await find(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(knowledge.index, "search", watch)
    assert await search(knowledge, tenant_id, "refund")
    assert held == [0]


async def test_times_come_from_the_clock(
    knowledge: Knowledge, tenant_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = clock.now().replace(year=2031)
    monkeypatch.setattr(clock, "now", lambda: moment)
    document = await upload(knowledge, tenant_id, "Some text.")
    assert document.created_at == document.ready_at == moment

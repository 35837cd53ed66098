"""What people who look after the documents read of them."""

from __future__ import annotations

from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.errors import InvalidCursor, NotFound
from stonechat.knowledge import browse, service, sources
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.highlight import matched_words
from stonechat.knowledge.schemas import TextSourceIn
from support.documents import scanned_pdf
from support.knowledge import fetch, run_jobs, upload

LONG = "\n\n".join(f"# Part {number}\n\n{'Words about wool and looms. ' * 50}" for number in range(5))


async def test_documents_are_counted_by_status(knowledge: Knowledge, tenant_id: UUID) -> None:
    await upload(knowledge, tenant_id, "Good words.", filename="a.txt")
    await upload(knowledge, tenant_id, scanned_pdf(), filename="scan.pdf")
    async with knowledge.database.tenant(tenant_id) as session:
        assert await browse.count_documents(session, system(tenant_id)) == {"ready": 1, "failed": 1}
        found, _ = await service.list_documents(session, system(tenant_id), status=["pending", "failed"])
    assert [document.title for document in found] == ["scan"]


async def test_passages_come_in_pages(knowledge: Knowledge, tenant_id: UUID) -> None:
    document = await upload(knowledge, tenant_id, LONG, filename="long.md")
    assert document.chunks >= 4
    seen, cursor = [], None
    async with knowledge.database.tenant(tenant_id) as session:
        while True:
            page, cursor = await browse.read_passages(
                session, system(tenant_id), document=document, limit=2, cursor=cursor
            )
            seen += [chunk.ordinal for chunk in page]
            if cursor is None:
                break
        with pytest.raises(InvalidCursor):
            await browse.read_passages(session, system(tenant_id), document=document, cursor="x")
    assert seen == list(range(document.chunks))


async def test_a_written_text_goes_with_its_document(knowledge: Knowledge, tenant_id: UUID) -> None:
    text = TextSourceIn(type="text", name="Hours", text="We open at nine.")
    async with knowledge.database.tenant(tenant_id) as session:
        source = await sources.create_source(session, system(tenant_id), files=knowledge.files, source=text)
    await run_jobs(knowledge, tenant_id)
    async with knowledge.database.tenant(tenant_id) as session:
        [document], _ = await service.list_documents(session, system(tenant_id))
        kinds = await browse.kinds_of_sources(session, system(tenant_id), documents=[document])
        assert kinds == {source.source_id: "text"}
        assert await browse.delete_with_source(session, system(tenant_id), document_id=document.document_id) == "Hours"
    async with knowledge.database.tenant(tenant_id) as session:
        assert await sources.list_sources(session, system(tenant_id)) == ([], None)
    with pytest.raises(NotFound):
        await fetch(knowledge, system(tenant_id), document.document_id)


async def test_what_was_cited_is_found_by_address_or_title(knowledge: Knowledge, tenant_id: UUID) -> None:
    paged = await upload(knowledge, tenant_id, "One.", title="Prices", url="https://shop.example/prices")
    plain = await upload(knowledge, tenant_id, "Two.", title="Terms")
    async with knowledge.database.tenant(tenant_id) as session:
        by_url, by_title = await browse.find_cited(
            session, system(tenant_id), urls=["https://shop.example/prices", "a\x00b"], titles=["Terms", "No such"]
        )
    assert by_url == {"https://shop.example/prices": paged.document_id}
    assert by_title["Terms"] == plain.document_id
    assert "No such" not in by_title


@pytest.mark.parametrize(
    ("text", "query", "marked"),
    [
        ("Parcels were shipped. Shipping is free.", "shipping a parcel", ["Parcels", "shipped", "Shipping"]),
        ("The shop’s hours", "Which hours does the shop keep?", ["shop’s", "hours"]),
        ("The and of", "the of", []),
        ("Nothing here", "", []),
    ],
)
def test_words_of_the_question_are_marked_in_any_form(text: str, query: str, marked: list[str]) -> None:
    assert [text[start:end] for start, end in matched_words(text, query)] == marked


def test_words_are_matched_as_their_language_does() -> None:
    text = "Die Lieferungen kommen morgen."
    spans = matched_words(text, "Lieferung", language="de")
    assert [text[start:end] for start, end in spans] == ["Lieferungen"]

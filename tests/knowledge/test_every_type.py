"""Every kind of file becomes searchable, and what is found says where in the file it stands."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from stonechat.accounts.actor import system
from stonechat.errors import DocumentEncrypted, DocumentTooDemanding, DocumentUnreadable, DocumentWithoutText
from stonechat.knowledge import service
from stonechat.knowledge.chunk import Extracted, Piece, cut
from stonechat.knowledge.deps import Knowledge
from stonechat.knowledge.extractors import office
from stonechat.knowledge.extractors.registry import extractor_for
from stonechat.knowledge.media import MediaType, detect
from stonechat.knowledge.search import search
from support import office_files as made
from support.documents import pdf
from support.knowledge import fetch, run_jobs, upload

FILES: dict[str, tuple[MediaType, bytes]] = {
    "handbook.docx": (MediaType.DOCX, made.docx_file()),
    "talk.pptx": (MediaType.PPTX, made.pptx_file()),
    "prices.xlsx": (MediaType.XLSX, made.xlsx_file()),
    "handbook.odt": (MediaType.ODT, made.odt_file()),
    "book.epub": (MediaType.EPUB, made.epub_file()),
    "letter.rtf": (MediaType.RTF, made.RTF),
    "warranty.eml": (MediaType.EML, made.EML),
    "prices.csv": (MediaType.CSV, made.CSV),
    "prices.tsv": (MediaType.TSV, made.TSV),
    "catalogue.json": (MediaType.JSON, made.JSON),
    "handbook.rst": (MediaType.RST, made.RST),
    "film.vtt": (MediaType.VTT, made.VTT),
    "film.srt": (MediaType.SRT, made.SRT),
    "shop.py": (MediaType.CODE, made.CODE),
    "manual.pdf": (MediaType.PDF, pdf()),
    "page.html": (
        MediaType.HTML,
        b"<html><body><main><h1>Help</h1><section id=w><h2>Warranty</h2><p>The warranty covers faults in material "
        b"for 24 months.</p></section></main></body></html>",
    ),
    "notes.md": (MediaType.MARKDOWN, b"# Help\n\n## Warranty\n\nThe warranty covers faults in material for 24 months."),
    "手引き.md": (
        MediaType.MARKDOWN,
        f"# 手引き\n\n## お手入れ\n\n月に一度、お酢と水でお手入れしてください。\n\n## 保証\n\n{made.JAPANESE}\n".encode(),
    ),
    "notes.txt": (MediaType.TEXT, "WARRANTY\n\nThe warranty covers faults for 24 months.".encode("utf-16")),
}


@pytest.fixture(scope="session")
async def every_file(shared_knowledge: Knowledge, make_tenant: Callable[[], Awaitable[UUID]]) -> dict[str, UUID]:
    """A tenant for each kind of file, with just that file read."""
    tenants = {}
    for name, (_, data) in FILES.items():
        tenants[name] = await make_tenant()
        document = await upload(shared_knowledge, tenants[name], data, filename=name)
        assert document.status == "ready", (name, document.error)
    return tenants


def read(name: str) -> Extracted:
    media_type, data = FILES[name]
    return extractor_for(media_type)(data)


@pytest.mark.parametrize("name", FILES)
def test_the_kind_is_told_and_the_text_is_what_its_blocks_say(name: str) -> None:
    media_type, data = FILES[name]
    assert detect(data, name) is media_type
    document = read(name)
    assert all(document.text[block.start : block.end].strip() for block in document.blocks)
    assert all(one.end <= other.start for one, other in zip(document.blocks, document.blocks[1:], strict=False))
    for piece in cut(document):
        assert piece.text == document.text[piece.start : piece.end]


@pytest.mark.parametrize(
    ("name", "question", "expected", "headings", "page"),
    [
        ("handbook.docx", "limescale filter price", "Limescale filter | 3.20 EUR", "Spare parts", None),
        ("handbook.docx", "εγγύηση μήνες", made.GREEK, "Εγγύηση", None),
        ("talk.pptx", "warranty Norway", "Norway | 36", "Warranty", 2),
        ("talk.pptx", "warranty elsewhere", "24 months elsewhere", "Warranty", 2),
        ("prices.xlsx", "warranty Germany", "Germany | Months: 24 | Note: faults in material", "Warranty", None),
        ("handbook.odt", "warranty faults", "faults in material for 24 months", "Warranty", None),
        ("book.epub", "warranty faults", "24 months", "Warranty", 2),
        ("letter.rtf", "warranty München", "24 months in München", "WARRANTY", None),
        ("warranty.eml", "warranty of the kettle", "faults in material for 24 months", "Warranty of the kettle", None),
        (
            "prices.csv",
            "limescale filter warranty",
            "Limescale filter | Price: 3.20 EUR | Warranty: 24 months",
            None,
            None,
        ),
        ("prices.tsv", "limescale filter warranty", "Warranty: 24 months", None, None),
        ("catalogue.json", "faults covered kettle", "covered for 24 months", "Kettle", None),
        ("手引き.md", "保証期間", made.JAPANESE, None, None),
        ("handbook.rst", "warranty faults", "24 months", "Warranty", None),
        ("handbook.rst", "limescale filter price", "Limescale filter | 3.20 EUR", "Spare parts", None),
        ("film.vtt", "warranty faults", "[1:12]", None, None),
        ("film.srt", "warranty faults", "for 24 months", None, None),
        ("shop.py", "warranty months country", "def warranty_months(country):", "warranty_months", None),
        ("manual.pdf", "guarantee months purchase", "36 months", "Guarantee", 3),
        ("page.html", "warranty faults", "24 months", "Warranty", None),
        ("notes.md", "warranty faults", "24 months", "Warranty", None),
        ("notes.txt", "warranty faults", "24 months", "WARRANTY", None),
    ],
)
async def test_a_passage_found_says_where_it_stands(
    every_file: dict[str, UUID],
    shared_knowledge: Knowledge,
    name: str,
    question: str,
    expected: str,
    headings: str | None,
    page: int | None,
) -> None:
    found = await search(shared_knowledge, every_file[name], question, limit=3)
    best = next(passage for passage in found if expected.replace("[1:12]", "faults in material") in passage.text)
    if headings is not None:
        assert headings in best.headings or f"# {headings}\n" in best.text
    if page is not None:
        assert best.page == page


def test_an_address_leads_to_the_heading() -> None:
    [piece] = [piece for piece in pieces_of("page.html") if "24 months" in piece.text]
    assert piece.anchor == "w"
    [piece] = [piece for piece in pieces_of("handbook.rst") if "24 months" in piece.text]
    assert piece.anchor == "warranty"


def pieces_of(name: str) -> list[Piece]:
    return cut(read(name), minimum=0)


def test_what_reaches_outside_a_file_is_left_out() -> None:
    text = read("handbook.rst").text
    assert "root:" not in text
    assert "script" not in text
    assert "kettle --descale" in text


def test_hidden_sheets_stay_hidden() -> None:
    assert "41 percent" not in read("prices.xlsx").text


def test_captions_keep_the_time_and_the_speaker() -> None:
    assert (
        read("film.vtt").text
        == "[00:05] Ida: Welcome to the shop. The warranty covers faults in material for 24 months."
    )


def test_json_lines() -> None:
    lines = b'{"title": "One", "text": "first"}\n{"title": "Two", "text": "second"}\n'
    assert "# Two\n\ntitle: Two\ntext: second" in extractor_for(MediaType.JSON)(lines).text
    with pytest.raises(DocumentUnreadable, match="line 2"):
        extractor_for(MediaType.JSON)(b'{"a": 1}\nnonsense\n')


def test_definitions_keep_the_comment_above_them() -> None:
    [piece] = [piece for piece in pieces_of("shop.py") if "def warranty_months" in piece.text]
    assert "# How long faults" in piece.text


def test_a_mail_names_its_attachments() -> None:
    assert "Attached: receipt.pdf" in read("warranty.eml").text


@pytest.mark.parametrize("kind", [MediaType.DOCX, MediaType.PPTX, MediaType.XLSX, MediaType.ODT, MediaType.EPUB])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"PK\x03\x04 cut off", DocumentUnreadable),
        (made.zipped({"mimetype": "x"})[:-30], DocumentUnreadable),
        (made.zipped({f"part{number}": "" for number in range(office.MAX_PARTS + 1)}), DocumentTooDemanding),
    ],
    ids=["no archive", "cut off", "too many parts"],  # an archive's bytes hold the time
)
def test_a_broken_office_file_says_so(kind: MediaType, data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        extractor_for(kind)(data)


def test_a_part_that_lies_about_its_size_is_cut_off() -> None:
    with (
        office.open_zip(made.zipped({"a": "", "bomb": b"0" * 5_000_000})) as opened,
        pytest.raises(DocumentTooDemanding),
    ):
        office.read_part(opened, "bomb", limit=1000)


@pytest.mark.parametrize(
    ("kind", "data", "part"),
    [
        (MediaType.DOCX, made.docx_file(), "word/document.xml"),
        (MediaType.PPTX, made.pptx_file(), "ppt/presentation.xml"),
        (MediaType.XLSX, made.xlsx_file(), "xl/workbook.xml"),
        (MediaType.ODT, made.odt_file(), "content.xml"),
    ],
)
def test_a_file_packed_in_an_unknown_way_asks_to_be_saved_again(kind: MediaType, data: bytes, part: str) -> None:
    with pytest.raises(DocumentUnreadable, match="packed in a way that cannot be read"):
        extractor_for(kind)(made.packed_otherwise(data, part))


@pytest.mark.parametrize(("offset", "value"), [(6, 99), (8, 0x20), (8, 0x40)], ids=["version", "patched", "encryption"])
def test_what_cannot_be_unpacked_asks_to_be_saved_again(offset: int, value: int) -> None:
    """`offset` into the part's entry in the archive's directory: the version that unpacking needs, or its flags."""
    strange = bytearray(made.zipped({"word/document.xml": "x"}))
    strange[strange.rfind(b"PK\x01\x02") + offset] |= value
    with (
        pytest.raises(DocumentUnreadable, match="packed in a way that cannot be read"),
        office.open_zip(bytes(strange)) as opened,
    ):
        office.read_part(opened, "word/document.xml")


def test_an_encrypted_office_file_asks_for_one_without_password() -> None:
    locked = bytearray(made.zipped({"word/document.xml": "x"}))
    locked[locked.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(DocumentEncrypted):
        office.open_zip(bytes(locked))


def test_entities_are_not_read() -> None:
    bomb = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    with pytest.raises(DocumentUnreadable, match="entities"):
        extractor_for(MediaType.ODT)(made.zipped({"mimetype": "x", "content.xml": bomb}))


def test_an_empty_table_has_no_text() -> None:
    with pytest.raises(DocumentWithoutText):
        extractor_for(MediaType.CSV)(b";;;\r\n;;\r\n")


async def test_an_archive_becomes_its_documents(knowledge: Knowledge, tenant_id: UUID) -> None:
    archive = await upload(knowledge, tenant_id, made.archive_file(), filename="help.zip")
    assert archive.status == "ready"
    assert archive.error is not None
    assert "setup.exe" in archive.error
    await run_jobs(knowledge, tenant_id)
    async with knowledge.database.tenant(tenant_id) as session:
        documents, _ = await service.list_documents(session, system(tenant_id))
    children = {each.filename: each for each in documents if each.parent_id == archive.document_id}
    assert set(children) == {"handbook/warranty.md", "handbook/prices.csv", "handbook/slides.pptx"}
    assert {each.status for each in children.values()} == {"ready"}
    [best, *_] = await search(knowledge, tenant_id, "warranty faults in material")
    assert best.title == "Warranty"

    async with knowledge.database.tenant(tenant_id) as session:
        await service.reprocess_document(session, system(tenant_id), document_id=archive.document_id)
    await run_jobs(knowledge, tenant_id)
    async with knowledge.database.tenant(tenant_id) as session:
        again, _ = await service.list_documents(session, system(tenant_id))
    assert {each.document_id for each in again} == {each.document_id for each in documents}

    async with knowledge.database.tenant(tenant_id) as session:
        await service.delete_document(session, system(tenant_id), document_id=archive.document_id)
    assert await search(knowledge, tenant_id, "warranty faults in material") == []


async def test_an_archive_without_documents_fails_with_the_reasons(knowledge: Knowledge, tenant_id: UUID) -> None:
    inner = made.zipped({"a.txt": "text"})
    archive = await upload(knowledge, tenant_id, made.zipped({"x.bin": bytes(range(256)) * 9, "inner.zip": inner}))
    assert archive.status == "failed"
    assert archive.error is not None
    assert "x.bin" in archive.error
    assert "inner.zip" in archive.error


async def test_what_cannot_be_unpacked_of_an_archive_fails_alone(knowledge: Knowledge, tenant_id: UUID) -> None:
    data = made.zipped({"good.txt": "The kettle holds a litre.", "torn.txt": "words " * 99, "odd.txt": "words " * 99})
    data = made.packed_otherwise(made.damaged(data, "torn.txt"), "odd.txt")
    archive = await upload(knowledge, tenant_id, data, filename="help.zip")
    assert archive.status == "ready"
    assert archive.error is not None
    assert "1 files were taken out, 2 could not be: “torn.txt”: This file is damaged" in archive.error
    assert "“odd.txt”: This file is packed in a way that cannot be read" in archive.error


async def test_a_poisoned_office_file_fails_alone(knowledge: Knowledge, tenant_id: UUID) -> None:
    poison = made.zipped({"[Content_Types].xml": "<x/>", "word/document.xml": json.dumps("not xml")})
    document = await upload(knowledge, tenant_id, poison, filename="report.docx")
    assert (document.status, document.error) == ("failed", "This document is damaged and cannot be read.")
    good = await upload(knowledge, tenant_id, FILES["notes.md"][1], filename="notes.md")
    assert (await fetch(knowledge, system(tenant_id), good.document_id)).status == "ready"

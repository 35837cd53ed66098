"""Each type of document is read with its structure; what cannot be read says why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from stonechat.accounts.actor import system
from stonechat.errors import (
    DocumentEmpty,
    DocumentEncrypted,
    DocumentTooDemanding,
    DocumentUnreadable,
    DocumentWithoutText,
    PayloadTooLarge,
    StonechatError,
    UnsupportedMediaType,
)
from stonechat.knowledge import service
from stonechat.knowledge.extraction import read_document, refuse_unreadable
from stonechat.knowledge.extractors.html import extract_html
from stonechat.knowledge.extractors.markdown import extract_markdown
from stonechat.knowledge.extractors.plain import extract_text
from stonechat.knowledge.extractors.worker import answer
from stonechat.knowledge.language import detect_language
from stonechat.knowledge.media import MediaType, detect
from support.documents import encrypted_pdf, one_line_pdf, pdf, scanned_pdf

PAGE = """<!DOCTYPE html><html><head><title>Returns | The Shop</title><style>p{}</style></head><body>
<header><a href="/">The Shop</a></header><nav><a>Home</a><a>Cart</a></nav>
<main><h1>Returns</h1><p>You may <b>return</b> goods<br>within 30&nbsp;days.</p>
<ul><li>Unused</li><li>With its <em>label</em></li></ul><ol><li><p>Pack it</p></li><li>Post it</li></ol>
<table><thead><tr><th>Country</th><th>Cost</th></tr></thead><tbody><tr><td>Norway</td><td>12 EUR</td></tr></tbody></table>
<h2>Refunds</h2><pre>step 1
  step 2</pre><form>Newsletter <input></form><p hidden>secret</p></main>
<script>alert("no")</script><footer>Imprint</footer></body></html>"""


def test_a_page_keeps_its_structure_and_loses_its_furniture() -> None:
    document = extract_html(PAGE.encode())
    assert document.title == "Returns"
    assert document.text == (
        "# Returns\n\nYou may return goods\nwithin 30 days.\n\n- Unused\n- With its label\n1. Pack it\n2. Post it\n\n"
        "Country | Cost\nNorway | 12 EUR\n\n## Refunds\n\nstep 1\n  step 2"
    )
    assert [block.kind for block in document.blocks].count("table") == 2


def test_a_page_in_another_encoding() -> None:
    page = '<html><head><meta charset="iso-8859-1"></head><body><p>Rückgabe möglich</p></body></html>'
    assert extract_html(page.encode("latin-1")).text == "Rückgabe möglich"


def test_a_page_ten_thousand_deep() -> None:
    document = extract_html(b"<div>" * 10_000 + b"bottom")
    assert document.text == "bottom"


def test_markdown_is_read_as_rendered() -> None:
    source = """---
title: "The Guide"
---
# Start

Read [this](https://a.example) and `code`.

1. First
2. Second
   - nested

```sh
pip install it
```

| Plan | Price |
|------|-------|
| Pro  | $5    |

<div>raw <b>html</b><script>no()</script></div>
"""
    document = extract_markdown(source.encode())
    assert document.title == "The Guide"
    assert document.text == (
        "# Start\n\nRead this and code.\n\n1. First\n2. Second\n- nested\n\npip install it\n\nPlan | Price\nPro | $5\n\n"
        "raw\nhtml"
    )


def test_plain_text_has_paragraphs_lists_and_headings() -> None:
    document = extract_text(
        b"OPENING HOURS\n\nWe open\r\nat nine.\n\n* Monday\n* Tuesday\n\nDirections\n----------\nBy tram."
    )
    assert [block.kind for block in document.blocks] == ["heading", "paragraph", "list", "list", "heading", "paragraph"]
    assert document.text.endswith("- Monday\n- Tuesday\n\n## Directions\n\nBy tram.")


@pytest.mark.parametrize("media_type", [MediaType.TEXT, MediaType.MARKDOWN])
@pytest.mark.parametrize("length", [6_000_000, 12_000_000])
def test_more_text_than_we_keep_is_refused(media_type: MediaType, length: int) -> None:
    told = answer("read", media_type, b"word " * (length // 5))
    assert told["error"] == "document_too_demanding"
    assert "Split it" in told["detail"]


def test_characters_that_a_database_refuses_are_gone() -> None:
    document = extract_text("zero\u200b width, so\u00adft hyphen, e\u0301\x0b nul".encode() + b"." * 300)
    assert document.text == "zero width, soft hyphen, é nul" + "." * 300


async def test_a_pdf_keeps_pages_headings_and_tables() -> None:
    reading = await read_document(pdf(), MediaType.PDF)
    assert reading.title == "Aurora Kettle Manual"
    assert reading.language == "en"
    assert [piece.page for piece in reading.pieces] == [1, 2, 3]
    assert [piece.headings[-1] for piece in reading.pieces] == ["Safety", "Descaling", "Guarantee"]
    assert "Spare part | Price\nLid | 4.50 EUR\nFilter | 3.20 EUR" in reading.pieces[-1].text


async def test_pages_of_one_line_that_say_alike_things_are_no_furniture() -> None:
    data = one_line_pdf([f"Page {number} tells that widget {number} costs {number * 7} crowns." for number in range(5)])
    text = " ".join(piece.text for piece in (await read_document(data, MediaType.PDF)).pieces)
    assert all(f"costs {number * 7} crowns" in text for number in range(5))


async def test_a_pdf_that_anybody_may_open_is_read() -> None:
    data = encrypted_pdf(password="")
    await refuse_unreadable(data, MediaType.PDF)
    assert len((await read_document(data, MediaType.PDF)).pieces) == 3


async def test_a_pdf_with_a_password_is_refused_at_once_and_when_read() -> None:
    data = encrypted_pdf(password="secret")
    with pytest.raises(DocumentEncrypted, match="Remove the password"):
        await refuse_unreadable(data, MediaType.PDF)
    with pytest.raises(DocumentEncrypted):
        await read_document(data, MediaType.PDF)


async def test_a_scanned_pdf_asks_for_text_recognition() -> None:
    with pytest.raises(DocumentWithoutText, match="OCR"):
        await read_document(scanned_pdf(), MediaType.PDF)


@pytest.mark.parametrize("cut", [20, 200, 1500])
def test_a_torn_pdf_is_read_or_says_so(cut: int) -> None:
    told = answer("read", MediaType.PDF, pdf()[:-cut])
    assert told.get("pieces") or told["detail"]


def test_whatever_an_extractor_throws_is_the_documents_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(_: MediaType) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stonechat.knowledge.extractors.worker.extractor_for", explode)
    assert answer("read", MediaType.TEXT, b"x")["error"] == "document_unreadable"


async def test_a_document_that_takes_too_long_is_stopped() -> None:
    with pytest.raises(DocumentTooDemanding):
        await read_document(b"# x\n\n" * 100_000, MediaType.MARKDOWN, wall_seconds=0.01)


@pytest.mark.parametrize("task", ["memory", "cpu"])
async def test_a_child_limits_itself(task: str) -> None:
    """A document that makes its reader eat memory or time fails alone."""
    greedy = {"memory": "bytearray(1 << 30)", "cpu": "[None for _ in iter(int, 1)]"}[task]
    script = (
        "import io, sys\n"
        "from stonechat.knowledge.extractors import worker as w\n"
        "w.limit_myself(memory=400 << 20, cpu=1)\n"
        f"w.extractor_for = lambda _: lambda _: {greedy}\n"
        "sys.stdout.buffer.write(w.serve('read', w.MediaType.TEXT, io.BytesIO(b'x')))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    told, _ = await process.communicate()
    if task == "memory":
        assert json.loads(told)["error"] == "document_too_demanding"
    else:
        assert process.returncode in (-signal.SIGXCPU, -signal.SIGKILL)


@pytest.mark.parametrize(
    ("data", "filename", "media_type"),
    [
        (pdf(), "manual.txt", MediaType.PDF),
        (b"\n\n%PDF-1.4 ...", None, MediaType.PDF),
        (PAGE.encode(), "page.txt", MediaType.HTML),
        (b"<p>one</p><p>two</p>", "fragment.html", MediaType.HTML),
        (b"# Title\n\ntext", "notes.txt", MediaType.MARKDOWN),
        (b"see [this](https://a.example)", None, MediaType.MARKDOWN),
        (b"plain words", "readme.md", MediaType.MARKDOWN),
        (b"plain words", "anything.pdf", MediaType.TEXT),
        ("Grüße".encode("cp1252"), "a.txt", MediaType.TEXT),
        ("Grüße aus Köln".encode("utf-16"), "a.txt", MediaType.TEXT),
        (("x" * 65535 + "ü" * 10).encode(), None, MediaType.TEXT),
    ],
)
def test_the_type_is_told_by_content(data: bytes, filename: str | None, media_type: MediaType) -> None:
    assert detect(data, filename) is media_type


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" + bytes(50), b"\x7fELF" + bytes(50), bytes(range(256)) * 4, b"\x1f\x8b" + bytes(50)]
)
def test_other_types_are_refused_by_what_they_are(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaType, match="cannot be read"):
        detect(data, "report.pdf")


@pytest.mark.parametrize(
    ("data", "filename", "error", "code"),
    [
        (b"\x7fELF" + bytes(50), "report.pdf", UnsupportedMediaType, "unsupported_media_type"),
        (b"", "empty.pdf", DocumentEmpty, "document_empty"),
        (b" \n\t ", "blank.txt", DocumentEmpty, "document_empty"),
        (encrypted_pdf(password="secret"), "locked.pdf", DocumentEncrypted, "document_encrypted"),
        (b"x" * (25 * 1024 * 1024 + 1), "huge.txt", PayloadTooLarge, "payload_too_large"),
    ],
)
async def test_an_upload_that_cannot_be_taken_is_refused_at_once(
    knowledge, tenant_id, data: bytes, filename: str, error: type[StonechatError], code: str
) -> None:
    with pytest.raises(error) as caught:
        async with knowledge.database.tenant(tenant_id) as session:
            await service.create_document(
                session, system(tenant_id), files=knowledge.files, data=data, filename=filename
            )
    assert caught.value.code == code
    assert caught.value.detail
    async with knowledge.database.tenant(tenant_id) as session:
        assert await service.list_documents(session, system(tenant_id)) == ([], None)


async def test_question_answer_pairs_are_one_passage_each() -> None:
    pairs = [
        {"question": "Where are you?", "answer": "Harbour Street 4."},
        {"question": "When?", "answer": "* nine\n* ten"},
    ]
    reading = await read_document(json.dumps(pairs).encode(), MediaType.FAQ)
    assert [(piece.headings, piece.text) for piece in reading.pieces] == [
        (("Where are you?",), "# Where are you?\n\nHarbour Street 4."),
        (("When?",), "# When?\n\n- nine\n- ten"),
    ]
    with pytest.raises(DocumentUnreadable):
        await read_document(b'{"no": "list"}', MediaType.FAQ)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("You may return the goods within thirty days of delivery.", "en"),
        ("Sie können die Ware innerhalb von dreißig Tagen zurückgeben, und wir erstatten den Preis.", "de"),
        ("Vous pouvez retourner les articles dans les trente jours qui suivent la livraison.", "fr"),
        ("Puede devolver los productos en un plazo de treinta días, y se le devuelve el precio.", "es"),
        ("我们的退货政策是十四天内可以退货", "zh"),
        ("返品は十四日以内にお願いします", "ja"),
        ("반품은 14일 이내에 가능합니다", "ko"),
        ("Вы можете вернуть товар в течение тридцати дней.", "ru"),
        ("A-12 B-13", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_told(text: str, language: str) -> None:
    assert detect_language(text) == language

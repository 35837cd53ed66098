"""A citation opens the passage where it stands, for whoever got the answer and for nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from stonechat import ids
from stonechat.accounts.actor import system
from stonechat.chat.cited import read_citation, taken_from
from stonechat.identity.caller import Caller
from stonechat.knowledge import service
from support import office_files as made
from support.documents import pdf
from support.knowledge import run_jobs, upload
from support.platform import ORIGIN, Platform, Visitor, of_type

HANDBOOK = """# Handbook

## Opening hours

The workshop opens at nine in the morning and closes at five.

## Warranty

The warranty covers faults in material for 24 months. It begins on the day of delivery.
"""


@dataclass
class Cited:
    """An answer that cites, and what its citations open."""

    visitor: Visitor
    thread: str
    item: str
    annotations: list[dict[str, Any]]
    text: str

    async def open(self, index: int = 0, *, by: Visitor | None = None, **changed: str) -> Any:
        params = {"thread": self.thread, "item": self.item, "index": str(index)} | changed
        token = (by or self.visitor).token
        return await self.visitor.platform.http.get(
            "/chatkit/sources", params=params, headers={"Authorization": f"Bearer {token}", "Origin": ORIGIN}
        )


async def answered(visitor: Visitor, question: str, thread: str | None = None) -> Cited:
    events = await visitor.say(question, thread)
    items = [event["item"] for event in of_type(events, "thread.item.done")]
    answer = next(item for item in items if item["type"] == "assistant_message")
    part = answer["content"][0]
    return Cited(visitor, answer["thread_id"], answer["id"], part["annotations"], part["text"])


async def reader(platform: Platform) -> Visitor:
    return platform.visitor(await platform.agent(model="extractive", knowledge={"enabled": True}))


async def test_a_citation_opens_the_passage_with_what_stands_around_it(platform: Platform) -> None:
    long = "\n\n".join(f"## Part {n}\n\n" + f"Sentence {n} of the long handbook. " * 40 for n in range(6))
    await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK + long, filename="handbook.md")
    cited = await answered(await reader(platform), "How long is the warranty?")
    assert cited.annotations
    opened = (await cited.open()).json()
    assert (opened["state"], opened["title"], opened["message"]) == ("available", "Handbook", None)
    marked = [opened["text"][start:end] for start, end in opened["highlights"]]
    assert any("24 months" in each for each in marked)
    assert "document_id" not in opened
    assert opened["after"]


async def test_nobody_else_opens_it(platform: Platform) -> None:
    await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK, filename="handbook.md")
    visitor = await reader(platform)
    cited = await answered(visitor, "How long is the warranty?")
    stranger = platform.visitor(visitor.caller.agent_id)
    abroad = Caller(ids.new_tenant_id(), visitor.caller.user_id, visitor.caller.agent_id, origin=ORIGIN)
    token, _ = platform.services.session_tokens.mint(abroad)
    elsewhere = platform.visitor(await platform.agent(name="Another"), visitor.caller.user_id)
    for by in (stranger, Visitor(platform, abroad, token), elsewhere):
        answer = await cited.open(by=by)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    for wrong in ({"index": "99"}, {"index": "-1"}, {"index": "x"}, {"item": "msg_none"}, {"thread": "a\x00"}):
        answer = await cited.open(**wrong)
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), wrong
    assert (await platform.http.get("/chatkit/sources")).status_code == 401


async def test_a_document_that_is_gone_says_so_kindly(platform: Platform) -> None:
    document = await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK, filename="handbook.md")
    cited = await answered(await reader(platform), "How long is the warranty?")
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await service.delete_document(session, system(platform.tenant_id), document_id=document.document_id)
    opened = (await cited.open()).json()
    assert opened["state"] == "gone"
    assert "changed or removed" in opened["message"]
    assert opened["text"] == cited.annotations[0]["source"]["description"]


async def test_a_document_that_was_read_again_still_opens(platform: Platform) -> None:
    document = await upload(platform.services.knowledge, platform.tenant_id, HANDBOOK, filename="handbook.md")
    cited = await answered(await reader(platform), "How long is the warranty?")
    async with platform.services.database.tenant(platform.tenant_id) as session:
        await service.reprocess_document(session, system(platform.tenant_id), document_id=document.document_id)
    await run_jobs(platform.services.knowledge, platform.tenant_id)
    assert (await cited.open()).json()["state"] == "available"
    async with platform.services.database.tenant(platform.tenant_id) as session:
        found = await read_citation(
            session, system(platform.tenant_id), thread_id=cited.thread, item_id=cited.item, index=0
        )
    assert (found.state, found.document_id) == ("available", document.document_id)


KINDS: dict[str, tuple[bytes, str, str, str | None, int | None]] = {
    "handbook.docx": (made.docx_file(), "What does a limescale filter cost?", "Limescale filter", "Spare parts", None),
    "talk.pptx": (made.pptx_file(), "How many months is the warranty in Norway?", "36", "Warranty", 2),
    "prices.xlsx": (made.xlsx_file(), "How many months of warranty in Germany?", "Germany", "Warranty", None),
    "handbook.odt": (made.odt_file(), "How long does the warranty cover faults?", "24 months", "Warranty", None),
    "book.epub": (made.epub_file(), "How long does the warranty cover faults?", "24 months", "Warranty", 2),
    "letter.rtf": (made.RTF, "How long is the warranty in München?", "24 months", "WARRANTY", None),
    "warranty.eml": (made.EML, "How long is the warranty of the kettle?", "24 months", "Warranty of the kettle", None),
    "prices.csv": (made.CSV, "How long is the warranty of the limescale filter?", "24 months", None, None),
    "prices.tsv": (made.TSV, "How long is the warranty of the limescale filter?", "24 months", None, None),
    "catalogue.json": (made.JSON, "How long are faults of the kettle covered?", "24 months", "Kettle", None),
    "handbook.rst": (made.RST, "How long does the warranty cover faults?", "24 months", "Warranty", None),
    "film.vtt": (made.VTT, "How long does the warranty cover faults?", "24 months", None, None),
    "film.srt": (made.SRT, "How long does the warranty cover faults?", "24 months", None, None),
    "shop.py": (made.CODE, "warranty months of a country", "def warranty_months", "warranty_months", None),
    "manual.pdf": (pdf(), "How many months does the guarantee last from purchase?", "36 months", "Guarantee", 3),
    "page.html": (
        b"<html><body><main><h1>Help</h1><section id=w><h2>Warranty</h2><p>The warranty covers faults in material "
        b"for 24 months.</p></section></main></body></html>",
        "How long does the warranty cover faults?",
        "24 months",
        "Warranty",
        None,
    ),
    "notes.md": (HANDBOOK.encode(), "How long does the warranty cover faults?", "24 months", "Warranty", None),
    "notes.txt": (
        "WARRANTY\n\nThe warranty covers faults for 24 months.".encode("utf-16"),
        "How long does the warranty cover faults?",
        "24 months",
        None,
        None,
    ),
    "手引き.md": (
        f"# 手引き\n\n## お手入れ\n\n月に一度、お酢と水でお手入れしてください。\n\n## 保証\n\n{made.JAPANESE}\n".encode(),
        "保証",
        made.JAPANESE,
        None,
        None,
    ),
}


async def test_the_citation_of_every_kind_of_document_opens_the_right_place(platform: Platform) -> None:
    visitor = await reader(platform)
    for name, (data, question, expected, heading, page) in KINDS.items():
        document = await upload(
            platform.services.knowledge, platform.tenant_id, data, filename=name, url=f"https://shop.example/{name}"
        )
        assert document.status == "ready", (name, document.error)
        cited = await answered(visitor, question)
        assert cited.annotations, f"{name}: {cited.text}"
        opened = [(await cited.open(index)).json() for index in range(len(cited.annotations))]
        assert {each["state"] for each in opened} == {"available"}, name
        right = next((each for each in opened if expected in each["text"]), None)
        assert right is not None, f"{name}: {cited.text} {opened}"
        assert right["page"] == page, name
        if heading is not None:
            assert heading in [*right["headings"], right["title"]] or f"{heading}\n" in right["text"], (name, right)
        if name.endswith(".pdf"):
            assert right["url"] == f"https://shop.example/{name}#page=3"
        if name == "page.html":
            assert right["url"] == "https://shop.example/page.html#w"
        async with platform.services.database.tenant(platform.tenant_id) as session:
            await service.delete_document(session, system(platform.tenant_id), document_id=document.document_id)
        await run_jobs(platform.services.knowledge, platform.tenant_id)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            "> The warranty covers faults in material for 24 months. ",
            ["The warranty covers faults in material for 24 months."],
        ),
        ("It begins on the **day** of delivery.", ["It begins on the day of delivery."]),
        ("The warranty is long.", []),
        ("", []),
    ],
)
def test_what_an_answer_took_word_for_word_is_marked(said: str, expected: list[str]) -> None:
    assert [HANDBOOK[start:end] for start, end in taken_from(HANDBOOK, said)] == expected

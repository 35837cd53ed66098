"""Unanswered questions, their answers, and the editing of what was written by hand, in the console."""

from __future__ import annotations

import re

from chatkit.types import FileSource

from stonechat.accounts.actor import system
from stonechat.knowledge import sources
from stonechat.knowledge.schemas import FaqSourceIn, Pair, TextSourceIn
from stonechat.knowledge.unanswered import Asked, note_unanswered
from support.console import ConsoleWorld
from support.reading import Reader, answered, asked


def reader_of(world: ConsoleWorld) -> Reader:
    return Reader(world.services.database, world.services.knowledge, world.tenant_id)


async def noted(world: ConsoleWorld, agent_id: str, words: str) -> str:
    """A question of a visitor's in a conversation of its own; its group."""
    item = asked(words)
    thread_id = await reader_of(world).conversation(item, agent_id=agent_id)
    async with world.services.database.tenant(world.tenant_id) as session:
        group = await note_unanswered(
            session,
            world.tenant_id,
            asked=Asked(agent_id, "usr_gone", thread_id, item.id, words, "no_passages"),
        )
    return str(group)


async def test_a_question_is_answered_and_asked_again(world: ConsoleWorld) -> None:
    reader, browser = reader_of(world), await world.signed_in("editor")
    agent_id = await reader.agent()
    group = await noted(world, agent_id, "Do you repair zithers?")
    assert await noted(world, agent_id, "Can you repair a zither?") == group
    page = await browser.page(f"/console/knowledge/unanswered?agent={agent_id}&days=7")
    assert "Do you repair zithers?" in page.text
    assert "2×" in page.text
    page = await browser.page(f"/console/knowledge/unanswered/{group}")
    assert page.one("#answer-variants").text().strip() == "Can you repair a zither?"
    asked_now = await browser.htmx("POST", f"/console/knowledge/unanswered/{group}/ask")
    assert "Still unanswered" in asked_now.text
    refused = await browser.htmx(
        "POST", f"/console/knowledge/unanswered/{group}/answer", {"question": "Do you?", "answer": " "}, status=422
    )
    assert refused.one("#answer-text-error")
    typed = {"question": "Do you repair zithers?", "answer": "Yes, in our **workshop**.", "variants": "Mend a zither?"}
    await browser.htmx("POST", f"/console/knowledge/unanswered/{group}/answer", typed)
    assert "You answered this" in (await browser.page(f"/console/knowledge/unanswered/{group}")).text
    await reader.run_jobs()
    asked_now = await browser.htmx("POST", f"/console/knowledge/unanswered/{group}/ask")
    assert "Answered" in asked_now.text
    assert "workshop" in asked_now.text
    assert "Answers from the console" in asked_now.text
    assert "Do you repair zithers?" in (await browser.page("/console/knowledge/unanswered?state=answered")).text


async def test_dismissing_needs_an_editor(world: ConsoleWorld) -> None:
    group = await noted(world, await reader_of(world).agent(), "Who tunes a theremin?")
    viewer, editor = await world.signed_in("viewer"), await world.signed_in("editor")
    assert not (await viewer.page(f"/console/knowledge/unanswered/{group}")).all("#answer-form")
    await viewer.htmx("POST", f"/console/knowledge/unanswered/{group}/dismiss", status=403)
    await editor.htmx("POST", f"/console/knowledge/unanswered/{group}/dismiss")
    assert "theremin" in (await editor.page("/console/knowledge/unanswered?state=dismissed")).text
    await editor.htmx("POST", f"/console/knowledge/unanswered/{group}/reopen")
    assert "theremin" in (await editor.page("/console/knowledge/unanswered")).text


async def test_nothing_unanswered_teaches_what_will_be_listed(world: ConsoleWorld) -> None:
    tenant = await world.another_tenant()
    browser = await world.signed_in("editor", tenant_id=tenant)
    page = await browser.page("/console/knowledge/unanswered")
    assert "Every question was answered" in page.text
    assert "playground is not counted" in page.text
    assert "Unanswered" in (await browser.page("/console/knowledge")).text


async def test_another_tenants_group_is_not_found(world: ConsoleWorld) -> None:
    group = await noted(world, await reader_of(world).agent(), "Who tunes a celesta?")
    stranger = await world.signed_in("owner", tenant_id=await world.another_tenant())
    await stranger.page(f"/console/knowledge/unanswered/{group}", status=404)
    for verb in ("ask", "dismiss", "reopen"):
        await stranger.htmx("POST", f"/console/knowledge/unanswered/{group}/{verb}", status=404)


async def test_a_text_is_edited_and_a_second_editor_loses_nothing(world: ConsoleWorld) -> None:
    reader, browser = reader_of(world), await world.signed_in("editor")
    async with world.services.database.tenant(world.tenant_id) as session:
        source = TextSourceIn(type="text", name="Hours", text="We open at nine.")
        made = await sources.create_source(
            session, system(world.tenant_id), files=reader.knowledge.files, source=source
        )
        source_id = made.source_id
    await reader.run_jobs()
    listed = await browser.page("/console/knowledge")
    document = next(link for link in listed.all("a.row-link") if link.text() == "Hours").attributes["href"]
    assert f"{document}/edit" in (await browser.page(str(document))).response.text
    page = await browser.page(f"{document}/edit")
    typed = {
        "name": "Opening hours",
        "text": "We open at ten.",
        "url": "https://shop.example/hours",
        "seen": page.one("[name=seen]").attributes["value"],
    }
    await browser.submit(f"{document}/edit/text", typed)
    late = await browser.submit(f"{document}/edit/text", typed | {"text": "We open at noon."}, status=422)
    assert "Somebody else has changed this" in late.text
    assert "We open at noon." in late.text
    await reader.run_jobs()
    page = await browser.page(str(document))
    assert "We open at ten." in page.text
    assert "https://shop.example/hours" in page.text
    assert source_id.startswith("src")


async def test_pairs_are_edited_added_and_removed(world: ConsoleWorld) -> None:
    reader, browser = reader_of(world), await world.signed_in("editor")
    pairs = [Pair(question=f"Question {n}?", answer=f"Answer {n}.") for n in range(3)]
    async with world.services.database.tenant(world.tenant_id) as session:
        source = FaqSourceIn(type="faq", name="Pairs to edit", pairs=pairs)
        await sources.create_source(session, system(world.tenant_id), files=reader.knowledge.files, source=source)
    await reader.run_jobs()
    listed = await browser.page("/console/knowledge")
    document = next(link for link in listed.all("a.row-link") if link.text() == "Pairs to edit").attributes["href"]
    page = await browser.page(f"{document}/edit")
    assert len(page.all("fieldset.panel")) == 4
    typed = {
        "name": "Pairs to edit",
        "url": "",
        "start": "0",
        "seen": page.one("[name=seen]").attributes["value"],
        "question": ["Question 0?", "", "Question 2?", "Question 3?"],
        "answer": ["Answer 0.", "", "Another answer 2.", "Answer 3."],
        "variants": ["", "", "Two?", ""],
    }
    await browser.submit(f"{document}/edit/pairs", typed)
    await reader.run_jobs()
    text = (await browser.page(str(document))).text
    assert "Answer 1." not in text
    assert re.search(r"Question 2\?.*Two\?.*Another answer 2\.", text)
    assert "Answer 3." in text
    refused = await browser.submit(
        f"{document}/edit/pairs", typed | {"seen": "", "answer": ["", "", "", ""]}, status=422
    )
    assert "Fill in both" in refused.text


async def test_an_uploaded_file_is_not_edited(world: ConsoleWorld) -> None:
    browser = await world.signed_in("editor")
    document = await reader_of(world).upload("# Notes\n\nSomething.", filename="notes.md")
    await browser.page(f"/console/knowledge/documents/{document}/edit", status=404)


async def test_a_citation_opens_its_passage_in_the_conversation(world: ConsoleWorld) -> None:
    browser = await world.signed_in("viewer")
    source = FileSource(filename="Gone", title="Gone", description="A text that was deleted.", group="p. 3")
    answer = answered("It says so.", source)
    thread = await reader_of(world).conversation(asked("Says who?"), answer)
    page = await browser.page(f"/console/conversations/{thread}")
    link = page.one(f"[id='{answer.id}'] details [hx-get*=citations]").attributes["hx-get"]
    shown = await browser.htmx("GET", str(link))
    assert "A text that was deleted." in shown.text
    assert "changed or removed" in shown.text
    await browser.page(str(link))
    await browser.page(str(link).replace("index=0", "index=7"), status=404)

"""A conversation as a person reads it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chatkit.types import (
    Annotation,
    AssistantMessageContent,
    AssistantMessageItem,
    ClientToolCallItem,
    CustomTask,
    FileSource,
    HiddenContextItem,
    StructuredInputAnswer,
    StructuredInputFreeform,
    StructuredInputItem,
    TaskItem,
    ThoughtTask,
    ThreadItemDoneEvent,
    ThreadMetadata,
    ThreadStreamEvent,
    URLSource,
    UserMessageTagContent,
    WidgetItem,
    Workflow,
    WorkflowItem,
)
from chatkit.widgets import DynamicWidgetRoot

from stonechat import clock, ids
from stonechat.accounts.actor import Actor, system
from stonechat.assistant.turn import GenerateItemId
from stonechat.chat.conversations import list_feedback
from stonechat.chat.models import Feedback
from stonechat.chat.resume import tail
from stonechat.chat.transcripts import Transcript, list_judgements, read_transcript
from stonechat.db.session import Database
from stonechat.errors import NotFound, ScopeMissing, UpstreamFailed
from stonechat.identity.caller import Caller
from stonechat.knowledge.models import Document
from support.chat import Chat, add, create, decode, user_message
from support.responders import speak


async def say(chat: Chat, caller: Caller, text: str, thread_id: str | None = None) -> str:
    """Ask to the end; returns the conversation's id."""
    run = await chat.server.start(add(thread_id, text) if thread_id else create(text), caller)
    decode(b"".join([chunk async for chunk in tail(run)]))
    return run.thread.id


async def read(database: Database, caller: Caller, thread_id: str, **options: object) -> Transcript:
    async with database.tenant(caller.tenant_id) as session:
        return await read_transcript(session, system(caller.tenant_id), thread_id=thread_id, **options)  # type: ignore[arg-type]


async def add_document(database: Database, caller: Caller, *, title: str, url: str | None) -> str:
    document_id = ids.new_id("doc")
    async with database.tenant(caller.tenant_id) as session:
        session.add(
            Document(
                tenant_id=caller.tenant_id,
                document_id=document_id,
                title=title,
                url=url,
                media_type="text/plain",
                bytes=1,
                sha256=bytes(32),
                status="ready",
            )
        )
    return document_id


def citing(*notes: Annotation) -> object:
    async def script(thread: ThreadMetadata, new_id: GenerateItemId) -> AsyncIterator[ThreadStreamEvent]:
        memory = HiddenContextItem(
            id=new_id("hidden_context"), thread_id=thread.id, created_at=clock.now(), content="x"
        )
        yield ThreadItemDoneEvent(item=memory)
        content = AssistantMessageContent(text="Thirty days. Free.", annotations=list(notes))
        yield ThreadItemDoneEvent(
            item=AssistantMessageItem(
                id=new_id("message"), thread_id=thread.id, created_at=clock.now(), content=[content]
            )
        )

    return script


async def test_sources_lead_to_the_documents_that_still_exist(chat: Chat, anna: Caller, database: Database) -> None:
    by_url = await add_document(database, anna, title="Returns", url="https://shop.example/returns")
    by_title = await add_document(database, anna, title="Shipping", url=None)
    page = URLSource(title="Returns", url="https://shop.example/returns", group="Refunds", description="Thirty days.")
    chat.responder.script = citing(  # type: ignore[assignment]
        Annotation(source=page, index=12),
        Annotation(source=FileSource(title="Shipping", filename="Shipping"), index=18),
        Annotation(source=page, index=18),
        Annotation(source=FileSource(title="Deleted since", filename="Deleted since"), index=999),
    )
    thread_id = await say(chat, anna, "Returns?")
    question, answer = (await read(database, anna, thread_id)).messages
    assert (question.speaker, question.text) == ("visitor", "Returns?")
    assert (answer.speaker, answer.text, answer.outcome) == ("assistant", "Thirty days. Free.", "done")
    assert [(each.number, each.title, each.document_id) for each in answer.sources] == [
        (1, "Returns", by_url),
        (2, "Shipping", by_title),
        (3, "Deleted since", None),
    ]
    assert (answer.sources[0].section, answer.sources[0].snippet) == ("Refunds", "Thirty days.")
    assert answer.marks == ((12, 1), (18, 1), (18, 2), (18, 3))


async def test_what_was_answered_in_forms_and_shown_besides_words_is_read_too(
    chat: Chat, anna: Caller, database: Database
) -> None:
    thread_id = await say(chat, anna, "Hello")
    made: dict[str, Any] = {"thread_id": thread_id, "created_at": clock.now()}
    asked = StructuredInputFreeform(id="q", question="Which size?", answer=StructuredInputAnswer(values=["42", "43"]))
    left = StructuredInputFreeform(id="r", question="Why?", answer=StructuredInputAnswer(skipped=True))
    tag = UserMessageTagContent(id="o7", text="Order 7", data={"total": 9})
    message = user_message(thread_id, "About ")
    message.content.append(tag)
    steps = Workflow(type="custom", tasks=[CustomTask(title="Looked"), ThoughtTask(content="Hm")])
    card = DynamicWidgetRoot.model_validate({"type": "Card", "children": []})
    for item in (
        message,
        StructuredInputItem(id="sti_1", status="answered", inputs=[asked, left], **made),
        StructuredInputItem(id="sti_2", inputs=[StructuredInputFreeform(id="q", question="And?")], **made),
        WidgetItem(id="wdg_1", widget=card, copy_text="Order 7, sent", **made),
        WorkflowItem(id="wf_1", workflow=steps, **made),
        TaskItem(id="tsk_1", task=CustomTask(title="Handed over"), **made),
        ClientToolCallItem(id="ctc_1", call_id="c", name="cart", arguments={}, **made),
    ):
        await chat.server.store.add_thread_item(thread_id, item, anna)
    messages = (await read(database, anna, thread_id)).messages[2:]
    assert [(each.kind, each.text) for each in messages] == [
        ("user_message", "About @Order 7"),
        ("structured_input", "Which size?\n\n→ 42, 43\n\nWhy?\n\n→ (skipped)"),
        ("structured_input", "And?\n\n→ (not answered yet)"),
        ("widget", "Order 7, sent"),
        ("workflow", "Looked"),
        ("task", "Handed over"),
        ("client_tool_call", "cart"),
    ]


async def test_an_answer_that_failed_says_so(chat: Chat, anna: Caller, database: Database) -> None:
    async def fails(thread: ThreadMetadata, new_id: GenerateItemId) -> AsyncIterator[ThreadStreamEvent]:
        raise UpstreamFailed("No.")
        yield

    async def breaks_off(thread: ThreadMetadata, new_id: GenerateItemId) -> AsyncIterator[ThreadStreamEvent]:
        async for event in speak(thread, new_id("message"), ["Half an"]):
            if event.type == "thread.item.done":
                raise UpstreamFailed("No.")
            yield event

    chat.responder.script = fails
    thread_id = await say(chat, anna, "One?")
    chat.responder.script = breaks_off
    await say(chat, anna, "Two?", thread_id)
    messages = (await read(database, anna, thread_id)).messages
    assert [(each.speaker, each.text, each.outcome) for each in messages] == [
        ("visitor", "One?", "done"),
        ("assistant", "", "failed"),
        ("visitor", "Two?", "done"),
        ("assistant", "Half an", "failed"),
    ]


async def test_a_long_conversation_is_read_in_pages(chat: Chat, anna: Caller, database: Database) -> None:
    thread_id = await say(chat, anna, "First")
    for word in ("Second", "Third"):
        await say(chat, anna, word, thread_id)
    newest = await read(database, anna, thread_id, limit=4)
    assert [each.text for each in newest.messages if each.speaker == "visitor"] == ["Second", "Third"]
    assert newest.earlier is not None
    oldest = await read(database, anna, thread_id, limit=4, cursor=newest.earlier)
    assert [each.text for each in oldest.messages] == ["First", "Hello, world"]
    assert oldest.earlier is None


async def test_feedback_is_shown_and_counted(chat: Chat, anna: Caller, database: Database) -> None:
    thread_id = await say(chat, anna, "Good?")
    answer = (await read(database, anna, thread_id)).messages[1]
    async with database.tenant(anna.tenant_id, user_id=anna.user_id) as session:
        session.add(
            Feedback(
                tenant_id=anna.tenant_id, thread_id=thread_id, item_id=answer.id, user_id=anna.user_id, kind="negative"
            )
        )
    assert (await read(database, anna, thread_id)).messages[1].feedback == "negative"
    async with database.tenant(anna.tenant_id) as session:
        found = await list_judgements(session, system(anna.tenant_id), thread_ids=[thread_id, "thr_other"])
    assert found == {thread_id: (0, 1)}


async def test_the_reason_of_a_judgement_is_for_the_team_until_the_visitor_thinks_otherwise(
    chat: Chat, anna: Caller, database: Database
) -> None:
    thread_id = await say(chat, anna, "Good?")
    answer = (await read(database, anna, thread_id)).messages[1].id

    async def judge(kind: str, reason: object = None) -> None:
        params = {"thread_id": thread_id, "item_ids": [answer], "kind": kind}
        request = chat.server.parse(
            json.dumps({"type": "items.feedback", "params": params, "metadata": {"reason": reason}})
        )
        assert await chat.server.answer(request, anna) == b"{}"  # type: ignore[arg-type]

    for given, kept in (
        (" It is\x00 about\npears. ", "It is about pears."),
        ("x" * 501, "x" * 500),
        (7, "x" * 500),
        ("", "x" * 500),
    ):
        await judge("negative", given)
        assert (await read(database, anna, thread_id)).messages[1].reason == kept
    async with database.tenant(anna.tenant_id) as session:
        [judged] = await list_feedback(session, system(anna.tenant_id), thread_id=thread_id)
    assert (judged.kind, judged.reason) == ("negative", "x" * 500)
    await judge("positive")
    messages = (await read(database, anna, thread_id)).messages
    assert [message.reason for message in messages] == ["", ""]
    assert (await chat.server.store.load_visible_items(thread_id, None, 20, "desc", anna)).data[0].id == answer


async def test_others_find_nothing(chat: Chat, anna: Caller, database: Database, make_tenant: object) -> None:
    thread_id = await say(chat, anna, "Mine")
    stranger = system(await make_tenant())  # type: ignore[operator]
    async with database.tenant(stranger.tenant_id) as session:
        with pytest.raises(NotFound):
            await read_transcript(session, stranger, thread_id=thread_id)
        assert await list_judgements(session, stranger, thread_ids=[thread_id]) == {}
        nobody = Actor(stranger.tenant_id, "person", "per_x")
        with pytest.raises(ScopeMissing):
            await read_transcript(session, nobody, thread_id=thread_id)

"""What was searched for an answer, told to those who shape the agent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from chatkit.types import HiddenContextItem, ThreadItemDoneEvent, ThreadMetadata, ThreadStreamEvent

from stonechat import clock
from stonechat.accounts.actor import Actor, system
from stonechat.assistant.turn import GenerateItemId
from stonechat.chat.resume import tail
from stonechat.chat.searches import AnswerSearch, searches_of_answer
from stonechat.db.session import Database
from stonechat.errors import NotFound, ScopeMissing
from stonechat.identity.caller import Caller
from support.chat import Chat, add, create, decode
from support.responders import speak

SCORED = {"kind": "stonechat.passages", "query": "parcel", "chunk_ids": ["chk_1", "chk_2"], "scores": [2.5, 1.25]}
OLD = {"kind": "stonechat.passages", "query": "delivery", "chunk_ids": ["chk_3"]}


def searching(*contents: dict[str, Any]) -> Any:
    async def script(thread: ThreadMetadata, new_id: GenerateItemId) -> AsyncIterator[ThreadStreamEvent]:
        for content in contents:
            yield ThreadItemDoneEvent(
                item=HiddenContextItem(
                    id=new_id("hidden_context"), thread_id=thread.id, created_at=clock.now(), content=content
                )
            )
        async for event in speak(thread, new_id("message"), ["Tomorrow."]):
            yield event

    return script


async def answer(chat: Chat, request: Any, caller: Caller) -> tuple[str, str]:
    """The conversation and the answer's item."""
    run = await chat.server.start(request, caller)
    events = decode(b"".join([chunk async for chunk in tail(run)]))
    done = [event["item"] for event in events if event["type"] == "thread.item.done"]
    return run.thread.id, done[-1]["id"]


async def searched(database: Database, actor: Actor, thread_id: str, item_id: str) -> list[AnswerSearch]:
    async with database.tenant(actor.tenant_id) as session:
        return await searches_of_answer(session, actor, thread_id=thread_id, item_id=item_id)


async def test_each_answer_has_its_own_searches(chat: Chat, anna: Caller, database: Database) -> None:
    chat.responder.script = searching(SCORED)
    thread_id, first = await answer(chat, create("Where is my parcel?"), anna)
    chat.responder.script = searching(OLD, {"kind": "something else"})
    _, second = await answer(chat, add(thread_id, "And when?"), anna)
    actor = system(anna.tenant_id)
    assert await searched(database, actor, thread_id, first) == [
        AnswerSearch("parcel", (("chk_1", 2.5), ("chk_2", 1.25)))
    ]
    assert await searched(database, actor, thread_id, second) == [AnswerSearch("delivery", (("chk_3", None),))]


async def test_answers_of_others_are_not_found(chat: Chat, anna: Caller, database: Database, make_tenant: Any) -> None:
    chat.responder.script = searching(SCORED)
    thread_id, item_id = await answer(chat, create("Where is my parcel?"), anna)
    other: UUID = await make_tenant()
    for actor, thread, item in (
        (system(other), thread_id, item_id),
        (system(anna.tenant_id), "thr_none", item_id),
        (system(anna.tenant_id), thread_id, "msg_\x00"),
    ):
        with pytest.raises(NotFound):
            await searched(database, actor, thread, item)
    with pytest.raises(ScopeMissing):
        await searched(database, Actor(anna.tenant_id, "person", "per_1"), thread_id, item_id)

"""A person takes over: asked for by the assistant, answering as a person, silent assistant, locked and closed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from stonechat.accounts.actor import Actor, system
from stonechat.accounts.api_keys import create_api_key
from stonechat.chat import conversations, hand_over
from stonechat.errors import InvalidInput, NotFound, ScopeMissing, ThreadLocked
from support import fake_openai as host
from support.platform import Platform, Visitor, of_type, open_platform
from support.postgres import TestDatabase
from support.responders import Gate, speak

HAND_OVER = {"enabled": True, "message": "Somebody will come.", "waiting": "Passed on."}
Api = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module")
async def platform(test_database: TestDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    async with open_platform(test_database, folder, outbound_allowed=("127.0.0.0/8",)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def agent(platform: Platform) -> str:
    return await platform.agent(hand_over=HAND_OVER)


@pytest.fixture
def visitor(platform: Platform, agent: str) -> Visitor:
    platform.script()
    return platform.visitor(agent)


@pytest.fixture(scope="module")
async def api(platform: Platform) -> Api:
    """The management API with a key that may write."""
    async with platform.services.database.tenant(platform.tenant_id) as session:
        _, secret = await create_api_key(session, system(platform.tenant_id), name="Desk", scopes=["write"])
    headers = {"Authorization": f"Bearer {secret}"}

    async def call(method: str, path: str, expect: int = 200, **options: Any) -> Any:
        answer: httpx.Response = await platform.http.request(method, f"/api/v1{path}", headers=headers, **options)
        assert answer.status_code == expect, answer.text
        return answer.json()

    return call


async def conversation(visitor: Visitor) -> str:
    return str((await visitor.say("Hello"))[0]["thread"]["id"])


async def events_of(platform: Platform, thread: str) -> list[tuple[str, dict[str, Any]]]:
    async with platform.services.database.tenant(platform.tenant_id) as session:
        rows = await session.execute(
            text("select kind, payload from events where payload ->> 'conversation_id' = :t order by event_id"),
            {"t": thread},
        )
        return [(kind, payload) for kind, payload in rows]


def told(events: list[dict[str, Any]]) -> list[str]:
    return [event["message"] for event in of_type(events, "notice")]


async def test_the_assistant_asks_for_a_person_and_is_silent_until_it_may_speak_again(
    platform: Platform, api: Api
) -> None:
    asking = host.chat_call("hand_over", json.dumps({"reason": "Wants\n a refund"}))
    async with host.fake_openai(asking, host.chat_text("Back again.")) as fake:
        await platform.provider(fake.url, name="desk")
        responder = platform.services.chat.responder
        agent = await platform.agent(model="desk/small", hand_over=HAND_OVER)
        visitor = platform.visitor(agent)
        platform.services.chat.responder = platform.assistant
        events = await visitor.say("A person, please")
        thread = events[0]["thread"]["id"]
        kinds = [item["type"] for item in await visitor.items(thread)]
        assert kinds == ["user_message", "task", "assistant_message"]
        assert (await visitor.items(thread))[-1]["content"][0]["text"] == "Somebody will come."
        [(kind, payload)] = await events_of(platform, thread)
        assert kind == "conversation.handed_over"
        assert (payload["reason"], payload["agent_id"], payload["user_id"]) == ("Wants a refund", agent, visitor.caller.user_id)  # fmt: skip
        waiting = (await api("GET", "/conversations?handling=waiting_for_person"))["data"]
        assert [each["id"] for each in waiting] == [thread]

        assert told(await visitor.say("anna@example.com", thread)) == ["Passed on."]
        await api("POST", f"/conversations/{thread}/take-over")
        item = (await api("POST", f"/conversations/{thread}/reply", json={"text": " I can refund it. "}))["item_id"]
        assert told(await visitor.say("Great", thread)) == ["Passed on."]
        last = (await visitor.items(thread))[-2]
        assert (last["id"], last["type"], last["content"][0]["text"]) == (item, "assistant_message", "I can refund it.")
        assert "written_by" not in json.dumps(await visitor.items(thread)), "who it was is the team's business"
        assert len(fake.requests) == 1

        given = await api("POST", f"/conversations/{thread}/give-back")
        assert given["handling"] == "open"
        events = await visitor.say("And now?", thread)
        assert of_type(events, "thread.item.done")[-1]["item"]["content"][0]["text"] == "Back again."
        heard = json.dumps(fake.body(1)["messages"])
        assert all(words in heard for words in ("anna@example.com", "I can refund it.", "given it back"))
        platform.services.chat.responder = responder
    found = await api("GET", f"/conversations/{thread}")
    [written] = [each for each in found["items"] if "written_by" in each]
    assert (written["id"], written["written_by"]) == (item, found["handled_by"])
    kinds = [kind for kind, _ in await events_of(platform, thread)]
    assert kinds == ["conversation.handed_over", "conversation.taken_over", "conversation.given_back"]


async def test_answering_takes_over_and_stops_the_answer_that_is_written(
    platform: Platform, visitor: Visitor, api: Api
) -> None:
    gate = Gate(free=1)
    responder = platform.script(lambda made, new_id: speak(made, new_id("message"), ["one ", "two"], pause=gate))
    asking = asyncio.create_task(visitor.say("Hello"))
    while not (threads := (await visitor.json("threads.list"))["data"]):
        await asyncio.sleep(0.01)
    thread = threads[0]["id"]
    await api("POST", f"/conversations/{thread}/reply", json={"text": "Let me."})
    await asyncio.wait_for(asking, timeout=20)
    assert responder.stopped.is_set()
    found = await api("GET", f"/conversations/{thread}")
    assert found["handling"] == "with_person"
    words = [item["content"][0]["text"] for item in found["items"] if item["type"] == "assistant_message"]
    assert sorted(words) == ["Let me.", "one "]
    assert await visitor.refused("threads.retry_after_item", thread_id=thread, item_id=found["items"][0]["id"]) == (409, "not_offered")  # fmt: skip


async def test_verbs_that_already_happened_change_nothing(platform: Platform, visitor: Visitor, api: Api) -> None:
    thread = await conversation(visitor)
    for verb in ("give-back", "take-over", "take-over", "resolve", "resolve", "give-back", "give-back"):
        await api("POST", f"/conversations/{thread}/{verb}")
    assert [kind.partition(".")[2] for kind, _ in await events_of(platform, thread)] == ["taken_over", "resolved", "given_back"]  # fmt: skip
    async with platform.services.database.tenant(platform.tenant_id) as session:
        audited = await session.scalars(
            text("select action from audit_log where subject_id = :t order by occurred_at"), {"t": thread}
        )
        assert list(audited) == ["conversation.take_over", "conversation.resolve", "conversation.give_back"]


@pytest.mark.parametrize("verb", ["lock", "close"])
async def test_locked_and_closed_conversations_say_why_everywhere(visitor: Visitor, api: Api, verb: str) -> None:
    thread = await conversation(visitor)
    question = (await visitor.items(thread))[0]["id"]
    await api("POST", f"/conversations/{thread}/take-over")
    changed = await api("POST", f"/conversations/{thread}/{verb}", json={"reason": "We moved to e-mail."})
    assert changed["status"] == {"type": "locked" if verb == "lock" else "closed", "reason": "We moved to e-mail."}
    assert changed["handling"] == ("with_person" if verb == "lock" else "resolved")
    for type_, params in {
        "threads.add_user_message": {"input": visitor.message("x")["input"]},
        "threads.retry_after_item": {"item_id": question},
        "threads.add_client_tool_output": {"result": 1},
        "threads.add_structured_input": {"item_id": question, "input": {}},
        "threads.custom_action": {"item_id": question, "action": {"type": "x"}},
        "threads.sync_custom_action": {"item_id": question, "action": {"type": "x"}},
    }.items():
        answer = await visitor.send(type_, thread_id=thread, **params)
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (409, "thread_locked", "We moved to e-mail."), type_  # fmt: skip
    status = 200 if verb == "lock" else 409
    await api("POST", f"/conversations/{thread}/reply", status, json={"text": "One more thing"})
    await api("POST", f"/conversations/{thread}/reopen")
    await api("POST", f"/conversations/{thread}/give-back")
    assert of_type(await visitor.say("Again", thread), "thread.item.done")[-1]["item"]["type"] == "assistant_message"


@pytest.mark.parametrize("words", ["", "   ", "\x00", "x" * 8001])
async def test_a_reply_says_something(platform: Platform, visitor: Visitor, words: str) -> None:
    thread = await conversation(visitor)
    async with platform.services.database.tenant(platform.tenant_id) as session:
        with pytest.raises(InvalidInput):
            await hand_over.reply(session, system(platform.tenant_id), thread_id=thread, text=words)


async def test_only_who_may_write_takes_over_and_only_in_the_own_tenant(platform: Platform, visitor: Visitor) -> None:
    thread = await conversation(visitor)
    reader = Actor(platform.tenant_id, "api_key", "key_1", frozenset({"read"}))
    async with platform.services.database.tenant(platform.tenant_id) as session:
        for verb in (hand_over.take_over, hand_over.give_back, hand_over.resolve):
            with pytest.raises(ScopeMissing):
                await verb(session, reader, thread_id=thread)
            for unknown in ("thr_no", "\x00", "x" * 200):
                with pytest.raises(NotFound):
                    await verb(session, system(platform.tenant_id), thread_id=unknown)
        with pytest.raises(ScopeMissing):
            await hand_over.set_status(session, reader, thread_id=thread, status="closed")
        await hand_over.set_status(session, system(platform.tenant_id), thread_id=thread, status="closed")
        with pytest.raises(ThreadLocked):
            await hand_over.reply(session, system(platform.tenant_id), thread_id=thread, text="x")
        assert (await conversations.get_summary(session, reader, thread_id=thread)).handling == "open"


async def test_an_agent_without_hand_over_hands_nothing_over(platform: Platform) -> None:
    async with host.fake_openai(host.chat_call("hand_over", "{}"), host.chat_text("I am here.")) as fake:
        await platform.provider(fake.url, name="alone")
        visitor = platform.visitor(await platform.agent(model="alone/small"))
        responder, platform.services.chat.responder = platform.services.chat.responder, platform.assistant
        events = await visitor.say("A person!")
        platform.services.chat.responder = responder
    thread = events[0]["thread"]["id"]
    assert [item["type"] for item in await visitor.items(thread)] == ["user_message", "assistant_message"]
    assert await events_of(platform, thread) == []
